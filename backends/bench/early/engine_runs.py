"""Runs on the engine itself, by the clock of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from treeagent import Agent
from treeagent.errors import TreeagentError
from treeagent.evaluation.statistics import percentile
from treeagent.runtime.result import Result

from ...seed.backend import SeedBackend
from .cases import Workload, search
from .simulated_runs import EarlyTotals


class EngineRuns:
    """Solves inputs with one engine, which has forgotten at the start of each row what it has learnt."""

    def __init__(
        self, workload: Workload, trees: dict[str, str], drafter: str | None = None, threads: int | None = None
    ) -> None:
        """``trees`` are those of all runs so far, by search and input: none may be another one.

        ``drafter`` and ``threads`` as of ``seed``; None: its own choice.
        """
        options: dict[str, Any] = {} if drafter is None else {"drafter": drafter}
        self.model = SeedBackend(workload.model, threads=threads, **workload.options, **options)
        self._workload, self._trees = workload, trees
        self._agents: dict[tuple[str, int | str], Agent] = {}

    def row(self, name: str, inputs: Sequence[str], speculate: int | str) -> dict[str, Any]:
        """A search, one input at a time. Raises TreeagentError where its trees are not those of the runs before."""
        return self._measured(name, inputs, speculate, at_once=False)

    def many(self, name: str, inputs: Sequence[str], speculate: int | str) -> dict[str, Any]:
        """A search on all inputs at once; seconds of a problem count from the common start. Raises as :meth:`row`."""
        return self._measured(name, inputs, speculate, at_once=True)

    def _measured(self, name: str, inputs: Sequence[str], speculate: int | str, *, at_once: bool) -> dict[str, Any]:
        agent = self._agent(name, inputs[0], speculate)
        self.model.reset()
        read, began, cpu = self.model.meter(), time.perf_counter(), time.process_time()
        problems: list[float] = []
        if at_once:
            results = asyncio.run(_all_at_once(agent, inputs, problems))
        else:
            results = [agent.solve(input) for input in inputs]
        seconds, cpu_seconds, figures = time.perf_counter() - began, time.process_time() - cpu, read()
        totals = EarlyTotals()
        for input, result in zip(inputs, results, strict=True):
            totals.add(result)
            self._check(name, input, result)
        row = {
            "search": name, "speculate": speculate, "inputs": len(inputs), "seconds": round(seconds, 4),
            "cpu_seconds": round(cpu_seconds, 4), "passes": figures.get("rounds", 0),
            "rows_per_pass": figures.get("rows_per_round"), "pass_seconds": figures.get("target_seconds"),
            "round_seconds": figures.get("seconds"), "hit_rate": totals.hit_rate, "hits": totals.hits,
            "misses": totals.misses, "tokens": totals.tokens, "tokens_wasted": totals.tokens_wasted,
        }  # fmt: skip
        if at_once:
            row |= {f"p{part}": round(percentile(problems, part / 100) or 0.0, 4) for part in (50, 99)}
        return row

    def _agent(self, name: str, input: str, speculate: int | str) -> Agent:
        """One that has solved an input, so that its chances are warm and the model is loaded."""
        if (name, speculate) not in self._agents:
            agent = Agent(self._workload.task, search(name), backend=self.model, speculate=speculate)
            agent.solve(input)
            self._agents[name, speculate] = agent
        return self._agents[name, speculate]

    def _check(self, name: str, input: str, result: Result) -> None:
        tree = repr(result.tree.to_json())
        if self._trees.setdefault(f"{name} {input}", tree) != tree:
            raise TreeagentError(f"{name} on {input}: the tree is another one")


async def _all_at_once(agent: Agent, inputs: Sequence[str], problems: list[float]) -> list[Result]:
    began = time.perf_counter()

    async def solve(input: str) -> Result:
        result = await agent.asolve(input)
        problems.append(time.perf_counter() - began)
        return result

    return await asyncio.gather(*map(solve, inputs))
