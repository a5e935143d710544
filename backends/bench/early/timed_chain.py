"""The longest chain of requests that depend on each other, in seconds of the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from treeagent import Agent
from treeagent.reply import Partial, Reply
from treeagent.request import Request
from treeagent.runtime.events import CompletionEvent, Event
from treeagent.thought import Thought

from ...seed.backend import SeedBackend
from .bound import chain_end, line_feed
from .cases import Workload, search


@dataclass
class TimedRequest:
    """When the text of a request that ran alone had come to which length."""

    seconds: float = 0.0
    written: list[tuple[int, int, float]] = field(default_factory=list)
    """Sample, characters and seconds."""

    def until(self, sample: int, feed: int | None) -> float:
        """Seconds until a line stands that ends with the character ``feed``; None: until the end."""
        if feed is None:
            return self.seconds
        ends = (at for which, characters, at in self.written if which == sample and characters > feed)
        return next(ends, self.seconds)


class TimedChains:
    """Solves inputs without early requests, and then asks for each of their requests alone."""

    def __init__(self, model: SeedBackend, workload: Workload) -> None:
        self._model, self._workload = model, workload

    def row(self, name: str, inputs: Sequence[str]) -> dict[str, Any]:
        """Two bounds of a search in seconds: its longest chains, and the work of all its requests.

        Of a chain each request was timed alone, in the order of the search, by an engine that had forgotten all as at
        the start of a run: the least that a request can take, and nothing stands between two of them. For the work all
        requests of an input are sent at once, as if none needed another: so many rows share a pass as can.
        """
        agent = Agent(self._workload.task, search(name), backend=self._model, speculate=0)
        agent.load()
        self._model.reset()
        requests: list[dict[str, Request]] = []
        generate = self._model.generate

        async def keep(request: Request) -> Reply:
            requests[-1][request.id] = request
            return await generate(request)

        solved = []
        with patch.object(self._model, "generate", keep):
            for input in inputs:
                requests.append({})
                events: list[Event] = []
                result = agent.solve(input, on_event=events.append)
                solved.append((result.tree, [event for event in events if isinstance(event, CompletionEvent)]))
        self._model.reset()
        timed = asyncio.run(self._timed({id: request for own in requests for id, request in own.items()}))
        self._model.reset()
        work = asyncio.run(self._at_once(requests))
        chain = 0.0
        for tree, completions in solved:

            def line(event: CompletionEvent, thought: Thought) -> float:
                sample = thought.sample or 0
                return timed[event.id].until(sample, line_feed(event.completions[sample], thought))

            chain += chain_end(tree, completions, lambda event: timed[event.id].seconds, line)
        alone = sum(request.seconds for request in timed.values())
        return {
            "search": name,
            "inputs": len(inputs),
            "chain_seconds": round(chain, 4),
            "alone_seconds": round(alone, 4),
            "work_seconds": round(work, 4),
        }

    async def _at_once(self, requests: Sequence[dict[str, Request]]) -> float:
        """Seconds of all requests, those of an input sent together."""
        began = time.perf_counter()
        for own in requests:
            await asyncio.gather(*map(self._model.generate, own.values()))
        return time.perf_counter() - began

    async def _timed(self, requests: dict[str, Request]) -> dict[str, TimedRequest]:
        timed = {}
        for id, request in requests.items():
            one = timed[id] = TimedRequest()
            began = time.perf_counter()

            def heard(part: Partial, one: TimedRequest = one, began: float = began) -> None:
                one.written.append((part.sample, len(part.text), time.perf_counter() - began))

            await self._model.stream(request, heard)
            one.seconds = time.perf_counter() - began
        return timed
