"""Many problems of a data set with one agent, several in flight at once, so that a backend can batch their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BackendError, InputError
from ..runtime import journal
from ..runtime.agent import Agent
from ..runtime.result import Result
from ..taskfile.dataset import Data, DataRow
from .outcomes import Outcome, Outcomes


@dataclass(slots=True)
class Evaluation:
    """Runs what is not done yet; every outcome is in the file before it is told.

    A failed problem is an outcome with an error and stops no other, until ``max_errors`` have failed: then no more are
    started. Each problem has a journal in ``journals``, from which it goes on if it was cut short.
    """

    agent: Agent
    data: Data
    outcomes: Outcomes
    journals: Path
    at_once: int = 16
    max_errors: int = 10
    told: Callable[[Outcome], object] = bool
    """Called with every outcome."""
    failed: int = field(default=0, init=False)
    """Problems that failed this time."""

    async def run(self) -> None:
        """Run until all is done. Raises JournalError when the outcomes cannot be kept."""
        done = self.outcomes.done
        rows = iter([row for row in self.data.rows if row.number not in done])
        workers = [asyncio.ensure_future(self._work(rows)) for _ in range(self.at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    @property
    def gave_up(self) -> bool:
        """Whether problems were left because too many had failed."""
        return self.failed >= self.max_errors

    async def _work(self, rows: Iterator[DataRow]) -> None:
        for row in rows:
            if self.gave_up:
                return
            outcome = await self._solve(row)
            self.failed += outcome.error is not None
            self.outcomes.add(outcome)
            self.told(outcome)

    async def _solve(self, row: DataRow) -> Outcome:
        path = self.journals / f"{row.number:06}.jsonl"
        try:
            result = await self.agent.run(row.input, journal=path, resume=_begun(path)).result()
            right = self._right(row, result)
        except (BackendError, InputError) as error:
            return Outcome(row.number, row.input, error=str(error))
        except ValueError as error:  # what a checker raises for a text that it cannot read: the gold answer
            return Outcome(row.number, row.input, error=f"its gold answer cannot be read: {error}")
        return Outcome.of(row.number, result, right, truths(self.agent, result))

    def _right(self, row: DataRow, result: Result) -> bool | None:
        """The gold answer's verdict, else the task's; an input without any answer is not solved, whoever judges."""
        found = self.data.gold.grade(row, result.answer)
        if found is not None:
            return found
        return False if result.answer is None else result.solved


def _begun(path: Path) -> bool:
    """Whether a journal holds something to go on from; an empty or torn one is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return False
    if journal.read(path):
        return True
    path.unlink()
    return False


def truths(agent: Agent, result: Result) -> list[tuple[float, bool]]:
    """Of every judged thought of known truth its value, and whether it is on the way to a solution."""
    task, tree = agent.task, result.tree
    found: list[tuple[float, bool]] = []
    for thought in tree:
        if thought.value is None or thought.parent is None:
            continue
        try:
            truth = task.is_promising(result.input, tree.steps(thought), thought.state)
        except ValueError:  # a state that cannot be read, kept where the legality filter is off
            truth = None
        if truth is not None:
            found.append((thought.value, truth))
    return found


def graded(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those with a verdict."""
    return [outcome for outcome in outcomes if outcome.error is None and outcome.right is not None]
