"""An engine whose passes take as long as it is told: what early requests gain, without this machine.

It works like :mod:`treeagent.backends.seed` without drafts: all rows of a pass get a token, early rows are taken in by
the rule of :mod:`...seed.scheduler.early_jobs`, and a request that comes while a pass runs waits for its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from treeagent.backend import Backend
from treeagent.reply import OnText, Partial, Reply
from treeagent.request import Request, ScoreRequest

from ...seed.scheduler.early_jobs import REFUSALS, Spare
from .virtual_time import units

MOMENT = 1e-6
"""Passes for which all that a pass has brought about is waited for; the loop's time stands still meanwhile."""


class SimulatedJob:
    """A request and how many passes it has been in; the first one computes the prompt."""

    def __init__(self, request: Request, reply: Reply, on_text: OnText) -> None:
        self.id, self.priority, self.reply = request.id, request.priority, reply
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_text = on_text
        self._sizes = [len(completion.tokens or ()) for completion in reply.completions]
        self._passes = 0

    @property
    def rows(self) -> int:
        """In the next pass."""
        return max(1, sum(size >= self._passes for size in self._sizes))

    def advance(self) -> None:
        """A pass with it is over."""
        self._passes += 1
        token = self._passes - 2
        for sample, completion in enumerate(self.reply.completions):
            ends = completion.ends or ()
            if 0 <= token < len(ends):
                self._on_text(Partial(sample, completion.text[: ends[token]], token + 1))
        if self._passes > max(self._sizes, default=0) and not self.ended.done():
            self.ended.set_result(None)


class SimulatedEngine(Backend):
    """Passes requests to a model, and has their tokens come in passes by the clock of a :class:`VirtualLoop`."""

    name = "simulated"
    capabilities = frozenset({"generate", "seed"})

    def __init__(self, generate: Callable[[Request], Reply], texts: dict[str, Reply], each: float) -> None:
        """``generate`` answers a request in a thread; ``texts`` are the answers so far, by the request's id.

        A pass of R rows takes 1 + ``each`` * (R - 1).
        """
        self.passes = self.row_passes = 0
        self._generate, self._texts, self._each = generate, texts, each
        self._jobs: list[SimulatedJob] = []
        self._rounds: asyncio.Task[None] | None = None
        self.model = "mini"

    def cost(self, rows: float, nodes: float = 0.0) -> float:
        """The time of a pass."""
        return 1 + self._each * (rows + nodes - 1)

    def early_rows(self) -> int | None:
        """As many as are asked for: the passes decide."""
        return 99

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """See :meth:`Backend.raise_priority`."""
        for job in self._jobs:
            if job.id == request.id:
                job.priority = max(job.priority, request.priority)

    async def generate(self, request: Request) -> Reply:
        """The model's reply, after its passes."""
        return await self.stream(request, _unheard)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """The model's reply; its texts grow token by token."""
        if request.id not in self._texts:
            with ThreadPoolExecutor(1) as thread:  # waits here, so that the loop's time stands still meanwhile
                self._texts[request.id] = thread.submit(self._generate, request).result()
        job = SimulatedJob(request, self._texts[request.id], on_text)
        self._jobs.append(job)
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.ensure_future(self._run())
        try:
            await job.ended
        finally:
            if job in self._jobs:
                self._jobs.remove(job)
        return job.reply

    async def rest(self) -> None:
        """Wait for the pass that runs, before the loop is closed."""
        if self._rounds is not None:
            await self._rounds

    async def _run(self) -> None:
        while self._jobs:
            await units(MOMENT)
            chosen = self._chosen()
            rows = sum(job.rows for job in chosen)
            if not chosen:  # all was given up meanwhile
                return
            self.passes += 1
            self.row_passes += rows
            await units(self.cost(rows))
            for job in chosen:
                job.advance()
            self._jobs = [job for job in self._jobs if not job.ended.done()]

    def _chosen(self) -> list[SimulatedJob]:
        likely = sorted(self._jobs, key=lambda job: -job.priority)
        chosen = [job for job in likely if job.priority >= 1] or likely[:1]
        rows = sum(job.rows for job in chosen)
        spare, refused = Spare(self.cost, rows, rows, rows), 0
        for job in likely[len(chosen) :]:
            if refused == REFUSALS:
                break
            if spare.affords(job.rows, job.rows, job.priority):
                spare.add(job.rows, job.rows)
                chosen.append(job)
            else:
                refused += 1
        return chosen


def _unheard(written: Partial) -> None:
    """Nobody hears what is written."""
