"""Runs on the simulated engine: passes and time without and with early requests, and the longest chain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from treeagent import Agent, aio
from treeagent.backend import Backend
from treeagent.errors import TreeagentError
from treeagent.reply import Partial, Reply
from treeagent.request import Request
from treeagent.runtime.events import CompletionEvent, Event
from treeagent.runtime.result import Result

from .bound import longest_chain
from .cases import search
from .simulated_engine import SimulatedEngine
from .virtual_time import VirtualLoop

PATIENCE = 60.0
"""Seconds that the loop waits for a thread that reads a reply: its own time must not pass meanwhile."""


@dataclass
class EarlyTotals:
    """Sums over the hands."""

    time: float = 0.0
    passes: int = 0
    row_passes: int = 0
    tokens: int = 0
    hits: dict[str, int] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    tokens_wasted: int = 0

    def add(self, result: Result) -> None:
        """Count the tokens and guesses of a run."""
        self.tokens += result.usage.tokens or 0
        if result.speculated is not None:
            self.tokens_wasted += result.speculated.tokens_at_least
            for sums, counts in ((self.hits, result.speculated.hits), (self.misses, result.speculated.misses)):
                for kind, number in counts.items():
                    sums[kind] = sums.get(kind, 0) + number

    @property
    def hit_rate(self) -> float | None:
        """Hits per early request; None without any."""
        hits, misses = sum(self.hits.values()), sum(self.misses.values())
        return hits / (hits + misses) if hits + misses else None


class SimulatedRuns:
    """Solves hands with one model; each of its answers is written once."""

    def __init__(self, model: Backend) -> None:
        """``model`` streams texts token by token: an engine without a drafter."""
        self._model, self._texts = model, dict[str, Reply]()

    def _generate(self, request: Request) -> Reply:
        """The model's reply, with what it had handed out after each token."""
        written: dict[tuple[int, int], int] = {}

        def keep(part: Partial) -> None:
            written[part.sample, part.tokens or 0] = len(part.text)

        reply = asyncio.run(self._model.stream(request, keep))
        completions = []
        for sample, completion in enumerate(reply.completions):
            ends = [0]
            for token in range(1, len(completion.tokens or ()) + 1):
                ends.append(min(written.get((sample, token), ends[-1]), len(completion.text)))
            completions.append(replace(completion, ends=tuple(ends[1:])))
        return replace(reply, completions=tuple(completions))

    def row(self, name: str, hands: Sequence[str], speculate: int | str, each: float) -> dict[str, Any]:
        """A search at one price of a further row: without early requests, with them, and the bound.

        Raises TreeagentError where a tree with early requests is another one.
        """
        plain, early, chain = EarlyTotals(), EarlyTotals(), 0
        solvers = [Solver(name, n, SimulatedEngine(self._generate, self._texts, each)) for n in (0, speculate)]
        with aio.patience(PATIENCE):
            for hand in hands:
                before, completions = solvers[0].solve(hand, plain)
                after, _ = solvers[1].solve(hand, early)
                if before.tree.to_json() != after.tree.to_json() or before.usage != after.usage:
                    raise TreeagentError(f"{name} on {hand}: the tree with early requests is another one")
                chain += longest_chain(before.tree, completions)
        bound = (1 - each) * chain + each * plain.row_passes
        return {
            "search": name, "speculate": speculate, "each": each,
            "passes": plain.passes, "passes_early": early.passes, "passes_bound": chain,
            "row_passes": plain.row_passes, "row_passes_early": early.row_passes,
            "time": round(plain.time, 2), "time_early": round(early.time, 2), "time_bound": round(bound, 2),
            "gain": round(plain.time / early.time, 3), "gain_bound": round(plain.time / bound, 3),
            "hit_rate": early.hit_rate, "hits": early.hits, "misses": early.misses,
            "tokens": plain.tokens, "tokens_wasted": early.tokens_wasted,
        }  # fmt: skip


class Solver:
    """One search on a simulated engine of its own; what it learns of chances stays from hand to hand."""

    def __init__(self, name: str, speculate: int | str, engine: SimulatedEngine) -> None:
        self._agent = Agent("game24", search(name), backend=engine, speculate=speculate)
        self._engine = engine

    def solve(self, hand: str, totals: EarlyTotals) -> tuple[Result, list[CompletionEvent]]:
        """The result and its requests; ``totals`` get what they took."""
        engine, loop, completions = self._engine, VirtualLoop(), list[CompletionEvent]()

        def keep(event: Event) -> None:
            if isinstance(event, CompletionEvent):
                completions.append(event)

        passes, row_passes = engine.passes, engine.row_passes
        try:
            result = loop.run_until_complete(self._agent.asolve(hand, on_event=keep))
            totals.time += loop.time()
            loop.run_until_complete(engine.rest())
        finally:
            loop.close()
        totals.add(result)
        totals.passes += engine.passes - passes
        totals.row_passes += engine.row_passes - row_passes
        return result, completions
