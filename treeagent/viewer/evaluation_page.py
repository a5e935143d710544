"""The page over all problems of an evaluation: a table, its summary, and the tree of each problem in outline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import JournalError
from ..evaluation.outcomes import Outcome, read
from ..evaluation.run import FILE, JOURNALS, REPEATS, journal_name
from ..evaluation.summary import compared, summary
from .bounded_text import bounded
from .outlines import outline
from .page import assembled, data_block

TEXTS, TREES = 4_000_000, 4_000_000
"""Bytes that the texts of all problems have together, and their trees, however many problems there are."""
LONGEST = {"input": 1_200, "answer": 600, "gold": 600, "error": 900, "group": 120, "reply": 6_000}
"""Most bytes of a text of one problem; of many problems each has its part of ``TEXTS``."""
LARGEST = 60_000
"""Most bytes of a tree."""


@dataclass(frozen=True, slots=True)
class EvaluationFolder:
    """The folder of an evaluation, read."""

    path: Path
    settings: dict[str, Any]
    outcomes: list[Outcome]
    """By number."""
    repeats: list[dict[int, Outcome]]
    """The further repeats."""

    @classmethod
    def read(cls, path: Path) -> EvaluationFolder:
        """Raises JournalError for a folder that is none of an evaluation, or damaged."""
        if not (path / FILE).is_file():
            raise JournalError(f"{path} is no folder of an evaluation: there is no {FILE} in it")
        settings, known, _ = read(path / FILE)
        repeats = [read(file)[1] for file in sorted((path / REPEATS).glob(f"*/{FILE}"))]
        return cls(path, settings, [known[number] for number in sorted(known)], repeats)

    @property
    def wanted(self) -> int:
        """Problems of the evaluation, run or not."""
        data = self.settings.get("data")
        rows = data.get("rows") if isinstance(data, dict) else None
        return max(len(rows) if isinstance(rows, list) else 0, len(self.outcomes))

    def journal(self, number: int) -> Path:
        """The journal of a problem, which may not exist."""
        return self.path / JOURNALS / journal_name(number)


def evaluation_page(folder: EvaluationFolder, target: Path, other: EvaluationFolder | None = None) -> str:
    """The page, to be written to ``target``; ``other`` is an evaluation to compare with, problem by problem."""
    total = summary(folder.outcomes, folder.wanted)
    room = TEXTS // max(1, len(folder.outcomes))
    verdicts = {} if other is None else {outcome.input: outcome for outcome in other.outcomes}
    pair = None if other is None else compared(folder.outcomes, other.outcomes)
    name = folder.path.resolve().name
    data = {
        "name": name,
        "title": title(folder.settings),
        "settings": folder.settings | {"data": _rows_left_out(folder.settings.get("data"))},
        "wanted": folder.wanted,
        "ranking": [total.ranking.auc, total.ranking.low, total.ranking.high],
        "unparsed": [total.unparsed, total.judgements_unparsed],
        "other": None if other is None else other.path.resolve().name,
        "pair": None if pair is None else [
            pair.both, pair.first, pair.second, pair.neither, pair.difference, pair.low, pair.high, pair.p
        ],
        "repeats": len(folder.repeats),
        "problems": [
            _problem(outcome, room, folder, verdicts.get(outcome.input), target) for outcome in folder.outcomes
        ],
    }  # fmt: skip
    most = min(LARGEST, TREES // max(1, len(folder.outcomes)))
    trees = [
        outline(path, most) if (path := folder.journal(outcome.number)).is_file() else None
        for outcome in folder.outcomes
    ]
    blocks = [data_block("evaluation", data), data_block("trees", trees)]
    scripts = ("text.js", "shares.js", "outline.js", "table.js", "evaluation.js")
    return assembled("evaluation.html", ("colours.css", "evaluation.css"), scripts, name, blocks)


def title(settings: Mapping[str, Any]) -> str:
    """Task, search, backend and model, as far as the settings have them."""
    search, backend = settings.get("search"), settings.get("backend")
    parts = [settings.get("task"), search.get("name") if isinstance(search, dict) else search]
    if isinstance(backend, dict):
        parts.append(" ".join(str(backend[name]) for name in ("name", "model") if backend.get(name)))
    return ", ".join(str(part) for part in parts if part)


def _problem(
    outcome: Outcome, room: int, folder: EvaluationFolder, other: Outcome | None, target: Path
) -> dict[str, Any]:
    texts = {name: getattr(outcome, name) for name in LONGEST}
    most = sum(LONGEST.values())
    cut = {
        name: None if text is None else bounded(text, min(LONGEST[name], max(8, room * LONGEST[name] // most)))
        for name, text in texts.items()
    }
    tries = [outcome, *(known[outcome.number] for known in folder.repeats if outcome.number in known)]
    graded = [each.right for each in tries if each.error is None and each.right is not None]
    known = {
        "number": outcome.number, **cut, "verdict": verdict(outcome), "ended": outcome.ended,
        "tokens": outcome.tokens, "completion": outcome.completion_tokens, "seconds": outcome.seconds,
        "calls": outcome.calls, "thoughts": outcome.thoughts, "dollars": outcome.dollars,
        "page": _link(folder.journal(outcome.number).with_suffix(".html"), target),
        "early": [outcome.early_hits, outcome.early_misses, outcome.early_tokens, outcome.early_seconds],
        "other": None if other is None else verdict(other),
        "tries": [sum(graded), len(graded)] if folder.repeats else None,
    }  # fmt: skip
    return {name: value for name, value in known.items() if value is not None}


def verdict(outcome: Outcome) -> str:
    """``right``, ``wrong``, ``unanswered`` (which counts as wrong), ``ungraded`` or ``failed``."""
    if outcome.error is not None:
        return "failed"
    if outcome.right is None:
        return "ungraded"
    if outcome.right:
        return "right"
    return "wrong" if outcome.answer is not None else "unanswered"


def _link(page: Path, target: Path) -> str | None:
    """The way from the page over all problems to that of one, where there is one."""
    if not page.is_file():
        return None
    try:
        return quote(Path(os.path.relpath(page.resolve(), target.resolve().parent)).as_posix())
    except ValueError:  # on another drive
        return page.resolve().as_uri()


def _rows_left_out(data: Any) -> Any:
    """The settings of the data without the numbers of its rows, which may be many."""
    return {name: value for name, value in data.items() if name != "rows"} if isinstance(data, dict) else data


def journals_of(folder: EvaluationFolder) -> Sequence[Path]:
    """The journals that exist, in the order of the problems."""
    return [path for outcome in folder.outcomes if (path := folder.journal(outcome.number)).is_file()]
