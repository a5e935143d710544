"""The contract between a search and whatever runs its requests."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from .errors import ConfigError
from .reply import OnText, Reply, Round, Scores
from .request import Request, ScoreRequest
from .world import Observation


class Backend(ABC):
    """Where requests run. It batches the requests that are awaited at the same time.

    A backend works under any event loop, leaves nothing running when no request is pending, and answers a request
    identically whatever else is in flight. Capabilities: ``generate`` (always), ``score``, ``seed``
    (sampling is a function of the request's key), ``chat`` (prompts pass through a chat template, with what
    :attr:`Request.chat` gives it), ``thinking_budget`` (a number in :attr:`Chat.thinking`), ``extra_body``
    (:attr:`Chat.extra_body`), ``beams`` (:attr:`Sampling.num_beams` above 1),
    ``constraints`` (:attr:`Sampling.constraint`), ``rewards`` (it answers a
    :class:`~treeagent.request.RewardRequest`, where its model is a process reward model).
    """

    name: ClassVar[str]
    """The name it is registered under."""
    fallback: ClassVar[str | None] = None
    """The registered backend that runs the models which this one cannot run, where the user names no backend."""
    capabilities: frozenset[str] = frozenset({"generate"})
    model: str | None = None
    """The model's name for reports, None when there is none."""
    price: tuple[float, float] | None = None
    """Dollars per prompt token and per completion token; None when unknown."""
    cpus: float = 1.0
    """What a replica with it reserves on a cluster."""
    gpus: float | None = 0.0
    """As ``cpus``; None: one where there is one."""
    headline: Sequence[str] | None = None
    """The figures of :meth:`meter` that the summary of a search shows; None: all."""
    observations: Mapping[str, Observation] | None = None
    """Of a backend that replays a run: what came of its steps, by their ids, so that no tool is called again."""

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> Backend:
        """A backend from the options of a command line; override it to be usable by name. Raises ConfigError."""
        raise ConfigError(f"backend {cls.name!r} cannot be opened by name; give the Agent an object of it")

    @classmethod
    def guarded_options(cls) -> Mapping[str, Any]:
        """Options of :meth:`open` that say where requests go or which secret goes along, none by default.

        Each with the value that it has on this machine where it is left out. ``resume`` takes another value from a
        journal only where the user repeats it.
        """
        return {}

    @abstractmethod
    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As :meth:`generate`, and hands out texts as they grow; a backend that can do so overrides it.

        ``on_text`` is called in the thread of the caller's event loop, before this method returns, and not after the
        caller was cancelled. Text that a stop string may still take back is not handed out, nor is thinking. The reply
        is that of :meth:`generate`. Raises BackendError.
        """
        return await self.generate(request)

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """Serve a pending request of this id like one of the given priority from now on; nothing if there is none.

        Called in the thread of the event loop on which the request is awaited.
        """

    def early_rows(self) -> int | None:
        """How many requests that are sent early it can run at a time and hardly slow down the others; None: unknown.

        To be called when it is loaded.
        """
        return None

    def pass_seconds(self) -> float | None:
        """Seconds of a pass with one sequence, of which early requests save some; None: unknown.

        Where it takes less than their Python, none are sent unasked. To be called when it is loaded.
        """
        return None

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations. Raises BackendError; only called when ``score`` is among the capabilities.

        With the capability ``rewards`` a :class:`~treeagent.request.RewardRequest` asks for the rewards of its steps.
        """
        raise TypeError(f"backend {self.name!r} does not declare the capability 'score'")

    def with_model(self, model: str) -> Backend:
        """A backend of this kind with the same options for another model; the two share what they can.

        Raises ConfigError when the model cannot be opened so.
        """
        return type(self).open(model, self.describe()["options"])

    def prompt_copies(self, request: Request | ScoreRequest) -> int:
        """Upper limit of how often the prompt's tokens are counted in the cost; a budget reserves that many."""
        return 1

    @property
    def possible_capabilities(self) -> frozenset[str]:
        """Capabilities that :meth:`load` can show it to have, known without waiting for a server.

        An agent is refused at once where it needs another one, and before its first request where loading shows less.
        """
        return self.capabilities

    def check_device(self) -> None:
        """Raise ConfigError where this process lacks the device that the options name; it opens none."""

    def check_model(self) -> None:
        """Raise UnsupportedModelError where :attr:`fallback` had better run the model, as far as its files say.

        Called before :meth:`load`, in a worker thread, and only where the user names no backend. It reads no weights,
        and leaves damaged files to :meth:`load`. Raises BackendError.
        """

    def load(self) -> None:
        """Load the model before the first request; called in a worker thread.

        Raises BackendError, and UnsupportedModelError for a model that another backend may run.
        """

    async def aload(self) -> None:
        """As :meth:`load`, in a worker thread; override it where loading can be cancelled. Raises BackendError."""
        await asyncio.to_thread(self.load)

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Start measuring; calling the result gives the backend's own figures since then, empty when it keeps none.

        Figures are numbers, texts or lists of them under readable names (``tokens_per_second``), ready for JSON; None
        is unknown. Several meters may run at the same time, and each may be read several times.
        """
        return dict

    def rounds(self) -> Callable[[], list[Round]]:
        """Start recording rounds; each call of the result returns those that have ended since the last call, in order.

        A backend that does not work in rounds returns none. Recording ends when the result is garbage-collected.
        """
        return list

    async def aclose(self) -> None:
        """Release what the backend holds, such as a loaded model; it may be used again afterwards."""

    def describe(self) -> dict[str, Any]:
        """Name, model and options, from which a journal opens this backend again."""
        return {"name": self.name, "model": self.model, "options": {}}
