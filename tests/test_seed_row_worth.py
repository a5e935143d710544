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
    assert weighed == pytest.approx(seconds(16), rel=0.05)
    assert weighed < 0.8


def test_the_last_rows_are_worth_a_pass_and_others_a_row() -> None:
    """One row alone is always the last; of two that differ in pace or in room, the slower one is."""
    assert row_worths(rows(1), COSTS) == [1.0]
    assert row_worths(rows(3), COSTS) == [1.0] * 3
    slow, fast = rows(2)
    for _ in range(8):
        slow.append([1])
        fast.append([1, 1, 1, 1])
    beside = 2 * (COSTS(2) - COSTS(1)) / COSTS(2)
    assert row_worths([slow, fast], COSTS) == [1.0, pytest.approx(beside, abs=1e-2)]
    short = rows(1, limit=8)
    assert row_worths([*rows(1), *short], COSTS) == [1.0, pytest.approx(beside, abs=1e-2)]
