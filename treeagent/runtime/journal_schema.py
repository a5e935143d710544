"""The form of a journal's lines: which fields each event has, and what they hold.

A journal is a text file that people copy, cut and edit. Whoever reads one relies on this form, so each line is held
against it once, where it is read. Fields that older journals lack may be missing; further fields and types are let
through.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..validation import message

Whole = Annotated[int, Field(ge=0, lt=2**63)]
"""A count, an id, an index."""
Seconds = Annotated[float, Field(ge=0)]
Scalar = str | bool | int | float


class Form(BaseModel):
    """A record of which unknown fields are let through."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class UsageForm(Form):
    """The cost of a request."""

    calls: Whole = 0
    prompt_tokens: Whole | None = 0
    completion_tokens: Whole | None = 0
    dollars: float | None = None
    reasoning_tokens: Whole | None = 0


class CompletionForm(Form):
    """One sampled text."""

    text: str
    tokens: list[int] | None
    finish: str
    logprob: float | None = None
    drafted: list[Whole] | None = None
    ends: list[Whole] | None = None
    reasoning: str | None = None


class MessageForm(Form):
    """A message of a chat before the prompt."""

    role: str
    content: str


class RunLine(Form):
    """The first line. What ``resume`` needs of it is checked by :class:`.recorded_run.RecordedRun`."""

    format: Whole
    input: str = ""
    seed: int = 0
    budget: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    row: dict[str, Any] = {}


class ResumedLine(Form):
    """A process has taken up the run."""

    budget: dict[str, int | float | None] = {}


class CompletionLine(Form):
    """A request for completions was answered."""

    id: str
    role: str
    messages: list[MessageForm] = []
    prompt: str
    completions: list[CompletionForm]
    usage: UsageForm
    thought: Whole | None = None
    seconds: Seconds | None = None
    model: str | None = None


class ScoresLine(Form):
    """A request for log-likelihoods was answered."""

    id: str
    messages: list[MessageForm] = []
    prompt: str
    continuations: list[str] | None = None
    logprobs: list[float | None]
    lengths: list[Whole]
    usage: UsageForm
    thought: Whole | None = None
    seconds: Seconds | None = None

    @model_validator(mode="after")
    def _as_long(self) -> ScoresLine:
        sizes = {len(self.logprobs), len(self.lengths), len(self.continuations or self.lengths)}
        if len(sizes) > 1:
            raise ValueError("logprobs, lengths and continuations have different lengths")
        return self


class RefusedLine(Form):
    """A backend refused a request."""

    id: str
    role: str
    messages: list[MessageForm] = []
    prompt: str
    error: str
    thought: Whole | None = None
    model: str | None = None


class ObservedLine(Form):
    """A tool or an environment has shown what comes of a step, or has failed."""

    id: str
    thought: Whole
    text: str
    observation: str | None
    error: str | None
    seconds: Seconds | None = None


class RoundsLine(Form):
    """Rounds of an engine, in columns."""

    model: str | None
    at: list[float]
    seconds: list[Seconds]
    rows: list[Whole]
    read: list[Whole]
    drafted: list[Whole]
    accepted: list[Whole]
    tokens: list[Whole]


class ThoughtLine(Form):
    """A step is in the tree."""

    id: Annotated[int, Field(ge=1, lt=2**63)]
    parent: Whole
    text: str
    state: str
    depth: Whole
    path: list[Whole]
    terminal: bool
    request: str | None
    sample: Whole
    model: str | None = None


class DroppedLine(Form):
    """A piece of a completion is not in the tree."""

    id: Whole
    index: Whole
    text: str
    why: str


class JudgedLine(Form):
    """An evaluator has valued a thought."""

    id: Whole
    value: float | None
    labels: list[str]
    unparsed: Whole
    requests: list[str] | None = None


class VisitedLine(Form):
    """Statistics that a search keeps of thoughts, in columns."""

    ids: list[Whole]
    visits: list[Whole]
    means: list[float | None]

    @model_validator(mode="after")
    def _as_long(self) -> VisitedLine:
        if not len(self.ids) == len(self.visits) == len(self.means):
            raise ValueError("ids, visits and means have different lengths")
        return self


class AnswerLine(Form):
    """A thought has an answer."""

    id: Whole
    answer: str | None


class EarlyLine(Form):
    """A request that was sent before the search asked for it, or would have."""

    id: str
    kind: str
    hit: bool
    began: float
    seconds: float
    asked: float | None = None
    role: str | None = None
    place: str | None = None
    prompt_tokens: Whole | None = None
    completion_tokens: Whole | None = None


class FailedLine(Form):
    """The backend failed."""

    error: str


class EndUsage(Form):
    """The cost of a run."""

    calls: Whole
    tokens: Whole | None


class EndLine(Form):
    """The run ended."""

    thought: Whole | None
    answer: str | None
    solved: bool | None
    ended: str
    seconds: Seconds
    counts: dict[str, Whole | None]
    usage: EndUsage
    engine: dict[str, Any] = {}


LINES: dict[str, type[Form]] = {
    "run": RunLine,
    "resumed": ResumedLine,
    "completion": CompletionLine,
    "scores": ScoresLine,
    "refused": RefusedLine,
    "observed": ObservedLine,
    "rounds": RoundsLine,
    "thought": ThoughtLine,
    "dropped": DroppedLine,
    "judged": JudgedLine,
    "visited": VisitedLine,
    "answer": AnswerLine,
    "early": EarlyLine,
    "failed": FailedLine,
    "end": EndLine,
}


def fault(form: type[BaseModel], data: Any) -> str | None:
    """The first thing that is wrong with a record, as ``key: message``; None where nothing is."""
    try:
        form.model_validate(data)
    except ValidationError as error:
        return describe(error)
    return None


def describe(error: ValidationError) -> str:
    """The first fault as ``key: message``."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if part not in _BRANCHES)
    got = "" if first["type"] in ("missing", "value_error") else f" (got {first['input']!r:.60})"
    return f"{f'{key}: ' if key else ''}{message(first)}{got}"


_BRANCHES = ("str", "int", "float", "bool", "BackendSettings", "NamedSettings")
"""What pydantic adds to the path of a union's member."""
