"""When drafting pauses: drafts that do not pay take hardly any time, and those that do go on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from seed_tools import COSTS

from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.records import MODEL, Draft, SequenceState
from treeagent.backends.seed.speculation.gate import GRANT, LONGEST, Gate
from treeagent.backends.seed.speculation.speculator import Speculator


def chain(nodes: int, claim: float) -> Draft:
    """Tokens one after another, of which each is accepted with this chance if one believes it."""
    return Draft(list(range(nodes)), list(range(-1, nodes - 1)), [claim] * nodes)


def test_drafting_that_costs_time_pauses_longer_each_time() -> None:
    """A few rounds decide; then it is tried again, and a good time keeps it going."""
    gate, tried = Gate(), []
    for turn in range(3 * LONGEST):
        if gate.open():
            tried.append(turn)
            gate.learn(1.0, 1.1, 1.0, 1.0)
    rests = [later - earlier for earlier, later in pairwise(tried) if later - earlier > 1]
    assert tried[0] == 0
    assert rests == sorted(rests)
    assert rests[0] < 100
    assert max(rests) <= LONGEST + 1
    assert len(tried) * 0.1 <= (GRANT + 0.1) * (len(rests) + 1) < 0.001 * 3 * LONGEST
    gate = Gate()
    for _ in range(100):
        assert gate.open()
        gate.learn(1.5, 1.1, 1.0, 1.0)


def test_a_round_that_reads_new_prompts_does_not_end_drafting() -> None:
    """But the pause after a trial is the longer, and where new ones come again and again, it does end."""
    pauses = []
    for reading in (0.0, 2.0):
        gate = Gate()
        gate.learn(1.0, 1.0 + reading, 1.0, 1.0, reading)
        for _ in range(20):
            assert gate.open()
            gate.learn(1.0, 1.0, 1.0, 1.0)
        gate.learn(1.0, 1.6, 1.0, 1.0)
        pauses.append(next(rounds for rounds in range(1, LONGEST) if gate.open()))
    assert pauses[1] > 3 * pauses[0]
    gate = Gate()
    for _ in range(3):
        gate.learn(1.1, 2.1, 1.0, 1.0, 1.05)
    assert gate.open()
    gate.learn(1.1, 2.1, 1.0, 1.0, 1.05)
    assert not gate.open()


@pytest.mark.parametrize("work", [0.0, 0.02, 0.08, 0.2])
@pytest.mark.parametrize("claim", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("rows", [1, 4, 16, 64])
def test_drafts_that_are_never_right_take_two_hundredths_of_the_time(rows: int, claim: float, work: float) -> None:
    """From the first of 64 rounds on, whether their tokens take the time or the drafter does.

    It needs a share of a plain pass (``work``) to propose what is never right, or nothing (a ``claim`` of 0).
    """
    speculator, spent, plain = Speculator(COSTS), 0.0, COSTS(rows)
    estimator, nodes = speculator.estimator(""), 8 if claim else 0
    for _ in range(64):
        spent += plain
        if speculator.gate.open():
            drafts = [chain(nodes, claim)] * rows
            kept = speculator._select(drafts, [1.0] * rows, rows, 10_000, work * plain, together=True)
            spent += COSTS(rows, sum(map(len, kept))) - plain + work * plain
            speculator.record_outcomes({"": [(claim, False) for draft in kept if len(draft)]})
    assert estimator.accepted == 0
    assert 64 * plain / spent >= 0.98


class HasRead(Drafter):
    """A draft model that has made a pass."""

    passes = 1

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        return [Draft() for _ in rows]


@pytest.mark.parametrize("accepted", [True, False])
def test_a_draft_model_may_read_its_prompts(accepted: bool) -> None:
    """Rounds that take as long as fifty do not end its drafts; drafts that are never accepted soon do."""
    speculator = Speculator(COSTS)
    speculator.start(HasRead())
    plain, rounds = COSTS(4), 0
    while rounds < 100 and speculator.gate.open():
        seconds = 50 * plain if rounds % 30 == 0 else 0.1 * plain
        kept = speculator._select(
            [Draft([1, 2], [-1, 0], [0.9, 0.9], by=MODEL)] * 4, [1.0] * 4, 4, 99, seconds, together=True
        )
        speculator.record_outcomes({MODEL: [(0.9, accepted) for draft in kept if len(draft)]})
        rounds += 1
    assert rounds == 100 if accepted else rounds < 12


def test_drafts_that_are_right_are_soon_as_long_as_they_could_be() -> None:
    """The first ones are short, until a few of them were accepted."""
    speculator, sizes = Speculator(COSTS), []
    for _ in range(6):
        [kept] = speculator._select([chain(8, 0.9)], [1.0], 1, 10_000, 0.0, together=True)
        sizes.append(len(kept))
        speculator.record_outcomes({"": [(0.9, True)] * len(kept)})
    assert sizes[0] == 1
    assert sizes[-1] == 8
