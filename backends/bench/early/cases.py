"""What is measured: the searches, and the hands of Game of 24."""

from __future__ import annotations

from typing import Any

from treeagent.registry import load
from treeagent.search import Search

HANDS = ("4 9 10 13", "1 5 8 9", "2 3 7 12", "1 4 8 8")
OPTIONS: dict[str, dict[str, Any]] = {
    "dfs": {},
    "best-first": {},
    "mcts": {"parallel": 1, "simulations": 12},
    "bfs": {},
    "beam": {},
    "rebase": {},
    "dvts": {},
    "greedy": {},
}
"""Searches, and their options."""


def search(name: str) -> Search:
    """One of them. Raises UnknownNameError."""
    found: Search = load("search", name)(**OPTIONS.get(name, {}))
    return found
