"""The contract of a search strategy, and of the explorer that it drives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    from .task import Task
    from .thought import Thought, Tree

Count: TypeAlias = "int | Sequence[int] | None"
"""A number for all thoughts, one number a thought, or None for the default."""


MAIN = "main"
"""Name of the first of several models, the generator's own."""

After: TypeAlias = "Callable[[list[Thought]], Iterable[Thought]]"
"""From the thoughts below those that are being expanded, as far as they are known, to those that the search would
expand next if no others came, in order. Thoughts of later expansions come first, and those that the search would have
expanded already are among them. It must change nothing."""


class Explorer(Protocol):
    """What a search may use: it grows, judges and answers the thoughts of one input.

    Budget, journal, cache and progress stand behind it. All results come in request order, whatever order replies
    arrive in. Every method that sends requests raises BudgetExhausted, after keeping all that was paid for; a search
    lets it pass.
    """

    @property
    def task(self) -> Task:
        """What the input belongs to. It holds no gold answers."""

    @property
    def input(self) -> str:
        """In the form that prompts show."""

    @property
    def seed(self) -> int:
        """The run's seed, for random choices of the search."""

    @property
    def root(self) -> Thought:
        """The thought that stands for the input."""

    @property
    def tree(self) -> Tree:
        """All thoughts so far."""

    @property
    def models(self) -> Sequence[str]:
        """Names of the models that :meth:`grow` can ask, ``main`` first; that one alone, where no others are given."""

    @property
    def spent(self) -> float:
        """The used share of the run's limits of calls, tokens, thoughts or dollars, the highest of them, from 0 to 1.

        0 without such limits. It depends on the requests that the search has made and not on the order of replies;
        early requests and seconds do not count.
        """

    async def grow(
        self,
        thoughts: Sequence[Thought],
        *,
        role: str | None = None,
        n: Count = None,
        most: Count = None,
        apart: bool = False,
        models: Sequence[str] | None = None,
    ) -> list[list[Thought]]:
        """Expand each thought and judge its children, each once its parent and those on lower paths have replied.

        One list of judged children per thought; a thought given twice is expanded twice. ``role`` is ``propose`` or
        ``sample``; None: ``propose`` if the task has it. ``n`` is the number of completions, None the task's, and
        ``most`` that of the children read from them, None all. With ``apart`` a state is a duplicate only within its
        branch, which is all that is below the same first step. ``models`` are names of :attr:`models`, one a thought;
        None: the first.
        """

    def likely(
        self, thoughts: Iterable[Thought], *, after: After | None = None, role: str | None = None, n: int | None = None
    ) -> None:
        """Say before :meth:`grow` what will probably be expanded after it; a hint without obligation.

        ``thoughts`` are those that are known already, the likeliest first; ``after`` finds others while the running
        expansions show their children, which goes first. ``role`` and ``n`` are those of the later expansions, None:
        as in the running ones. Backends may answer such requests early. It changes nothing but the time.
        """

    def visited(self, statistics: Iterable[tuple[Thought, int, float | None]]) -> None:
        """Report statistics that the search keeps: thought, visits, and the mean value of these (None where unknown).

        The journal has them, so that pages show them at their thoughts. It changes nothing.
        """

    async def expand(
        self, thoughts: Sequence[Thought], *, role: str | None = None, n: Count = None
    ) -> list[list[Thought]]:
        """Like :meth:`grow`, without judging."""

    async def evaluate(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """The thoughts, judged. Raises TypeError where :attr:`Search.evaluates` is false."""

    async def attempt(self, role: str, n: int) -> list[Thought]:
        """``n`` complete attempts from the root by the prompt ``io`` or ``cot``: terminal thoughts with their answers.

        Attempts are requested one by one, so that a budget that ends early keeps those that it paid for.
        """

    async def reflect(self, thoughts: Sequence[Thought]) -> None:
        """Have each failed thought's reflection written by the prompt ``reflect``; later prompts show all of them.

        One request a thought, in the thoughts' order; a refused one leaves no reflection.
        """

    async def finish(self, candidates: Sequence[Thought]) -> Thought | None:
        """Have each candidate's answer written; the first that the task verifies, else the first that has one."""

    async def verify(self, thought: Thought) -> bool:
        """Whether the task's own check says that this thought solves the input; False where it cannot tell.

        The check runs in a thread: limits of time and Ctrl-C end a search whose check takes long.
        """

    def verified(self, thought: Thought) -> bool:
        """What :meth:`verify` says, at once; for a thought that has been checked. Others hold up the search."""

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to this thought."""


class Search(ABC):
    """How a tree grows. Subclasses are dataclasses; their fields are the options that ``--set`` sets.

    A search holds no state between runs and no infrastructure: budget, concurrency, cache, journal and progress belong
    to the explorer. It may be stopped at any await.
    """

    evaluates: ClassVar[bool] = True
    """Whether it needs an evaluator."""
    mixes_models: ClassVar[bool] = False
    """Whether it chooses among several models (:attr:`Explorer.models`)."""

    @abstractmethod
    async def run(self, explorer: Explorer) -> Thought | None:
        """Search, and return the thought whose answer is the result; None when there is none."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks what this search needs; called before the first request."""
