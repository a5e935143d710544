"""The contract between a search and whatever runs its requests."""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from .errors import ConfigError
from .sums import total

KEY_FORMAT = 1
"""Version of the key encoding; a change changes every sampled result."""


@dataclass(frozen=True, slots=True)
class Key:
    """Names a request by its place in the search, never by the order in which things happened.

    All noise and all seeds derive from the key, so neither completion order nor batch composition can change a tree.
    """

    seed: int
    """The run's seed."""
    role: str
    """The prompt's role: ``propose``, ``sample``, ``value``, ``answer`` ..."""
    place: str
    """Path of sibling indices of the node (``0.3.1``) for generations; state key for evaluations."""
    visit: int = 0
    """How often this node has been expanded before; a second visit gets fresh noise."""

    def stream(self, sample: int) -> int:
        """64-bit key of one sample's random stream: a hash of length-prefixed fields (no collisions by joining)."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (KEY_FORMAT, self.seed, self.role, self.place, self.visit, sample):
            data = str(part).encode()
            digest.update(len(data).to_bytes(4, "little") + data)
        return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn from the model."""

    temperature: float = 0.0
    """0 is greedy."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    max_tokens: int = 256
    """Per completion."""
    stop: tuple[str, ...] = ()
    """The completion ends before the first of these strings, which is not part of it."""
    num_beams: int = 1
    """Above 1 a completion is the most likely of so many beams, drawn from their joint law (at temperature 0 by beam
    search); temperature, top_k, top_p and min_p then act on the joint law. Needs the capability ``beams``."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for ``n`` completions of one prompt."""

    prompt: str
    key: Key
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer; a journal's key."""
        sampling = asdict(self.sampling)
        if self.sampling.num_beams == 1:
            del sampling["num_beams"]  # journals from before there were beams stay valid
        parts = (self.prompt, sorted(asdict(self.key).items()), sorted(sampling.items()), self.n)
        return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request for the log-likelihood of each continuation of one prompt."""

    prompt: str
    continuations: tuple[str, ...]

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer."""
        return hashlib.blake2b(repr((self.prompt, self.continuations)).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """What requests cost. Adds with ``+``; unknown is None and stays None in a sum."""

    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    dollars: float | None = None
    """None: no price is known."""

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        return total(self.prompt_tokens, self.completion_tokens)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            total(self.prompt_tokens, other.prompt_tokens),
            total(self.completion_tokens, other.completion_tokens),
            total(self.dollars, other.dollars),
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled text."""

    text: str
    tokens: tuple[int, ...] | None = None
    """Token ids as generated, without the end-of-text token; None when the backend does not report them."""
    finish: str = "stop"
    """``stop`` (end of text or a stop string), ``length`` (``max_tokens`` reached) or ``refused`` (by a content filter;
    the text is what came before it)."""
    logprob: float | None = field(default=None, compare=False)
    """Summed natural-log probability, untempered, of all tokens drawn, an end of text or a whole stop string included;
    None when the backend does not report it. Not compared, because rounding changes it."""
    drafted: tuple[int, ...] | None = field(default=None, compare=False)
    """Indices in ``tokens`` of the accepted draft tokens; None when the backend does not report them. Not compared:
    drafting does not change the text."""
    ends: tuple[int, ...] | None = field(default=None, compare=False)
    """Offset in ``text``, in characters, after each of ``tokens``; None when the backend does not report them."""
    reasoning: str | None = field(default=None, compare=False)
    """What the model thought before the text, which no step, label or answer is read from; None when there is none."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a :class:`Request`: ``n`` completions in sample order."""

    completions: tuple[Completion, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer to a :class:`ScoreRequest`."""

    logprobs: tuple[float, ...]
    """Summed natural-log probability of each continuation's tokens given the prompt."""
    lengths: tuple[int, ...]
    """Number of tokens of each continuation."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a backend that works in rounds: one target pass over all sequences in progress."""

    began: float
    """By ``time.monotonic``, in seconds."""
    seconds: float
    rows: int
    """Sequences that received tokens, those of other searches on the same backend included."""
    read: int
    """Prompt tokens prefilled."""
    drafted: int
    """Draft tokens verified."""
    accepted: int
    """Draft tokens accepted."""
    tokens: int
    """Tokens that the sequences received."""


class Backend(ABC):
    """Where requests run. It batches the requests that are awaited at the same time.

    A backend works under any event loop, leaves nothing running when no request is pending, and answers a request
    identically whatever else is in flight. Capabilities: ``generate`` (always), ``score``, ``seed``
    (sampling is a function of the request's key), ``chat`` (prompts pass through a chat template), ``beams``
    (:attr:`Sampling.num_beams` above 1).
    """

    name: ClassVar[str]
    """The name it is registered under."""
    capabilities: frozenset[str] = frozenset({"generate"})
    model: str | None = None
    """The model's name for reports, None when there is none."""
    price: tuple[float, float] | None = None
    """Dollars per prompt token and per completion token; None when unknown."""

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

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations. Raises BackendError; only called when ``score`` is among the capabilities."""
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

    def load(self) -> None:
        """Load the model before the first request; called in a worker thread. Raises BackendError."""

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
