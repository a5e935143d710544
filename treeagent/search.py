"""The contract of a search strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import TypeAdapter, ValidationError

from .errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .runtime.explorer import Explorer
    from .taskfile.task import Task
    from .thought import Thought

T = TypeVar("T")


class Search(ABC):
    """How a tree grows. Subclasses are dataclasses; their fields are the options that ``--set`` sets.

    A search holds no state between runs and no infrastructure: budget, concurrency, cache, journal and progress belong
    to the explorer. It may be stopped at any await.
    """

    evaluates: ClassVar[bool] = True
    """Whether it needs an evaluator."""

    @abstractmethod
    async def run(self, explorer: Explorer) -> Thought | None:
        """Search, and return the thought whose answer is the result; None when there is none."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks what this search needs; called before the first request."""


def build(kind: str, name: str, cls: type[T], options: Mapping[str, Any]) -> T:
    """An instance of a dataclass from options that may be strings. Raises ConfigError naming every wrong one."""
    valid = [field.name for field in fields(cls)] if is_dataclass(cls) else []
    unknown = [key for key in options if key not in valid]
    if unknown:
        raise ConfigError(
            "\n".join(f"{kind} {name!r} has no option {key!r}.{did_you_mean(key, valid)}" for key in unknown)
        )
    if not is_dataclass(cls):
        return cls()
    try:
        return TypeAdapter(cls).validate_python(dict(options))
    except ValidationError as error:
        faults = (
            f"{kind} {name!r}: option {'.'.join(map(str, item['loc']))!r}: {item['msg']} (got {item['input']!r})"
            for item in error.errors()
        )
        raise ConfigError("\n".join(faults)) from error
