"""Backends of this package as modes: requests go through ``Backend.generate``, as those of a search do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from treeagent.backend import Backend
from treeagent.errors import BackendError
from treeagent.reply import Reply
from treeagent.request import Request

from ...seed.drafters.base import Drafter
from ...seed.drafters.tables.compiled_ngram import ngram_drafter
from ...seed.executor.weights import WeightCache
from ...seed.records import Draft, SequenceState
from ...transformers.backend import TransformersBackend
from ..config.modes import HOPELESS, Mode
from ..config.plan import BenchPlan, BenchSettings
from .base import Measurement, ModeRunner, Prompt, Stopwatch, Tick, Tokens


class BackendRunner(ModeRunner):
    """A backend without state between runs."""

    def __init__(self, mode: Mode, make: Callable[[], Any]) -> None:
        self._mode = mode
        self._make = make
        self._backend: Any = None

    def open(self) -> None:
        """Load the backend's model. Raises BackendError or ConfigError."""
        if self._backend is None:
            self._backend = self._make()
            self._backend.load()

    def run(self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Measurement:
        """Complete all prompts, awaited together or one after another. Raises BackendError."""
        return asyncio.run(self._timed(plan, prompts, tick, max_tokens, warm=False))

    def close(self) -> None:
        """Free the model."""
        if self._backend is not None:
            asyncio.run(self._backend.aclose())
            self._backend = None

    async def _timed(
        self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None, *, warm: bool
    ) -> Measurement:
        self.open()
        backend: Backend = self._backend
        settings = replace(plan.sampling, num_beams=self._mode.num_beams)
        if max_tokens is not None:
            settings = replace(settings, max_tokens=max_tokens)
        requests = [Request(prompt.text, plan.key(prompt.number, warm=warm), settings) for prompt in prompts]

        async def ask(request: Request) -> Reply:
            reply = await backend.generate(request)
            tick()
            return reply

        figures, stopwatch = backend.meter(), Stopwatch()
        batches = plan.batches(self._mode, requests)
        replies = [reply for batch in batches for reply in await asyncio.gather(*map(ask, batch))]
        times = stopwatch.stop()
        outputs = tuple(_tokens(self._mode.name, prompt, reply) for prompt, reply in zip(prompts, replies, strict=True))
        return Measurement(outputs, figures=figures(), **times)


class SeedRunner(BackendRunner):
    """The engine, which keeps a prefix cache and drafters' tables until :meth:`cold`."""

    def cold(self, plan: BenchPlan, warm: Sequence[Prompt]) -> None:
        """Clear cache and tables; fill the tables from ``warm`` and clear the cache again. Raises BackendError."""
        self.open()
        self._backend.reset()
        if warm:
            asyncio.run(self._timed(plan, warm, lambda: None, None, warm=True))
            self._backend.reset(tables=False)


class HopelessDrafter(Drafter):
    """A drafter that is never right, for measuring the cost of speculation at an imposed acceptance rate of 0.

    It drafts as much as an n-gram table, but other tokens.
    """

    name = "hopeless"

    def __init__(self) -> None:
        self._table = ngram_drafter()

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """The table's drafts with every token replaced by a lower id that does not follow."""
        return [
            replace(draft, tokens=[max(0, token - 1 - node) for node, token in enumerate(draft.tokens)])
            for draft in self._table.propose(rows, floor, depth)
        ]

    def observe(self, row: SequenceState, start: int) -> None:
        """Update the table."""
        self._table.observe(row, start)

    def forget(self, row: SequenceState) -> None:
        """Remove the sequence from the table."""
        self._table.forget(row)


def backend_runner(mode: Mode, settings: BenchSettings, dtype: str, weights: WeightCache) -> BackendRunner:
    """The runner of a mode of the families ``plain`` and ``seed``; engines share models by way of ``weights``."""
    chat = None if settings.chat else False
    common: dict[str, Any] = {"device": settings.device, "dtype": dtype, "threads": settings.threads, "chat": chat}
    if mode.family == "plain":
        return BackendRunner(mode, lambda: TransformersBackend(settings.model, **common))
    options = dict(mode.options)
    if mode.drafts or options.get("drafter", "auto") == "auto":
        options.setdefault("draft", settings.draft)
    if mode.name == HOPELESS:
        options["drafter"] = HopelessDrafter

    def engine() -> Any:
        from ...seed.backend import SeedBackend  # noqa: PLC0415  # not needed by the other modes

        return SeedBackend(settings.model, **options, **common, shelf=weights)

    return SeedRunner(mode, engine)


def _tokens(name: str, prompt: Prompt, reply: Reply) -> Tokens:
    """The tokens of a reply. Raises BackendError if the backend read another prompt than the other modes."""
    if reply.usage.prompt_tokens != len(prompt.ids):
        raise BackendError(
            f"{name} read {reply.usage.prompt_tokens} tokens of prompt {prompt.number}, the tokenizer makes "
            f"{len(prompt.ids)} of it: its speed cannot be compared with the other modes'"
        )
    tokens = reply.completions[0].tokens
    if tokens is None:
        raise BackendError(f"{name} does not report the generated tokens, so they cannot be compared")
    return tokens
