"""Answers of a backend: completions, scores, what they cost, and the rounds in which they were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from .sums import total


@dataclass(frozen=True, slots=True)
class Usage:
    """What requests cost. Adds with ``+``; unknown is None and stays None in a sum."""

    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    dollars: float | None = None
    """None: no price is known."""
    reasoning_tokens: int | None = 0
    """Those of the completion tokens that are no part of a text."""

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
            total(self.reasoning_tokens, other.reasoning_tokens),
        )

    def to_json(self) -> dict[str, Any]:
        """The fields; ``reasoning_tokens`` is left out where there are none."""
        fields = asdict(self)
        if self.reasoning_tokens == 0:
            del fields["reasoning_tokens"]
        return fields


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
class Partial:
    """What one completion of a request has so far."""

    sample: int
    """Index of the completion."""
    text: str
    """From its start. Later ones of the same completion begin with it, and so does the whole text; except where a model
    closes thinking that nothing opened: then there is no later one, and the whole text is what follows the mark."""
    tokens: int | None = None
    """Tokens drawn so far; None when the backend does not report them."""
    whole: bool = False
    """Whether the completion is complete, with this text; another one of the request may still grow."""


OnText: TypeAlias = "Callable[[Partial], None]"
"""Receives what a completion has so far. It must return fast and must not raise."""


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
