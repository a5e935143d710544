"""What tokens of a row are worth: drafts for rows that end before the others do not lengthen the whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from seed_tools import COSTS

from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.speculation import speculator as module
from treeagent.backends.seed.speculation.row_worth import row_worths
from treeagent.backends.seed.speculation.speculator import Speculator
from treeagent.request import Sampling

LENGTH = 64
"""Tokens of a text."""


def rows(count: int, limit: int = LENGTH) -> list[SequenceState]:
    """Texts that have nothing yet; what follows a token 0 can be guessed, what follows a token 1 cannot."""
    return [SequenceState([0], 1, Sampling(), place, limit) for place in range(count)]


class Guesses(Drafter):
    """Drafts four tokens for the rows whose next tokens it knows, and none for others."""

    name = "guesses"

    def __init__(self, known: int) -> None:
        self._known = known

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        sizes = [min(4, depth, row.room) if row.stream < self._known else 0 for row in rows]
        return [Draft([0] * size, list(range(-1, size - 1)), [0.95] * size) for size in sizes]


def seconds(known: int, count: int = 16) -> float:
    """Of all passes, where drafts of the first ``known`` rows are always right, over those without drafts."""
    speculator, live, spent = Speculator(COSTS), rows(count), 0.0
    speculator.start(Guesses(known))
    while live:
        drafts = [own[0] for own in speculator.draft([[row] for row in live], 1000)] or [Draft()] * len(live)
        spent += COSTS(len(live), sum(map(len, drafts)))
        for row, draft in zip(live, drafts, strict=True):
            row.append([0] * (1 + len(draft)))
        speculator.record_outcomes({"": [(claim, True) for draft in drafts for claim in draft.confidence]})
        live = [row for row in live if row.position < LENGTH]
    return spent / (LENGTH * COSTS(count))


@pytest.mark.parametrize("known", [4, 8, 12])
def test_rows_that_are_guessed_do_not_lengthen_those_that_are_not(known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end early, and the others last as long as before; by tokens per second alone the whole takes longer."""
    assert seconds(known) < 1.02
    monkeypatch.setattr(module, "row_worths", lambda rows, cost: [1.0] * len(rows))
    assert seconds(known) > 1.02


def test_where_all_rows_are_guessed_all_are_drafted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly as fast as by tokens per second: first drafts are few, and rows that got some wait for the others."""
    weighed = seconds(16)
    monkeypatch.setattr(module, "row_worths", lambda rows, cost: [1.0] * len(rows))
    assert weighed < min(0.7, 1.12 * seconds(16))


def test_the_last_rows_are_worth_a_pass_and_others_a_row() -> None:
    """One row alone is always the last; of many that differ in pace or in room, the slow ones are."""
    assert row_worths(rows(1), COSTS) == [1.0]
    assert row_worths(rows(16), COSTS) == [1.0] * 16
    *slow, fast = rows(16)
    for _ in range(8):
        fast.append([1, 1, 1, 1])
        for row in slow:
            row.append([1])
    beside = pytest.approx(16 / 15 * (COSTS(16) - COSTS(1)) / COSTS(16), abs=1e-3)
    assert row_worths([*slow, fast], COSTS) == [*[1.0] * 15, beside]
    assert row_worths([*rows(15), *rows(1, limit=8)], COSTS) == [*[1.0] * 15, beside]
