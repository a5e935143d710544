"""Two registered backends: one that cannot run some models, and its fallback."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from helpers import Oracle

from treeagent import ConfigError, ModelError, Reply, Request, UnsupportedModelError

REASON = "its layers are round"
FAILURES: dict[str, type[BaseException]] = {
    "damaged": ModelError,
    "memory": MemoryError,
    "fault": RuntimeError,
    "wrong": ConfigError,
}
"""Errors of :class:`Picky` by the model that raises them."""


class Steady(Oracle):
    """Runs every model but ``square``; the option ``max_batch`` is its own."""

    name = "steady"
    own = ("max_batch",)

    def __init__(self, model: str | None = None, options: Mapping[str, str] | None = None) -> None:
        given = dict(options or {})
        known = {option: given.pop(option) for option in self.own if option in given}
        super().__init__(model or "mini", given)
        self.options |= known
        self.loads = 0

    def load(self) -> None:
        """Counted."""
        self.loads += 1
        if self.model == "square":
            raise ModelError("the model 'square' is square")


class Ballast:
    """Stands for weights in memory."""


class Picky(Steady):
    """Cannot run models whose name has ``round``: ``round-files`` shows it at once, ``round`` when it is loaded.

    The option ``draft`` is its own. ``answers`` counts the requests of all of them.
    """

    name = "picky"
    fallback = "steady"
    own = ("draft",)
    answers = 0
    ballast: Any = None
    """Called with the weights that a load has read before it finds that it cannot run them."""

    def check_model(self) -> None:
        """By the name."""
        if self.model == "round-files":
            raise UnsupportedModelError("the model cannot run in picky", REASON)

    def load(self) -> None:
        """By the name, after the weights are read."""
        super().load()
        weights = Ballast()
        if Picky.ballast is not None:
            Picky.ballast(weights)
        if failure := FAILURES.get(str(self.model)):
            raise failure("the disk is on fire")
        if self.model == "round":
            raise UnsupportedModelError("the model cannot run in picky", REASON)

    async def aload(self) -> None:
        """As a backend whose loading can be cancelled."""
        if self.model == "slow":
            await asyncio.Event().wait()
        await asyncio.to_thread(self.load)

    async def generate(self, request: Request) -> Reply:
        """Counted."""
        Picky.answers += 1
        return await super().generate(request)
