"""Solve the problems of a data set with one agent, several at a time, so that a backend can batch their requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .. import aio
from ..errors import InputError, JournalError, PluginError, TreeagentError
from ..plugin_boundary import PluginBoundary, at_input
from ..runtime import factory, journal
from ..runtime.agent import Agent
from ..runtime.budget import Budget
from ..runtime.meters import meters
from ..runtime.result import Result
from ..runtime.run import Run
from ..stop_signals import STOP_SIGNALS
from ..taskfile.dataset import Data, DataRow
from .outcomes import Outcome, Outcomes, read, torn_at_once

T = TypeVar("T")

FILE = "outcomes.jsonl"
"""File of the outcomes in the folder of an evaluation."""
REPEATS = "repeats"
"""Folder of the further repeats, each an evaluation in a folder of its number."""
JOURNALS = "journals"
"""Folder of the problems' journals beside it."""


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One call of :meth:`Evaluation.execute`."""

    seconds: float | None
    """None when every problem had an outcome already."""
    engine: dict[str, Any]
    """The metrics that the backend reports."""
    interrupted: bool


@dataclass(slots=True)
class ProblemSolver:
    """Solves single problems; each has a journal in ``journals``, from which an unfinished one continues."""

    agent: Agent
    data: Data
    journals: Path

    async def solve(self, row: DataRow) -> Outcome:
        """The outcome of one problem, which is not written; a failure is an outcome too."""
        path, gold = self.journals / journal_name(row.number), self.data.gold.text(row)
        try:
            run = await self._within(lambda: self._begin(row, path))
            result = await run.result()
            right = await self._within(self._verdict, row, result)
            values = await self._within(known_values, self.agent, result, row.fields)
        except TreeagentError as error:  # what concerns the disk also fails where the outcome is written
            return Outcome(row.number, row.input, error=str(error)).recorded(gold, row.group)
        return Outcome.of(row.number, result, right, values).recorded(gold, row.group, raw_reply(result, path))

    def _begin(self, row: DataRow, path: Path) -> Run:
        return self.agent.run(row.input, journal=path, resume=_can_resume(path), row=row.fields or None)

    async def _within(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the task's own code returns, in a thread; within the limit of seconds where the search has one.

        Raises TreeagentError, also where the code takes longer. It goes on in its thread, for nobody can stop it.
        """
        limit = self.agent.budget.seconds
        seconds = None if limit is None else max(limit, 1.0)
        try:
            return await asyncio.wait_for(aio.Pace().in_thread(function, *arguments), seconds)
        except asyncio.TimeoutError:
            name = self.agent.task.name
            late = TimeoutError(f"its code was still running after {seconds:g} s")
            raise PluginError("task", name, late) from None

    def _verdict(self, row: DataRow, result: Result) -> bool | None:
        """The verdict of the gold answer, else of the task; None where neither can tell.

        Raises InputError for a gold answer that cannot be read, and PluginError.
        """
        try:
            verdict = self.data.gold.grade(row, result.answer)
        except ValueError as error:
            raise InputError(f"its gold answer cannot be read: {error}") from error
        return result.solved if verdict is None else verdict


