"""Whether a search gives the same tree on a device as on the CPU, and how long it takes there."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from treeagent import Agent, Result

from ...seed.backend import SeedBackend

PUZZLES = ("4 9 10 13", "1 2 4 6")


def compare_trees(device: str) -> dict[str, Any]:
    """Trees of Game of 24 with ``mini`` in float32, for the file of results. Raises TreeagentError."""
    trees: dict[str, list[Any]] = {}
    seconds: dict[str, list[float]] = {}
    for place in ("cpu", device):
        backend = SeedBackend("mini", device=place)
        backend.load()
        trees[place], seconds[place] = asyncio.run(_solve(backend))
    same = [one == other for one, other in zip(trees["cpu"], trees[device], strict=True)]
    return {
        "kind": "trees", "device": device, "puzzles": PUZZLES, "same": same, "thoughts": list(map(len, trees[device])),
        "seconds": seconds,
    }  # fmt: skip


async def _solve(backend: SeedBackend) -> tuple[list[Any], list[float]]:
    trees, seconds = [], []
    for puzzle in PUZZLES:
        agent = Agent("game24", backend=backend)
        began = time.perf_counter()
        result: Result = await agent.asolve(puzzle)
        seconds.append(round(time.perf_counter() - began, 3))
        trees.append([(thought.id, thought.parent, thought.text) for thought in result.tree])
    return trees, seconds
