"""Compare two runs request by request and completion by completion, token for token.

The key of a request names its place in the search. Requests of two runs are matched by key and prompt, never by time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..backend import Backend
from ..reply import Completion, OnText, Reply, Round, Scores
from ..request import Request, ScoreRequest
from ..runtime.result import Result

CLOSE = 1e-3
"""Largest difference of equal log-likelihoods: kernels and batch shapes round differently."""


class Exchanged(Protocol):
    """A request with its reply, as the comparison reads it."""

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer."""

    @property
    def name(self) -> str:
        """Role and place of the request, for a person."""

    @property
    def prompt(self) -> str:
        """The prompt of the request."""

    @property
    def reply(self) -> Reply | Scores | None:
        """None when the request failed."""


@dataclass(slots=True)
class Exchange:
    """A request with its reply, which is None when the request failed."""

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
        """Role and place of the request: ``propose at 0.3 (visit 0)``."""
        if isinstance(self.request, ScoreRequest):
            return f"scores after {self.request.prompt[-60:]!r}"
        key = self.request.key
        return f"{key.role} at {key.place!r}" + (f" (visit {key.visit})" if key.visit else "")


class ExchangeRecorder(Backend):
    """Passes requests to another backend and records every exchange in the order of the requests."""

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

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """The inner backend's reply. Raises BackendError."""
        exchange = Exchange(request)
        self.exchanges.append(exchange)
        exchange.reply = reply = await self.inner.stream(request, on_text)
        return reply

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """The search has asked for what was sent early."""
        for exchange in self.exchanges:
            if exchange.id == request.id:
                exchange.request = request
        self.inner.raise_priority(request)

    async def score(self, request: ScoreRequest) -> Scores:
        """The inner backend's scores. Raises BackendError."""
        exchange = Exchange(request)
        self.exchanges.append(exchange)
        exchange.reply = scores = await self.inner.score(request)
        return scores

    def with_model(self, model: str) -> Backend:
        """One for an evaluator; its exchanges are not recorded."""
        return self.inner.with_model(model)

    def early_rows(self) -> int | None:
        """See the inner backend."""
        return self.inner.early_rows()

    def prompt_copies(self, request: Request | ScoreRequest) -> int:
        """See the inner backend."""
        return self.inner.prompt_copies(request)

    def load(self) -> None:
        """Load the inner backend."""
        self.inner.load()

    def meter(self) -> Callable[[], dict[str, Any]]:
        """The inner backend's metrics."""
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

    def take(self) -> list[Exchange]:
        """Remove and return the exchanges since the last call, without those that the search has not asked for."""
        exchanges, self.exchanges = self.exchanges, []
        return [exchange for exchange in exchanges if exchange.request.priority == 1]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where two runs differ."""

    where: str
    """The request."""
    what: str
    """``token ids``, ``text``, ``finish``, ``number of completions``, ``scores``, ``request`` or ``answer``."""
    sample: int | None
    """Which completion, or which continuation."""
    position: int | None
    """Index of the first token or character that differs."""
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
    """The first request of ``expected`` that has another reply in ``got``; None when both runs grew the same tree.

    Differing replies come before requests that only one run made, because the second follow from the first.
    """
    others = {exchange.id: exchange for exchange in got}
    for exchange in expected:
        other = others.get(exchange.id)
        if other is not None and (difference := _reply_difference(exchange, other)) is not None:
            return difference
    known = {exchange.id for exchange in expected}
    for exchange in expected:
        if exchange.id not in others:
            return Divergence(exchange.name, "request", None, None, exchange.prompt, None)
    for exchange in got:
        if exchange.id not in known:
            return Divergence(exchange.name, "request", None, None, None, exchange.prompt)
    return None


def same_end(expected: Result, got: Result) -> Divergence | None:
    """The difference of two results over the same requests: answer, path or reason of the end; None when equal."""
    for what in ("answer", "path", "ended"):
        left, right = getattr(expected, what), getattr(got, what)
        if left != right:
            return Divergence("the result", what, None, None, left, right)
    return None


def _reply_difference(expected: Exchanged, got: Exchanged) -> Divergence | None:
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
            if (difference := _completion_difference(where, sample, *pair)) is not None:
                return difference
        return None
    if left is None and right is None:
        return None
    return Divergence(where, "reply", None, None, _presence(left), _presence(right))


def _completion_difference(where: str, sample: int, left: Completion, right: Completion) -> Divergence | None:
    """Compare token ids where both backends report them, and the text in any case."""
    if left.tokens is not None and right.tokens is not None and left.tokens != right.tokens:
        at, char = _first_mismatch(left.tokens, right.tokens), _first_mismatch(left.text, right.text)
        expected = {"ids": list(left.tokens[at : at + 4]), "text": left.text[char : char + 40]}
        got = {"ids": list(right.tokens[at : at + 4]), "text": right.text[char : char + 40]}
        return Divergence(where, "token ids", sample, at, expected, got)
    if left.text != right.text:
        at = _first_mismatch(left.text, right.text)
        return Divergence(where, "text", sample, at, left.text[at : at + 40], right.text[at : at + 40])
    if left.finish != right.finish:
        return Divergence(where, "finish", sample, None, left.finish, right.finish)
    return None


def _first_mismatch(left: Sequence[Any], right: Sequence[Any]) -> int:
    pairs = zip(left, right, strict=False)  # one may be a prefix of the other
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _presence(reply: Reply | Scores | None) -> str:
    return "no reply" if reply is None else "a reply"
