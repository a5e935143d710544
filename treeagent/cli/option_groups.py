"""Groups of options that several commands share, and the decorator that turns a group into single options.

A command takes a group as one parameter::

    @with_option_groups
    def solve(search: SearchOptions, limits: LimitOptions) -> None: ...

typer then sees every field of the group as an option of the command, in the order of the fields.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from . import arguments

if TYPE_CHECKING:
    from ..runtime.budget import Budget
    from ..task import Task
    from ..tracing import Tracing


@dataclasses.dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is searched, and how."""

    task: arguments.TaskName
    search: arguments.SearchName = "bfs"
    evaluator: arguments.EvaluatorName = None


@dataclasses.dataclass(frozen=True, slots=True)
class BackendOptions:
    """The backend of a command that runs only one."""

    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            "-b",
            help="A registered backend, or module:Class. Default: seed, and transformers for a model that seed cannot "
            "run.",
        ),
    ] = None
    model: arguments.ModelName = None
    evaluator_model: arguments.EvaluatorModel = None
    evaluator_backend: arguments.EvaluatorBackend = None

    @property
    def label(self) -> str:
        """What is loaded, for the progress view."""
        return " ".join(filter(None, (self.backend, self.model))) or "the model"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelsOptions:
    """The further models of a search that chooses among several."""

    model_of: arguments.ModelOf = None
    backend_of: arguments.BackendOf = None

    def by_name(self) -> dict[str, Any]:
        """The agent's arguments. Raises ConfigError."""
        return {
            "model_of": arguments.pairs(self.model_of, "--model-of"),
            "backend_of": arguments.pairs(self.backend_of, "--backend-of"),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class RunOptions:
    """Seed and settings of the searches."""

    seed: arguments.Seed = 0
    settings: arguments.Settings = None
    adapter: arguments.Adapter = None
    variables: arguments.Variables = None
    no_legality: arguments.NoLegality = False
    speculate: arguments.Speculate = "0"
    allow_code: arguments.AllowCode = False

    def option_values(self) -> dict[str, str]:
        """The ``--set`` words by name, and the adapter. Raises ConfigError."""
        values = arguments.pairs(self.settings, "--set")
        return values if self.adapter is None else values | {"backend.adapter": self.adapter}

    def task_variables(self) -> dict[str, str]:
        """The ``--var`` words by name. Raises ConfigError."""
        return arguments.pairs(self.variables, "--var", texts=True)

    def load_task(self, name: str) -> Task:
        """The task with its variables. Raises ConfigError."""
        from ..task import Task

        return Task.load(name, variables=self.task_variables(), allow_code=self.allow_code)


@dataclasses.dataclass(frozen=True, slots=True)
class TreeLimitOptions:
    """Limits that do not depend on a clock or a price, so that every backend reaches them at the same place."""

    max_tokens: arguments.MaxTokens = None
    max_calls: arguments.MaxCalls = None
    max_nodes: arguments.MaxNodes = None

    def budget(self, recorded: Mapping[str, float | None] | None = None) -> Budget:
        """The limits, which override the recorded ones. Raises ConfigError for a negative limit."""
        from ..runtime.budget import Budget

        limits = {name.removeprefix("max_"): limit for name, limit in dataclasses.asdict(self).items()}
        return Budget(**{**(recorded or {}), **{name: limit for name, limit in limits.items() if limit is not None}})


@dataclasses.dataclass(frozen=True, slots=True)
class LimitOptions(TreeLimitOptions):
    """All limits of a search."""

    max_seconds: arguments.MaxSeconds = None
    max_dollars: arguments.MaxDollars = None


@dataclasses.dataclass(frozen=True, slots=True)
class OutputOptions:
    """What the command prints."""

    as_json: arguments.Json = False
    quiet: arguments.Quiet = False


@dataclasses.dataclass(frozen=True, slots=True)
class TraceOptions:
    """What is sent to a tracing system."""

    otel: arguments.Otel = False
    otel_content: arguments.OtelContent = False

    @contextmanager
    def tracing(self) -> Iterator[Tracing | None]:
        """The spans' way out, None without these options; the last are sent at the end of the context.

        Raises ConfigError where nobody takes them, and MissingExtraError.
        """
        if not (self.otel or self.otel_content):
            yield None
            return
        from .. import extras

        extras.require("option --otel", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
        from ..tracing.otlp import otlp_tracing

        with otlp_tracing(arguments.say, content=self.otel_content) as tracing:
            yield tracing


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Expand every parameter of ``command`` that is annotated with a dataclass into the fields of that dataclass."""
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    # Not get_type_hints: in Python 3.10 it wraps the annotation of a parameter with the default None in Optional.
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        annotation = parameter.annotation
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            groups[parameter.name] = annotation
            parameters.extend(_fields_as_parameters(annotation))
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation))

    def call(**values: Any) -> None:
        values_by_group = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**values, **values_by_group)

    expanded = functools.wraps(command)(call)
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _fields_as_parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]
