"""What all searches that expand thoughts have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from treeagent import Search, Task


@dataclass(frozen=True, kw_only=True)
class ExpandingSearch(Search):
    """The prompt of an expansion."""

    by: Literal["propose", "sample"] | None = None
    """Prompt to expand with, ``propose`` or ``sample``; the task's ``propose`` if it has one."""

    def role(self, task: Task) -> str:
        """The prompt to expand with."""
        return self.by or ("propose" if task.has("propose") else "sample")

    def check(self, task: Task) -> None:
        """Needs a prompt to expand with."""
        task.require(self.role(task), f"the search {type(self).__name__!r}")


@dataclass(frozen=True, kw_only=True)
class TreeSearch(ExpandingSearch):
    """The same number of completions for every expansion."""

    k: Annotated[int, Ge(1)] | None = None
    """Completions per expansion; the task's own number when None."""
