"""Runs on the engine itself, by the clock of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from treeagent import Agent
from treeagent.errors import TreeagentError

from ...seed.backend import SeedBackend
from .cases import search
from .simulated_runs import EarlyTotals


class EngineRuns:
    """Solves hands with one engine; settings are run in turn, so that a slow minute slows down all of them."""

    def __init__(self, model: SeedBackend) -> None:
        self._model = model
        self._trees: dict[tuple[str, str], str] = {}
        self._agents: dict[tuple[str, int | str], Agent] = {}

    def row(self, name: str, hands: Sequence[str], speculate: int | str) -> dict[str, Any]:
        """One run of a search. Raises TreeagentError where its trees are not those of the runs before."""
        if (name, speculate) not in self._agents:
            agent = Agent("game24", search(name), backend=self._model, speculate=speculate)
            agent.solve(hands[0])  # so that its chances and the drafters' tables are warm
            self._agents[name, speculate] = agent
        agent, totals = self._agents[name, speculate], EarlyTotals()
        read, began, cpu = self._model.meter(), time.perf_counter(), time.process_time()
        for hand in hands:
            result = agent.solve(hand)
            totals.add(result)
            tree = result.tree.to_json()
            if self._trees.setdefault((name, hand), repr(tree)) != repr(tree):
                raise TreeagentError(f"{name} on {hand}: the tree with speculate={speculate} is another one")
        seconds, cpu_seconds, figures = time.perf_counter() - began, time.process_time() - cpu, read()
        rounds = figures.get("rounds", 0)
        return {
            "search": name, "speculate": speculate, "seconds": round(seconds, 4), "cpu_seconds": round(cpu_seconds, 4),
            "passes": rounds, "rows_per_pass": figures.get("rows_per_round"),
            "pass_seconds": figures.get("target_seconds"), "round_seconds": figures.get("seconds"),
            "hit_rate": totals.hit_rate, "hits": totals.hits, "misses": totals.misses,
            "tokens": totals.tokens, "tokens_wasted": totals.tokens_wasted,
        }  # fmt: skip
