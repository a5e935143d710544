"""Whether two backends grow the same tree: every request the same, every completion the same, token for token.

The key of a request names its place in the search, so requests of two runs are matched by key and prompt, never by the
order in which things happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..backend import Backend, Completion, Reply, Request, Round, ScoreRequest, Scores
from ..runtime.result import Result

CLOSE = 1e-3
"""Log-likelihoods nearer than this are equal: other kernels and batch shapes round differently."""


class Exchanged(Protocol):
    """A request, and what came back; what differences are found in."""

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer."""

    @property
    def name(self) -> str:
        """What and where, for a person."""

    @property
    def prompt(self) -> str:
        """What was asked."""

    @property
    def reply(self) -> Reply | Scores | None:
        """None when nothing came back."""


@dataclass(slots=True)
class Exchange:
    """A request, and what came back; None when nothing did."""

    request: Request | ScoreRequest
    reply: Reply | Scores | None = None

    @property
    def id(self) -> str:
        """The request's digest."""
        return self.request.id

    @property
    def prompt(self) -> str:
        """The request's prompt."""
        return self.request.prompt

    @property
    def name(self) -> str:
        """What and where, for a person: ``propose at 0.3 (visit 0)``."""
        if isinstance(self.request, ScoreRequest):
            return f"scores after {self.request.prompt[-60:]!r}"
        key = self.request.key
        return f"{key.role} at {key.place!r}" + (f" (visit {key.visit})" if key.visit else "")


class ExchangeRecorder(Backend):
    """Hands requests to another backend and keeps what was said, in the order it was asked."""

    name = "recorder"

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.capabilities, self.model, self.price = inner.capabilities, inner.model, inner.price
        self.exchanges: list[Exchange] = []

    async def generate(self, request: Request) -> Reply:
        """The inner backend's reply. Raises BackendError."""
        exchange = Exchange(request)
        self.exchanges.append(exchange)
        exchange.reply = reply = await self.inner.generate(request)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """The inner backend's scores. Raises BackendError."""
        exchange = Exchange(request)
        self.exchanges.append(exchange)
        exchange.reply = scores = await self.inner.score(request)
        return scores

    def prompt_copies(self, request: Request | ScoreRequest) -> int:
        """The inner backend's."""
        return self.inner.prompt_copies(request)

    def load(self) -> None:
        """Load the inner backend."""
        self.inner.load()

    def meter(self) -> Callable[[], dict[str, Any]]:
        """The inner backend's figures."""
        return self.inner.meter()

    def rounds(self) -> Callable[[], list[Round]]:
        """The inner backend's rounds."""
        return self.inner.rounds()

    async def aclose(self) -> None:
        """Close the inner backend."""
        await self.inner.aclose()

    def describe(self) -> dict[str, Any]:
        """The inner backend's description."""
        return self.inner.describe()

    def taken(self) -> list[Exchange]:
        """What was said since the last call."""
        exchanges, self.exchanges = self.exchanges, []
        return exchanges


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where two runs part."""

    where: str
    """The request."""
    what: str
    """``token ids``, ``text``, ``finish``, ``number of completions``, ``scores``, ``request`` or ``answer``."""
    sample: int | None
    """Which completion, or which continuation."""
    position: int | None
    """Token or character at which the two part."""
    expected: Any
    got: Any

    def __str__(self) -> str:
        sample = "" if self.sample is None else f", sample {self.sample}"
        position = "" if self.position is None else f", position {self.position}"
        return f"{self.where}{sample}: {self.what} differ{position}: expected {self.expected!r}, got {self.got!r}"

    def to_json(self) -> dict[str, Any]:
        """Part of the object that ``treeagent compare --json`` prints."""
        return asdict(self)


def first_difference(expected: Sequence[Exchanged], got: Sequence[Exchanged]) -> Divergence | None:
    """The first request of ``expected`` that ``got`` answers otherwise; None when both saw the same tree.

    A reply that differs comes before a request that only one of them made: the latter follows from the former.
    """
    others = {exchange.id: exchange for exchange in got}
    for exchange in expected:
        other = others.get(exchange.id)
        if other is not None and (found := _differ(exchange, other)) is not None:
            return found
    known = {exchange.id for exchange in expected}
    for exchange in expected:
        if exchange.id not in others:
            return Divergence(exchange.name, "request", None, None, exchange.prompt, None)
    for exchange in got:
        if exchange.id not in known:
            return Divergence(exchange.name, "request", None, None, None, exchange.prompt)
    return None


def same_end(expected: Result, got: Result) -> Divergence | None:
    """What runs over the same requests must agree on as well."""
    for what in ("answer", "path", "ended"):
        left, right = getattr(expected, what), getattr(got, what)
        if left != right:
            return Divergence("the result", what, None, None, left, right)
    return None


def _differ(expected: Exchanged, got: Exchanged) -> Divergence | None:
    left, right, where = expected.reply, got.reply, expected.name
    if isinstance(left, Scores) and isinstance(right, Scores):
        for index, (a, b) in enumerate(zip(left.logprobs, right.logprobs, strict=True)):
            if abs(a - b) > CLOSE:
                return Divergence(where, "scores", index, None, a, b)
        return None
    if isinstance(left, Reply) and isinstance(right, Reply):
        if len(left.completions) != len(right.completions):
            what = "number of completions"
            return Divergence(where, what, None, None, len(left.completions), len(right.completions))
        for sample, pair in enumerate(zip(left.completions, right.completions, strict=True)):
            if (found := _completions(where, sample, *pair)) is not None:
                return found
        return None
    return None if left is None and right is None else Divergence(where, "reply", None, None, _said(left), _said(right))


def _completions(where: str, sample: int, left: Completion, right: Completion) -> Divergence | None:
    """Token ids where both backends tell them, and the text in any case: a replay keeps both."""
    if left.tokens is not None and right.tokens is not None and left.tokens != right.tokens:
        at, char = _parting(left.tokens, right.tokens), _parting(left.text, right.text)
        expected = {"ids": list(left.tokens[at : at + 4]), "text": left.text[char : char + 40]}
        got = {"ids": list(right.tokens[at : at + 4]), "text": right.text[char : char + 40]}
        return Divergence(where, "token ids", sample, at, expected, got)
    if left.text != right.text:
        at = _parting(left.text, right.text)
        return Divergence(where, "text", sample, at, left.text[at : at + 40], right.text[at : at + 40])
    if left.finish != right.finish:
        return Divergence(where, "finish", sample, None, left.finish, right.finish)
    return None


def _parting(left: Sequence[Any], right: Sequence[Any]) -> int:
    shared = zip(left, right, strict=False)  # one may be a beginning of the other
    return next((at for at, (a, b) in enumerate(shared) if a != b), min(len(left), len(right)))


def _said(reply: Reply | Scores | None) -> str:
    return "no reply" if reply is None else "a reply"
