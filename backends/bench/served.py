"""``serve`` over the engine ``seed`` under load: ``python -m treeagent.backends.bench.served --clients 200``.

As ``python -m treeagent.server.load_test``, which has a backend that answers at once; here a model runs, and what is
counted afterwards is the engine's memory: keys and values that a search still refers to, or that nobody knows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from treeagent.runtime.agent import Agent
from treeagent.runtime.budget import Budget
from treeagent.server.load_test import Question, under_load

from ..seed.backend import SeedBackend


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """Keys and values in the prefix cache of an engine, in tokens."""

    cached: int
    """Of finished texts, for prompts that begin like them."""
    lost: int
    """In use, and not of any text that the cache knows."""
    references: int
    """How often sequences refer to texts; none where no request is running."""

    @property
    def leaks(self) -> bool:
        """Whether finished or cancelled requests have left something."""
        return bool(self.lost or self.references)


def held_memory(backend: SeedBackend) -> HeldMemory:
    """What a loaded engine holds while no request is running. Raises AssertionError for a damaged cache."""
    backend.check()
    if backend.core.parts is None:
        return HeldMemory(0, 0, 0)
    forest = backend.core.parts.scheduler.runner.forest
    nodes = list(forest.nodes())
    cached = sum(len(node.tokens) for node in nodes)
    return HeldMemory(cached, forest.pool.used - cached, sum(node.ref_count for node in nodes))


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where an answer is wrong or something is left."""
    parser = argparse.ArgumentParser(prog="python -m treeagent.backends.bench.served", description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="clients at the same time (200)")
    parser.add_argument("--leaving", type=float, default=0.4, help="share of them that leaves (0.4)")
    parser.add_argument("--model", default="mini", help="model of the engine (mini)")
    parser.add_argument("--calls", type=int, default=60, help="budget of a search, in requests (60)")
    parser.add_argument("--seeds", type=int, default=8, help="different seeds (8)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds in which all have their answers (900)")
    wanted = parser.parse_args(words)
    backend = SeedBackend(wanted.model)
    agent = Agent("game24", "bfs", backend=backend, budget=Budget(calls=wanted.calls))
    question = Question(agent, "game24/bfs", "4 9 10 13", wanted.seeds)
    try:
        load = under_load(wanted.clients, wanted.leaving, question=question, limit=wanted.limit)
    except asyncio.TimeoutError:
        sys.stdout.write(f"not all of {wanted.clients} clients had their answers within {wanted.limit:g} s\n")
        return 1
    memory = held_memory(backend)
    milliseconds = [load.percentile(share) * 1000 for share in (0.5, 0.95, 0.99)]
    sys.stdout.write(
        f"{wanted.clients} clients at once: {load.answered} answered, {load.left} left, {len(load.wrong)} wrong\n"
        + "until the answer: P50 {:.0f} ms, P95 {:.0f} ms, P99 {:.0f} ms\n".format(*milliseconds)
        + f"before: {load.before}\nafter:  {load.after}\n{memory}\n"
    )
    return int(bool(load.wrong) or load.leaks or memory.leaks)


if __name__ == "__main__":
    sys.exit(main())
