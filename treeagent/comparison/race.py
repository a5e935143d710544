"""Run the same searches on several backends in turn: compare every tree with the first one, time every repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..runtime.agent import Agent
from ..runtime.result import Result
from ..taskfile.dataset import Data, DataRow
from .same_tree import Divergence, Exchange, ExchangeRecorder, first_difference, same_end
from .speedup import Pass, Score

Entry = tuple[Agent, ExchangeRecorder]
SearchRecord = tuple[Result, list[Exchange]]
"""The result of one search and everything it asked its backend."""


@dataclass(frozen=True, slots=True)
class TreesDiffer:
    """The first difference between two trees, and the run it occurred in."""

    input: str
    backend: str
    repeat: int
    """From 1; 0 is the untimed pass."""
    difference: Divergence

    def to_json(self) -> dict[str, Any]:
        """Part of the object that ``treeagent compare --json`` prints."""
        return {
            "input": self.input,
            "backend": self.backend,
            "repeat": self.repeat,
            **self.difference.to_json(),
        }


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What a race measured in its complete repeats."""

    backends: tuple[str, ...]
    inputs: int
    warm: bool
    passes: tuple[tuple[Pass, ...], ...]
    """One row for each complete repeat, with one pass for each backend."""
    difference: TreesDiffer | None
    interrupted: bool
    """Whether Ctrl-C ended the race; an incomplete repeat is not in ``passes``."""

    @property
    def scores(self) -> list[Score]:
        """The passes of each backend over all complete repeats."""
        columns = zip(*self.passes, strict=True)
        return [Score(name, tuple(column)) for name, column in zip(self.backends, columns, strict=True)]


@dataclass(frozen=True, slots=True)
class Race:
    """A comparison of backends; all of them are opened before the first request, so that errors appear early."""

    backends: Sequence[str]
    enter: Callable[[str], Entry]
    """Opens a backend by its name without loading it; called once for every fresh instance."""
    data: Data
    search: Callable[[Agent, DataRow], Result]
    """Runs one search on one row's input; a result that ended ``interrupted`` ends the race."""
    announce: Callable[[str], None]
    """Called with the name of each stage when it begins."""
    repeat: int = 1
    warm: bool = False
    """Keep each backend and its caches from pass to pass; otherwise each pass opens a fresh one."""

    def run(self) -> RaceResult:
        """Run all repeats, or stop at the first difference or at Ctrl-C."""
        passes: list[tuple[Pass, ...]] = []
        difference: TreesDiffer | None = None
        interrupted = False
        try:
            for row, mismatch in self._repeats():
                passes.append(row)
                difference = mismatch
        except KeyboardInterrupt:
            interrupted = True
        return RaceResult(
            tuple(self.backends), len(self.data.rows), self.warm, tuple(passes), difference, interrupted
        )  # fmt: skip

    def _repeats(self) -> Iterator[tuple[tuple[Pass, ...], TreesDiffer | None]]:
        """The passes of each complete repeat; the last one comes with the first difference, where there is one.

        Where speed is measured, an untimed pass comes first: the first pass of a process is slower than later ones.
        """
        entries = [self.enter(name) for name in self.backends]
        first_records: list[SearchRecord] = []
        difference: TreesDiffer | None = None
        order = list(range(len(entries)))
        start = 0 if self.repeat > 1 or self.warm else 1
        for number in range(start, self.repeat + 1):
            passes: dict[int, Pass] = {}
            for place in order:
                name = self.backends[place]
                if number > start and not self.warm:
                    entries[place] = self.enter(name)
                passes[place], records = self._pass(name, number, *entries[place])
                if not self.warm or number == self.repeat:
                    asyncio.run(_close(*entries[place]))
                first_records = first_records or records
                difference = difference or self._compare(name, number, first_records, records)
            if number > 0 or difference is not None:
                yield tuple(passes[place] for place in sorted(order)), difference
            if difference is not None:
                return
            order = [*order[1:], order[0]]  # a fixed order would favour the same backend every time

    def _pass(
        self, name: str, number: int, agent: Agent, recorder: ExchangeRecorder
    ) -> tuple[Pass, list[SearchRecord]]:
        """Search all inputs, one after another. Raises KeyboardInterrupt when a search was interrupted."""
        records: list[SearchRecord] = []
        verdicts: list[bool | None] = []
        self.announce(f"loading {name}")
        recorder.load()
        read_metrics = recorder.meter()
        repeat = ("" if self.repeat == 1 else f"repeat {number} of {self.repeat}, ") if number else "untimed, "
        for place, row in enumerate(self.data.rows, 1):
            self.announce(f"{repeat}{name}: {row.input} ({place} of {len(self.data.rows)})")
            result = self.search(agent, row)
            if result.ended == "interrupted":
                raise KeyboardInterrupt
            records.append((result, recorder.take()))
            verdicts.append(self._verdict(row, result))
        return Pass.of([result for result, _ in records], verdicts, read_metrics()), records

    def _verdict(self, row: DataRow, result: Result) -> bool | None:
        """The verdict of the gold answer, else of the task; None where there is no gold answer and no check.

        Raises InputError for a gold answer that cannot be read.
        """
        try:
            verdict = self.data.gold.grade(row, result.answer)
        except ValueError as error:
            raise InputError(f"{row.input}: its gold answer cannot be read: {error}") from error
        return result.solved if verdict is None else verdict

    def _compare(
        self, name: str, number: int, expected: Sequence[SearchRecord], got: Sequence[SearchRecord]
    ) -> TreesDiffer | None:
        for row, (result, exchanges), (other, others) in zip(self.data.rows, expected, got, strict=True):
            difference = first_difference(exchanges, others) or same_end(result, other)
            if difference is not None:
                return TreesDiffer(row.input, name, number, difference)
        return None


async def _close(agent: Agent, recorder: ExchangeRecorder) -> None:
    """Close the backends of an entry."""
    for used in dict.fromkeys((recorder, agent.judging)):
        await used.aclose()
