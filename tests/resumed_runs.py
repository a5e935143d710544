"""A run with a journal, and the run that goes on from it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from synthetic import TreeBackend, task

from treeagent import (
    Agent,
    Result,
    Search,
)
from treeagent.runtime.journal import read
from treeagent.strategies.bfs import BFS

TREE = [[1, [9]], 3]


def journalled(path: Path) -> set[str]:
    return {event.data["id"] for event in read(path) if event.type in ("completion", "scores")}


def resumed(path: Path, search: Search, evaluator: Any, **more: Any) -> tuple[Result, TreeBackend]:
    backend = TreeBackend(TREE, order=more.pop("order", None))
    agent = Agent(task(), search, backend=backend, evaluator=evaluator, **more)
    return asyncio.run(agent.run("r", journal=path, resume=True).result()), backend


def _parts() -> tuple[Any, Any]:
    return task(), BFS()
