"""What is measured: the searches, and the models with a task that each can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treeagent.errors import ConfigError
from treeagent.registry import load
from treeagent.search import Search
from treeagent.task import Task

HANDS = ("4 9 10 13", "1 5 8 9", "2 3 7 12", "1 4 8 8")
MORE_HANDS = (
    "3 5 6 13", "2 4 7 11", "1 6 11 13", "4 5 6 10", "2 6 9 11", "3 4 5 8", "1 2 7 7", "5 6 6 9", "2 2 3 10",
    "1 3 9 12", "4 7 8 10", "3 6 7 9", "2 5 5 11", "1 7 8 12", "6 8 9 10", "2 3 4 13", "3 8 10 11", "1 4 6 9",
    "2 7 9 12", "5 5 7 8",
)  # fmt: skip
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


@dataclass(frozen=True)
class Workload:
    """A model, and a task whose prompts it follows."""

    model: str
    task: str | Path
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the backend."""
    hands: Sequence[str] = ()
    """Inputs; those of the task file where there are none."""

    def inputs(self, number: int) -> Sequence[str]:
        """The first inputs. Raises ConfigError where there are fewer."""
        inputs = self.hands or Task.load(self.task).examples
        if not 0 < number <= len(inputs):
            raise ConfigError(f"{number} inputs of {self.model}: expected a number from 1 to {len(inputs)}")
        return inputs[:number]


WORKLOADS = {
    "mini": Workload("mini", "game24", hands=(*HANDS, *MORE_HANDS)),
    "smollm2": Workload("smollm2", Path(__file__).with_name("word_problems.yaml"), {"chat": False}),
}
"""By the model: passes of ``mini`` take a fraction of a millisecond, those of ``smollm2`` a hundred times that."""


def workload(model: str) -> Workload:
    """One of them. Raises ConfigError."""
    if model not in WORKLOADS:
        raise ConfigError(f"--model {model}: expected one of {', '.join(WORKLOADS)}")
    return WORKLOADS[model]


def search(name: str) -> Search:
    """One of them. Raises UnknownNameError."""
    found: Search = load("search", name)(**OPTIONS.get(name, {}))
    return found
