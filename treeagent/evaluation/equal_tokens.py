"""Several searches on the same problems at equal tokens: curves, a table, and a paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..runtime import journal
from ..runtime.agent import Agent
from ..task import Task
from ..taskfile.dataset import Data, DataRow
from .anytime import Curve, GradedAnswer, curve
from .outcomes import Outcome
from .statistics import Paired, Share, paired, share

_POINTS = 60
"""Most points of a drawn curve."""


@dataclass(frozen=True, slots=True)
class SearchCurve:
    """One search: the curve of every problem with a verdict, by number."""

    name: str
    curves: Mapping[int, Curve]

    def at(self, budget: int, numbers: Sequence[int]) -> Share:
        """The accuracy on some problems under a budget of tokens for each."""
        return share(sum(self.curves[number].at(budget) for number in numbers), len(numbers))

    def tokens(self, budget: int, numbers: Sequence[int]) -> float:
        """Mean tokens of a problem under a budget."""
        return sum(min(budget, self.curves[number].spent) for number in numbers) / len(numbers)

    def judging(self, numbers: Sequence[int]) -> float:
        """The judge's part of all tokens."""
        spent = sum(self.curves[number].spent for number in numbers)
        return sum(self.curves[number].judging for number in numbers) / spent if spent else 0.0


@dataclass(frozen=True, slots=True)
class EqualTokens:
    """The comparison; the first search is the one that the others are compared with."""

    searches: tuple[SearchCurve, ...]
    numbers: tuple[int, ...]
    """Problems with a verdict in every search."""
    budget: int
    """Tokens of a problem, the same for every search."""

    @property
    def budgets(self) -> list[int]:
        """An eighth, a quarter, a half of the budget, and all of it."""
        return sorted({max(1, self.budget // part) for part in (8, 4, 2, 1)})

    def against_first(self, search: SearchCurve) -> Paired:
        """A search against the first one at the whole budget."""
        first = self.searches[0]
        return paired(
            [(search.curves[n].at(self.budget), first.curves[n].at(self.budget)) for n in self.numbers]
        )  # fmt: skip

    def points(self, search: SearchCurve) -> list[tuple[int, Share]]:
        """The accuracy wherever it changes up to the budget, at most :data:`_POINTS` of them."""
        ends = {tokens for number in self.numbers for tokens in search.curves[number].tokens if tokens <= self.budget}
        places = sorted({*ends, self.budget})
        stride = max(1, -(-len(places) // _POINTS))
        kept = [*places[::stride], *places[-1:]]
        return [(tokens, search.at(tokens, self.numbers)) for tokens in dict.fromkeys(kept)]

    def to_json(self) -> dict[str, Any]:
        """Part of the object that ``treeagent anytime --json`` prints."""
        rows = []
        for search in self.searches:
            at = [{"tokens": tokens, **_share(search.at(tokens, self.numbers))} for tokens in self.budgets]
            against = None if search is self.searches[0] else asdict(self.against_first(search))
            rows.append(
                {
                    "search": search.name, "at": at, "tokens": search.tokens(self.budget, self.numbers),
                    "judging": search.judging(self.numbers), "against_first": against,
                    "curve": [{"tokens": tokens, **_share(part)} for tokens, part in self.points(search)],
                }
            )  # fmt: skip
        return {"problems": len(self.numbers), "budget": self.budget, "searches": rows}


def _share(part: Share) -> dict[str, Any]:
    return {**asdict(part), "value": part.value}


def compare(searches: Sequence[SearchCurve], budget: int | None) -> EqualTokens:
    """The comparison under a budget, or under the most tokens that any problem took. Raises ConfigError."""
    numbers = sorted(set.intersection(*(set(search.curves) for search in searches)))
    if not numbers:
        raise ConfigError("no problem has a verdict in every search, so there is nothing to compare")
    spent = max(search.curves[number].spent for search in searches for number in numbers)
    return EqualTokens(tuple(searches), tuple(numbers), spent if budget is None else budget)


def curves_of(name: str, agent: Agent, data: Data, outcomes: Sequence[Outcome], journals: Path) -> SearchCurve:
    """The curves of an evaluation's problems with a verdict. Raises JournalError and InputError."""
    rows = {row.number: row for row in data.rows}
    found = {}
    for outcome in outcomes:
        if outcome.error is None and outcome.right is not None:
            row = rows[outcome.number]
            reader = _RowVerdicts(agent.task.for_row(row.input, row.fields or None), data, row)
            events = journal.read(journals / f"{row.number:06}.jsonl")
            found[row.number] = curve(events, reader.read, reader.spelled, outcome.right)
    return SearchCurve(name, found)


@dataclass(frozen=True, slots=True)
class _RowVerdicts:
    """Verdicts on the answers of one row."""

    task: Task
    data: Data
    row: DataRow

    def read(self, steps: Sequence[str], text: str) -> GradedAnswer:
        """The verdict of the gold answer, else of the task."""
        verified = bool(self.task.can_verify and self.task.verify(self.row.input, steps, text))
        right = self.data.gold.grade(self.row, text)
        return GradedAnswer(text, self.task.answer_key(text), verified if right is None else right, verified)

    def spelled(self, steps: Sequence[str], data: dict[str, Any]) -> str | None:
        """The answer of a terminal thought where no model writes it."""
        if self.task.has("answer"):
            return None
        thought = self.task.root(self.row.input)
        state = type(thought)(
            data["id"], data["parent"], data["text"], data["state"], data["state"], data["depth"], terminal=True
        )  # fmt: skip
        return self.task.path_answer(self.row.input, state, list(steps))
