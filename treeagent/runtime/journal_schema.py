"""The form of a journal's lines: which fields each event has, and what they hold.

A journal is a text file that people copy, cut and edit. Whoever reads one relies on this form, so each line is held
against it once, where it is read. Fields that older journals lack may be missing; further fields and types are let
through.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Whole = Annotated[int, Field(ge=0, lt=2**63)]
"""A count, an id, an index."""
Seconds = Annotated[float, Field(ge=0)]
Scalar = str | bool | int | float


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class UsageForm(_Form):
    """The cost of a request."""

    calls: Whole = 0
    prompt_tokens: Whole | None = 0
    completion_tokens: Whole | None = 0
    dollars: float | None = None


class CompletionForm(_Form):
    """One sampled text."""

    text: str
    tokens: list[int] | None
    finish: str
    logprob: float | None = None
    drafted: list[Whole] | None = None
    ends: list[Whole] | None = None
    reasoning: str | None = None


class RunLine(_Form):
    """The first line. What ``resume`` needs of it is checked by :class:`RecordedRun`."""

    format: Whole
    input: str = ""
    seed: int = 0
    budget: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class ResumedLine(_Form):
    """A process has taken up the run."""

    budget: dict[str, int | float | None] = {}


class CompletionLine(_Form):
    """A request for completions was answered."""

    id: str
    role: str
    prompt: str
    completions: list[CompletionForm]
    usage: UsageForm
    thought: Whole | None = None
    seconds: Seconds | None = None


class ScoresLine(_Form):
    """A request for log-likelihoods was answered."""

    id: str
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


class RefusedLine(_Form):
    """A backend refused a request."""

    id: str
    role: str
    prompt: str
    error: str
    thought: Whole | None = None


class RoundsLine(_Form):
    """Rounds of an engine, in columns."""

    model: str | None
    at: list[float]
    seconds: list[Seconds]
    rows: list[Whole]
    read: list[Whole]
    drafted: list[Whole]
    accepted: list[Whole]
    tokens: list[Whole]


class ThoughtLine(_Form):
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


class DroppedLine(_Form):
    """A piece of a completion is not in the tree."""

    id: Whole
    index: Whole
    text: str
    why: str


class JudgedLine(_Form):
    """An evaluator has valued a thought."""

    id: Whole
    value: float | None
    labels: list[str]
    unparsed: Whole
    requests: list[str] | None = None


class AnswerLine(_Form):
    """A thought has an answer."""

    id: Whole
    answer: str | None


class EarlyLine(_Form):
    """A request that was sent before the search asked for it, or would have."""

    id: str
    kind: str
    hit: bool
    began: float
    seconds: float
    role: str | None = None
    place: str | None = None
    prompt_tokens: Whole | None = None
    completion_tokens: Whole | None = None


class FailedLine(_Form):
    """The backend failed."""

    error: str


class EndUsage(_Form):
    """The cost of a run."""

    calls: Whole
    tokens: Whole | None


class EndLine(_Form):
    """The run ended."""

    thought: Whole | None
    answer: str | None
    solved: bool | None
    ended: str
    seconds: Seconds
    counts: dict[str, Whole | None]
    usage: EndUsage
    engine: dict[str, Any] = {}


LINES: dict[str, type[_Form]] = {
    "run": RunLine,
    "resumed": ResumedLine,
    "completion": CompletionLine,
    "scores": ScoresLine,
    "refused": RefusedLine,
    "rounds": RoundsLine,
    "thought": ThoughtLine,
    "dropped": DroppedLine,
    "judged": JudgedLine,
    "answer": AnswerLine,
    "early": EarlyLine,
    "failed": FailedLine,
    "end": EndLine,
}


class NamedSettings(BaseModel):
    """A search or an evaluator: its name, and its options beside it."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _plain(self) -> NamedSettings:
        dotted = [name for name in self.options if "." in name]  # would be read as an option of another part
        if dotted:
            raise ValueError(f"an option's name has no dot, so not {dotted[0]!r}")
        return self


class ReplacedBackend(_Form):
    """The default backend where it could not run the model."""

    name: str
    reason: str


class BackendSettings(_Form):
    """A backend, as :meth:`treeagent.Backend.describe` has it."""

    name: str
    model: str | None
    options: dict[str, Any]
    fallback: str | None = None
    """What would run a model that this one cannot run, in a line that was written before that was known."""
    instead_of: ReplacedBackend | None = None


class RunSettings(_Form):
    """What a run was done with."""

    task: str
    task_version: int
    variables: dict[str, Scalar]
    search: NamedSettings
    evaluator: NamedSettings | None
    backend: BackendSettings
    evaluator_model: BackendSettings | str | None = None
    sampling: dict[str, dict[str, Any]] = {}
    legality: bool
    speculate: Whole | None = None


class RecordedLimits(_Form):
    """A budget."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    calls: Whole | None = None
    tokens: Whole | None = None
    seconds: Seconds | None = None
    nodes: Whole | None = None
    dollars: Seconds | None = None


class RecordedRun(_Form):
    """What an agent is made from again: the first line, with the limits of the last time it was resumed."""

    input: str
    seed: int
    budget: RecordedLimits
    settings: RunSettings


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
    return f"{f'{key}: ' if key else ''}{first['msg']}{got}"


_BRANCHES = ("str", "int", "float", "bool", "BackendSettings", "NamedSettings")
"""What pydantic adds to the path of a union's member."""
