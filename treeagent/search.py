"""The contract of a search strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .runtime.explorer import Explorer
    from .task import Task
    from .thought import Thought


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
