"""What happens in a run, as records; the text form of each is its line in a journal (``docs/reference/journal.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from ..chat import Message
from ..jsonl import strict
from ..reply import Completion, Usage
from .budget import Budget
from .result import Counts, CutOff


class Event:
    """An event of a run: one of the records below, or a :class:`.journal.RecordedEvent`, which was read from a file."""

    __slots__ = ()
    type: str
    """``run``, ``resumed``, ``completion``, ``scores``, ``refused``, ``observed``, ``rounds``, ``thought``,
    ``dropped``, ``judged``, ``visited``, ``answer``, ``early``, ``failed`` or ``end``."""

    @property
    def data(self) -> dict[str, Any]:
        """The fields as the journal has them, made of what JSON knows; a new object each time."""
        values = {item.name: (getattr(self, item.name), item) for item in fields(self)}  # type: ignore[arg-type]
        del values["type"]
        return {
            name: {**_plain(value), "tokens": value.tokens} if "with_tokens" in item.metadata else _plain(value)
            for name, (value, item) in values.items()
            if value or "left_out_if_empty" not in item.metadata
        }

    def to_record(self, seconds: float) -> dict[str, Any]:
        """The line of a journal, as the object that it holds; ``seconds`` since the run began."""
        return {"type": self.type, "t": round(seconds, 4), **self.data}

    def to_text(self, seconds: float) -> str:
        """The line of a journal without its end; :func:`.recorded_event.from_text` reads it."""
        return strict(self.to_record(seconds))


_LEFT_OUT = {"left_out_if_empty": True}
"""Of a field that a journal leaves out where it is empty."""
_COST = {"with_tokens": True}
"""Of the cost of a run, which has the sum of its tokens in a journal."""


def _kind(name: str) -> Any:
    """The type of an event, which its class determines."""
    return field(default=name, init=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(Event):
    """A run begins."""

    type: Literal["run"] = _kind("run")
    format: int
    """Version of the journal format."""
    input: str
    seed: int
    budget: Budget
    settings: Mapping[str, Any]
    """Task, search, evaluator, backend and their options, as :attr:`Result.settings`."""
    row: Mapping[str, Any] = field(default_factory=dict, metadata=_LEFT_OUT)
    """Fields of the input's data row that the task reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedEvent(Event):
    """Another process has taken up the run; its events come again from the start."""

    type: Literal["resumed"] = _kind("resumed")
    budget: Budget | None = field(default=None, metadata=_LEFT_OUT)
    """None in old journals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionEvent(Event):
    """A request for completions was answered."""

    type: Literal["completion"] = _kind("completion")
    id: str
    """Digest of all that determines the reply."""
    role: str
    messages: tuple[Message, ...] = field(default=(), metadata=_LEFT_OUT)
    """Those before the prompt."""
    prompt: str
    completions: tuple[Completion, ...]
    usage: Usage
    thought: int | None = None
    """The thought that the request was made for."""
    seconds: float | None = None
    """From the request to the reply; None for a reply that the journal held."""
    model: str | None = field(default=None, metadata=_LEFT_OUT)
    """The one of several models that was asked, where it is not the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoresEvent(Event):
    """A request for log-likelihoods was answered."""

    type: Literal["scores"] = _kind("scores")
    id: str
    messages: tuple[Message, ...] = field(default=(), metadata=_LEFT_OUT)
    prompt: str
    continuations: tuple[str, ...] | None = None
    """None in old journals."""
    logprobs: tuple[float, ...]
    """Minus infinity is null in the journal."""
    lengths: tuple[int, ...]
    usage: Usage
    thought: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEvent(Event):
    """The backend refused a request, so its branch ends."""

    type: Literal["refused"] = _kind("refused")
    id: str
    role: str
    messages: tuple[Message, ...] = field(default=(), metadata=_LEFT_OUT)
    prompt: str
    error: str
    thought: int | None = None
    model: str | None = field(default=None, metadata=_LEFT_OUT)
    """As of a completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedEvent(Event):
    """A tool or an environment has shown what comes of a step, or has failed."""

    type: Literal["observed"] = _kind("observed")
    id: str
    thought: int
    """The thought at which the step was taken."""
    text: str
    """The step."""
    observation: str | None
    error: str | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsEvent(Event):
    """Rounds of the backend that have ended since the last such event: columns with one entry a round."""

    type: Literal["rounds"] = _kind("rounds")
    model: str | None
    at: tuple[float, ...]
    """Seconds since the run began."""
    seconds: tuple[float, ...]
    rows: tuple[int, ...]
    read: tuple[int, ...]
    drafted: tuple[int, ...]
    accepted: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtEvent(Event):
    """A step is in the tree; the fields are those of :class:`Thought`."""

    type: Literal["thought"] = _kind("thought")
    id: int
    parent: int
    text: str
    state: str
    depth: int
    path: tuple[int, ...]
    terminal: bool
    request: str | None
    sample: int
    model: str | None = field(default=None, metadata=_LEFT_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedEvent(Event):
    """A piece of a completion is not in the tree."""

    type: Literal["dropped"] = _kind("dropped")
    id: int
    """The thought below which it would be."""
    index: int
    text: str
    why: str
    """``duplicate``, ``illegal``, ``unparsed`` or ``failed``."""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEvent(Event):
    """An evaluator has valued a thought; the fields are those of :class:`Judgement`."""

    type: Literal["judged"] = _kind("judged")
    id: int
    value: float | None
    labels: tuple[str, ...]
    unparsed: int
    requests: tuple[str, ...] = ()
    """Ids of the evaluator's requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitedEvent(Event):
    """Visits and mean values that a search keeps of thoughts: columns with one entry a thought."""

    type: Literal["visited"] = _kind("visited")
    ids: tuple[int, ...]
    visits: tuple[int, ...]
    means: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvent(Event):
    """A thought has an answer."""

    type: Literal["answer"] = _kind("answer")
    id: int
    answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyEvent(Event):
    """What became of a request that was sent before the search asked for it."""

    type: Literal["early"] = _kind("early")
    id: str
    kind: str
    hit: bool
    """Whether the search asked for it."""
    role: str | None = None
    place: str | None = None
    began: float
    """Seconds since the run began."""
    seconds: float
    asked: float | None = None
    """When the search asked for it, in seconds since the run began."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent(Event):
    """A backend or another plug-in failed, or the journal could not be written."""

    type: Literal["failed"] = _kind("failed")
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEvent(Event):
    """The run ended; the fields are those of :class:`Result`."""

    type: Literal["end"] = _kind("end")
    input: str = ""
    answer: str | None
    solved: bool | None
    path: tuple[str, ...] = ()
    thought: int | None
    """Id of the thought that the path leads to."""
    ended: str
    usage: Usage = field(metadata=_COST)
    judging: Usage | None = field(default=None, metadata=_LEFT_OUT | _COST)
    """None in old journals."""
    models: Mapping[str, Any] = field(default_factory=dict)
    """Costs and thoughts of several models, by name."""
    seconds: float
    seed: int = 0
    counts: Counts
    cut_off: Mapping[str, CutOff] = field(default_factory=dict)
    speculated: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)


def _plain(value: Any) -> Any:
    """A value of a field as JSON has it."""
    if isinstance(value, Usage):
        return value.to_json()
    if isinstance(value, Completion):
        known = asdict(value)
        return {name: each for name, each in known.items() if each is not None or name not in _UNKNOWN_LEFT_OUT}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


_UNKNOWN_LEFT_OUT = ("logprob", "drafted", "ends", "reasoning")
"""Fields of a completion that a journal leaves out where they are None."""
