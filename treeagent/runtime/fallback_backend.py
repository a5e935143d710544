"""The backend of a user who names none: the default one, or another for a model that the default one cannot run."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ..backend import Backend
from ..errors import ConfigError, UnsupportedModelError
from ..plugin_boundary import PluginBoundary
from ..process_fork import ForkSafeLock
from ..reply import OnText, Reply, Round, Scores
from ..request import Request, ScoreRequest
from ..text import printable

LOG = logging.getLogger("treeagent")
"""Its warnings go to standard error where the program has not set up logging."""


class FallbackBackend(Backend):
    """Passes everything on to a backend, from loading on to its fallback where that backend cannot run the model.

    Only UnsupportedModelError leads to the fallback; a missing folder, a damaged file or a lack of memory does not.
    Which of the two runs is decided once, by the first load.
    """

    def __init__(self, first: Backend, fallback: str, open_fallback: Callable[[str | None], Backend]) -> None:
        """``open_fallback`` opens the fallback for a model with the user's options. It may raise ConfigError."""
        self.running = first
        """The backend that answers requests."""
        self.settled = False
        """Whether it is decided which one runs."""
        self.refusal: str | None = None
        """Why the first one cannot run the model; None where it can."""
        self._first, self._fallback, self._open_fallback = first, fallback, open_fallback
        self._deciding = ForkSafeLock()
        self._warned = False

    @property
    def name(self) -> str:  # type: ignore[override]  # that of the one that runs, and so are the next six
        """Name of the backend that runs."""
        return self.running.name

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        """See :class:`Backend`."""
        return self.running.capabilities

    @property
    def model(self) -> str | None:  # type: ignore[override]
        """See :class:`Backend`."""
        return self.running.model

    @property
    def price(self) -> tuple[float, float] | None:  # type: ignore[override]
        """See :class:`Backend`."""
        return self.running.price

    @property
    def cpus(self) -> float:  # type: ignore[override]
        """See :class:`Backend`."""
        return self.running.cpus

    @property
    def gpus(self) -> float | None:  # type: ignore[override]
        """See :class:`Backend`."""
        return self.running.gpus

    @property
    def headline(self) -> Sequence[str] | None:  # type: ignore[override]
        """See :class:`Backend`."""
        return self.running.headline

    def check_device(self) -> None:
        """See :class:`Backend`."""
        self.running.check_device()

    @property
    def possible_capabilities(self) -> frozenset[str]:
        """See :class:`Backend`."""
        return self.running.possible_capabilities

    async def generate(self, request: Request) -> Reply:
        """See :class:`Backend`."""
        await self._decide()
        return await self.running.generate(request)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """See :class:`Backend`."""
        await self._decide()
        return await self.running.stream(request, on_text)

    async def score(self, request: ScoreRequest) -> Scores:
        """See :class:`Backend`."""
        await self._decide()
        return await self.running.score(request)

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """See :class:`Backend`."""
        self.running.raise_priority(request)

    def early_rows(self) -> int | None:
        """See :class:`Backend`."""
        return self.running.early_rows()

    def pass_seconds(self) -> float | None:
        """See :class:`Backend`."""
        return self.running.pass_seconds()

    def with_model(self, model: str) -> Backend:
        """A backend for another model, which runs on the first one where that can run it, whatever runs this one."""
        with self._boundary(self._first):
            other = self._first.with_model(model)

        def open_fallback(_model: str | None) -> Backend:
            # ``model`` may be an adapter of the generator's model, whose weights the two share then
            beside = self._open_fallback(self._first.model) if self.refusal is None else self.running
            return beside.with_model(model)

        return FallbackBackend(other, self._fallback, open_fallback)

    def prompt_copies(self, request: Request | ScoreRequest) -> int:
        """See :class:`Backend`."""
        return self.running.prompt_copies(request)

    def load(self) -> None:
        """Load the model with the first backend, or with the fallback. Raises BackendError."""
        if not self.settled:
            reason = None
            try:
                with self._boundary(self._first):
                    self._first.check_model()
                    self._first.load()
            except UnsupportedModelError as error:
                reason = _reason(error)
            self._settle(reason)
        with self._boundary(self.running):
            self.running.load()
        self._warn()

    async def aload(self) -> None:
        """See :meth:`load`."""
        if not self.settled:
            reason = None
            try:
                with self._boundary(self._first):
                    await asyncio.to_thread(self._first.check_model)
                    await self._first.aload()
            except UnsupportedModelError as error:
                reason = _reason(error)
            self._settle(reason)
        with self._boundary(self.running):
            await self.running.aload()
        self._warn()

    def meter(self) -> Callable[[], dict[str, Any]]:
        """See :class:`Backend`."""
        return self.running.meter()

    def rounds(self) -> Callable[[], list[Round]]:
        """See :class:`Backend`."""
        return self.running.rounds()

    async def aclose(self) -> None:
        """See :class:`Backend`."""
        await self.running.aclose()

    def describe(self) -> dict[str, Any]:
        """The backend that runs.

        Before that is decided it has ``fallback``, the name of the other one. Where the fallback runs it has
        ``instead_of``: the ``name`` of the first one, and the ``reason`` why it cannot run the model.
        """
        description = self.running.describe()
        if not self.settled:
            return {**description, "fallback": self._fallback}
        if self.refusal is not None:
            return {**description, "instead_of": {"name": self._first.name, "reason": self.refusal}}
        return description

    async def _decide(self) -> None:
        if not self.settled:
            await self.aload()

    def _settle(self, reason: str | None) -> None:
        """Decide which backend runs. Raises UnsupportedModelError where the fallback does not take the options."""
        with self._deciding:
            if self.settled:
                return
            if reason is not None:
                gc.collect()  # networks refer to themselves, and two copies of the weights may not fit
                try:
                    with self._boundary(self._first, self._fallback):
                        running = self._open_fallback(self._first.model)
                except ConfigError as error:
                    raise UnsupportedModelError(
                        f"{self._said(reason)}. {self._fallback} cannot take its place with these options: {error}",
                        reason,
                    ) from error
                self.running, self.refusal = running, reason
            self.settled = True

    def _warn(self) -> None:
        """Say once that the fallback runs; it has loaded the model by then."""
        with self._deciding:
            said, self._warned = self._warned, True
        if self.refusal is not None and not said:
            LOG.warning("%s", printable(f"{self._said(self.refusal)}; {self.running.name} runs it", keep=""))

    def _said(self, reason: str) -> str:
        return f"{self._first.name} cannot run {self._first.model}: {reason}"

    @staticmethod
    def _boundary(backend: Backend, name: str | None = None) -> PluginBoundary:
        return PluginBoundary("backend", name or backend.name)


def _reason(error: UnsupportedModelError) -> str:
    """Its reason; the weights that its frames hold are let go."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error.reason
