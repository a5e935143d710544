"""Base classes of the searches that expand thoughts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from treeagent import Search, Task, Thought, ranked


@dataclass(frozen=True, kw_only=True)
class ExpandingSearch(Search):
    """A search that expands thoughts by one of the task's prompts."""

    by: Literal["propose", "sample"] | None = None
    """Prompt to expand with, ``propose`` or ``sample``. None: ``propose`` if the task has it, else ``sample``."""

    def role(self, task: Task) -> str:
        """The prompt to expand with."""
        return self.by or ("sample" if task.has("sample") and not task.has("propose") else "propose")

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt to expand with."""
        task.require(self.role(task), "the search")


@dataclass(frozen=True, kw_only=True)
class TreeSearch(ExpandingSearch):
    """A search that draws the same number of completions for every expansion."""

    k: Annotated[int, Ge(1)] | None = None
    """Completions per expansion; the task's own number when None."""


@dataclass(frozen=True, kw_only=True)
class SamplingSearch(ExpandingSearch):
    """A search whose theory wants steps that are drawn from the model one by one."""

    by: Literal["propose", "sample"] | None = None
    """Prompt to expand with, ``propose`` or ``sample``. None: ``sample`` if the task has it, else ``propose``."""

    def role(self, task: Task) -> str:
        """The prompt to expand with."""
        return self.by or ("sample" if task.has("sample") else "propose")


def best_line(thought: Thought, below: list[Thought]) -> Iterator[Thought]:
    """The best child of a thought, the best child of that, and so on, as far as they are known."""
    while children := ranked(other for other in below if other.parent == thought.id):
        thought = children[0]
        yield thought
