"""What a journal says of the run that wrote it, from which an agent is made again."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .journal_schema import Form, Scalar, Seconds, Whole


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


class ReplacedBackend(Form):
    """The default backend where it could not run the model."""

    name: str
    reason: str


class BackendSettings(Form):
    """A backend, as :meth:`treeagent.Backend.describe` has it."""

    name: str
    model: str | None
    options: dict[str, Any]
    fallback: str | None = None
    """What would run a model that this one cannot run, in a line that was written before that was known."""
    instead_of: ReplacedBackend | None = None


class RunSettings(Form):
    """What a run was done with."""

    task: str
    task_version: int
    variables: dict[str, Scalar]
    search: NamedSettings
    evaluator: NamedSettings | None
    backend: BackendSettings
    evaluator_model: BackendSettings | str | None = None
    models: dict[str, BackendSettings] = Field(default_factory=dict)
    """The further models of a search that has several, by name."""
    sampling: dict[str, dict[str, Any]] = Field(default_factory=dict)
    legality: bool
    speculate: Whole | Literal["auto"] = 0


class RecordedLimits(Form):
    """A budget."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    calls: Whole | None = None
    tokens: Whole | None = None
    seconds: Seconds | None = None
    nodes: Whole | None = None
    dollars: Seconds | None = None


class RecordedRun(Form):
    """What an agent is made from again: the first line, with the limits of the last time it was resumed."""

    input: str
    seed: int
    budget: RecordedLimits
    settings: RunSettings
    row: dict[str, Any] = Field(default_factory=dict)
    """The fields of the input's data row."""
