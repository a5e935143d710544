"""Backends of this package as modes: requests go through ``Backend.generate``, as a search would send them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from treeagent.backend import Backend, Reply, Request
from treeagent.errors import BackendError

from ...seed.executor.weights import WeightCache
from ...transformers.backend import TransformersBackend
from ..config.modes import HOPELESS, Mode
from ..config.plan import Plan
from .base import Clock, Outcome, Prompt, Runner, Tick, Tokens


class BackendRunner(Runner):
    """A backend that keeps nothing between runs."""

    def __init__(self, mode: Mode, plan: Plan, make: Callable[[], Any]) -> None:
        self._mode = mode
        self.plan = plan
        self._make = make
        self._backend: Any = None

    def open(self) -> None:
        """Load the backend's model. Raises BackendError or ConfigError."""
        if self._backend is None:
            self._backend = self._make()
            self._backend.load()

    def run(self, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Outcome:
        """Complete all prompts, awaited together or one after another. Raises BackendError."""
        return asyncio.run(self._timed(prompts, tick, max_tokens, warm=False))

    def close(self) -> None:
        """Free the model."""
        if self._backend is not None:
            asyncio.run(self._backend.aclose())
            self._backend = None

    async def _timed(self, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None, *, warm: bool) -> Outcome:
        self.open()
        backend: Backend = self._backend
        settings = replace(self.plan.sampling, num_beams=self._mode.num_beams)
        if max_tokens is not None:
            settings = replace(settings, max_tokens=max_tokens)
        requests = [Request(prompt.text, self.plan.key(prompt.number, warm=warm), settings) for prompt in prompts]

        async def ask(request: Request) -> Reply:
            reply = await backend.generate(request)
            tick()
            return reply

        figures, clock = backend.meter(), Clock()
        if self.plan.sequential:
            replies = [await ask(request) for request in requests]
        else:
            replies = await asyncio.gather(*map(ask, requests))
        seconds, cpu_seconds = clock.stop()
        outputs = tuple(_tokens(self._mode.name, prompt, reply) for prompt, reply in zip(prompts, replies, strict=True))
        return Outcome(outputs, seconds, figures(), cpu_seconds)


class SeedRunner(BackendRunner):
    """The engine, which keeps a forest of prefixes and tables of n-grams until it is told to forget them."""

    def cold(self, warm: Sequence[Prompt]) -> None:
        """Forget forest and tables; learn tables anew from ``warm`` and forget its forest. Raises BackendError."""
        self.open()
        self._backend.reset()
        if warm:
            asyncio.run(self._timed(warm, lambda: None, None, warm=True))
            self._backend.reset(tables=False)


def backend_runner(mode: Mode, plan: Plan, dtype: str, shelf: WeightCache) -> BackendRunner:
    """The runner of a mode of the families ``plain`` and ``seed``, whose models are shared by way of the shelf."""
    chat = None if plan.chat else False
    common: dict[str, Any] = {"device": plan.device, "dtype": dtype, "threads": plan.threads, "chat": chat}
    if mode.family == "plain":
        return BackendRunner(mode, plan, lambda: TransformersBackend(plan.model, **common))
    options = dict(mode.options)
    if mode.drafts or options.get("drafter", "auto") == "auto":
        options.setdefault("draft", plan.draft)

    def engine() -> Any:
        from ...seed.backend import SeedBackend  # noqa: PLC0415  # not needed by the other modes

        if mode.name == HOPELESS:
            from ..hopeless import HopelessDrafter  # noqa: PLC0415

            options["drafter"] = HopelessDrafter
        return SeedBackend(plan.model, **options, **common, shelf=shelf)

    return SeedRunner(mode, plan, engine)


def _tokens(name: str, prompt: Prompt, reply: Reply) -> Tokens:
    """The tokens of a reply. Raises BackendError when the backend read another prompt than the other modes."""
    if reply.usage.prompt_tokens != len(prompt.ids):
        raise BackendError(
            f"{name} read {reply.usage.prompt_tokens} tokens of prompt {prompt.number}, the tokenizer makes "
            f"{len(prompt.ids)} of it: its speed cannot be compared with the other modes'"
        )
    tokens = reply.completions[0].tokens
    if tokens is None:
        raise BackendError(f"{name} does not tell which tokens it generated, so they cannot be compared")
    return tokens
