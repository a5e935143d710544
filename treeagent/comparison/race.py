"""Backends in turn on the same searches: every tree held against the first one, every repeat timed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer

from ..cli.arguments import INTERRUPTED
from ..cli.session import run
from ..display.progress import Progress
from ..runtime.agent import Agent
from ..runtime.result import Result
from ..taskfile.dataset import Data, DataRow
from .same_tree import Divergence, Exchange, ExchangeRecorder, first_difference, same_end
from .speedup import Pass, Score

Entry = tuple[Agent, ExchangeRecorder]
Ran = tuple[Result, list[Exchange]]


@dataclass(frozen=True, slots=True)
class TreesDiffer:
    """The first difference, and in which run it was."""

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


@dataclass(slots=True)
class Race:
    """The backends ``names``, each entered (opened, not loaded) by ``enter`` as often as it has to be fresh.

    Entering all of them at once tells what cannot be opened before the first request.
    """

    names: Sequence[str]
    enter: Callable[[str], Entry]
    data: Data
    shown: Progress
    repeat: int = 1
    warm: bool = False
    """Keep each backend with what it caches; otherwise each pass has a fresh one."""
    passes: list[list[Pass]] = field(default_factory=list)
    """Of each whole repeat, one for each backend."""
    parting: TreesDiffer | None = None
    interrupted: bool = False

    def run(self) -> None:
        """All repeats, or until the first difference or Ctrl-C. Raises typer.Exit when that leaves no whole repeat."""
        try:
            self._run([self.enter(name) for name in self.names])
        except (typer.Exit, KeyboardInterrupt):
            if not self.passes:
                raise
            self.interrupted = True

    @property
    def timing(self) -> bool:
        """Whether speed is the question; an untimed pass comes first then: a process is slow at what is new to it."""
        return self.repeat > 1 or self.warm

    @property
    def scores(self) -> list[Score]:
        """What each backend did in the whole repeats."""
        return [Score(name, tuple(done)) for name, done in zip(self.names, zip(*self.passes, strict=True), strict=True)]

    def _run(self, entries: list[Entry]) -> None:
        firsts: list[Ran] = []
        order = list(range(len(entries)))
        start = 0 if self.timing else 1
        for number in range(start, self.repeat + 1):
            done: dict[int, Pass] = {}
            for place in order:
                name = self.names[place]
                if number > start and not self.warm:
                    entries[place] = self.enter(name)
                done[place], ran = self._pass(name, number, *entries[place])
                if not self.warm or number == self.repeat:
                    asyncio.run(entries[place][1].aclose())
                firsts = firsts or ran
                self.parting = self.parting or self._part(name, number, firsts, ran)
            if number > 0 or self.parting is not None:
                self.passes.append([done[place] for place in sorted(order)])
            if self.parting is not None:
                return
            order = [*order[1:], order[0]]  # no backend is always the first

    def _pass(self, name: str, number: int, agent: Agent, recorder: ExchangeRecorder) -> tuple[Pass, list[Ran]]:
        """All inputs, one after another."""
        done, ran = Pass(), []
        self.shown.begin(f"loading {name}")
        recorder.load()
        figures = recorder.meter()
        turn = ("" if self.repeat == 1 else f"repeat {number} of {self.repeat}, ") if number else "untimed, "
        for place, row in enumerate(self.data.rows, 1):
            self.shown.begin(f"{turn}{name}: {row.input} ({place} of {len(self.data.rows)})")
            result = run(agent, row.input, self.shown)
            if result.ended == "interrupted":
                raise typer.Exit(INTERRUPTED)
            ran.append((result, recorder.taken()))
            done.add(result, self._right(row, result))
        done.engine = figures()
        return done, ran

    def _right(self, row: DataRow, result: Result) -> bool | None:
        """The gold answer's verdict, else the task's; an input without any answer is not solved, whoever judges."""
        if len(self.data.gold):
            return self.data.gold.grade(row, result.answer)
        return False if result.answer is None else result.solved

    def _part(self, name: str, number: int, firsts: Sequence[Ran], ran: Sequence[Ran]) -> TreesDiffer | None:
        for row, (expected, asked), (got, said) in zip(self.data.rows, firsts, ran, strict=True):
            if (found := first_difference(asked, said) or same_end(expected, got)) is not None:
                return TreesDiffer(row.input, name, number, found)
        return None