@dataclass(slots=True)
class Evaluation(ProblemSolver):
    """Solves the problems that have no verdict yet and writes every outcome to the file at once.

    A failed problem is an outcome with an error. It does not stop the others; after ``max_errors`` failures no further
    problem is started. Each problem has a journal in ``journals``, from which an unfinished one continues.
    """

    outcomes: Outcomes
    at_once: int = 16
    max_errors: int = 10
    elsewhere: Callable[[DataRow], Awaitable[Outcome]] | None = None
    """Solves a problem in another process, which has the backends; None: here."""
    failed: int = field(default=0, init=False)
    """Problems that failed in this process."""

    def execute(self, on_outcome: Callable[[Outcome], object] = bool) -> EvaluationRun:
        """Load the backends and run all open problems, or until a stop signal. Raises what :meth:`run` raises."""
        if not self.open_rows:
            return EvaluationRun(None, {}, interrupted=False)
        read_metrics: Callable[[], dict[str, Any]] = dict
        if self.elsewhere is None:
            self.agent.load()
            read_metrics = meters(self.agent.backend, self.agent.judging, self.agent.others)
        began = time.monotonic()
        interrupted = False
        try:
            asyncio.run(self._run_until_interrupt(on_outcome))
        except (KeyboardInterrupt, asyncio.CancelledError):
            interrupted = True
        seconds = time.monotonic() - began
        try:
            engine = read_metrics()
        except PluginError as error:  # the outcomes count more than the figures
            engine = {"error": str(error)}
        return EvaluationRun(seconds, engine, interrupted)

    async def run(self, on_outcome: Callable[[Outcome], object] = bool) -> None:
        """Run all open problems and call ``on_outcome`` with each written outcome. Raises JournalError."""
        rows = iter(self.open_rows)
        workers = [asyncio.ensure_future(self._work(rows, on_outcome)) for _ in range(self.at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    @property
    def open_rows(self) -> list[DataRow]:
        """Problems without a verdict."""
        done = self.outcomes.done
        return [row for row in self.data.rows if row.number not in done]

    @property
    def done_outcomes(self) -> list[Outcome]:
        """The outcomes of the problems, failures included, in their order."""
        numbers = {row.number for row in self.data.rows}
        return [outcome for number, outcome in sorted(self.outcomes.known.items()) if number in numbers]

    @property
    def gave_up(self) -> bool:
        """Whether problems were left out because too many had failed."""
        return self.failed >= self.max_errors

    async def _run_until_interrupt(self, on_outcome: Callable[[Outcome], object]) -> None:
        """Raises CancelledError at the first stop signal; files are closed, and the journals of open problems stay."""
        task = asyncio.ensure_future(self.run(on_outcome))
        loop = asyncio.get_running_loop()
        with STOP_SIGNALS.handled(lambda: loop.call_soon_threadsafe(task.cancel)):
            await task

    async def _work(self, rows: Iterator[DataRow], on_outcome: Callable[[Outcome], object]) -> None:
        for row in rows:
            if self.gave_up:
                return
            outcome = await (self.elsewhere or self.solve)(row)
            self.failed += outcome.error is not None
            self.outcomes.add(outcome)
            on_outcome(outcome)


def settings_of(agent: Agent, problems: Data, *, seed: int, budget: Budget, shard: str | None = None) -> dict[str, Any]:
    """Everything that determines the outcomes of an evaluation; a folder is continued only with equal settings.

    ``problems`` are those of all shards, so that the settings of shards differ in ``shard`` alone.
    """
    return {
        **agent.settings, "seed": seed, "budget": asdict(budget),
        "task": agent.task.name, "task_text": agent.task.digest,
        "data": {"rows": [row.number for row in problems.rows], "digest": problems.digest},
        **({} if shard is None else {"shard": shard}),
    }  # fmt: skip


def recorded_backend(folder: Path | None) -> str | None:
    """The backend that an evaluation was begun with where its user named none; None for one that is not begun.

    Only the default backend and its fallback count: any other is named by the user who continues. Raises JournalError.
    """
    path = None if folder is None else folder / FILE
    if path is None or not path.exists() or torn_at_once(path):
        return None
    backend = read(path)[0].get("backend")
    name = backend.get("name") if isinstance(backend, dict) else None
    return name if name in factory.default_backends() else None


def raw_reply(result: Result, path: Path) -> str | None:
    """The text that the answer was read from: an attempt, or the completion of ``answer`` in the journal at ``path``.

    None without an answer, and where a template spells it.
    """
    thought = result.thought
    if thought is None or result.answer is None:
        return None
    with suppress(JournalError):  # a journal that was removed meanwhile has no more than the outcome
        for event in reversed(journal.read(path)):
            if event.type == "completion" and event.data["id"] == thought.request and event.data["role"] in ATTEMPTS:
                return thought.text
            if event.type == "completion" and event.data["role"] == "answer" and event.data["thought"] == thought.id:
                return next((each["text"] for each in event.data["completions"]), None)
    return None


ATTEMPTS = ("io", "cot")
"""Roles whose completion is a whole attempt."""


def journal_name(number: int) -> str:
    """The file of a problem's journal."""
    return f"{number:06}.jsonl"


def open_outcomes(
    folder: Path, settings: dict[str, Any], digest_of: Callable[[Collection[int]], str] | None = None
) -> Outcomes:
    """Begin or continue the evaluation in a folder, also with more rows where ``digest_of`` a part of them is given.

    Raises JournalError where it belongs to another one.
    """
    journals = folder / JOURNALS
    if not (folder / FILE).exists() and journals.is_dir() and any(journals.iterdir()):
        raise JournalError(
            f"{journals} holds journals, but {folder / FILE} is missing: they may be of another evaluation. Give "
            "another folder with --out, or remove this one."
        )
    return Outcomes(folder / FILE, settings, digest_of)


def _can_resume(path: Path) -> bool:
    """Whether a journal holds events to continue from; an empty or torn one is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return False
    if journal.read(path):
        return True
    path.unlink()
    return False


def known_values(agent: Agent, result: Result, row: Mapping[str, Any] | None = None) -> list[tuple[float, bool]]:
    """Value and truth (on the way to a solution) of every judged thought whose truth the task knows.

    Raises PluginError.
    """
    tree = result.tree
    inside = PluginBoundary("task", agent.task.name, at_input(result.input), passing=[ValueError])
    with inside:
        task = agent.task.for_row(result.input, row or None)
    values: list[tuple[float, bool]] = []
    for thought in tree:
        if thought.value is None or thought.parent is None:
            continue
        try:
            with inside:
                truth = task.is_promising(result.input, tree.steps(thought), thought.state)
        except ValueError:  # an unreadable state, which stays in the tree when the legality filter is off
            truth = None
        if truth is not None:
            values.append((thought.value, truth))
    return values
