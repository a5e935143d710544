"""What the speculator returns and shows to its drafter, and when prompts are read and drafting pauses."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from seed_tools import COSTS

from treeagent.backends.seed.drafters.base import Drafter, RoundLoad
from treeagent.backends.seed.drafters.model.prefill_policy import PrefillPolicy
from treeagent.backends.seed.records import MODEL, BeamGroup, Draft, SequenceState
from treeagent.backends.seed.speculation import speculator as speculator_module
from treeagent.backends.seed.speculation.speculator import Speculator
from treeagent.request import Sampling


def row(limit: int) -> SequenceState:
    """A branch that has nothing yet."""
    return SequenceState([1, 2], 2, Sampling(), 0, limit)


class Pairs(Drafter):
    """Two tokens for every sequence, and one for every beam; records what it is shown."""

    name = "pairs"

    def __init__(self) -> None:
        self.observed: list[tuple[SequenceState, int]] = []
        self.forgotten: list[SequenceState] = []

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        return [Draft([5], [-1], [1.0]) if row.group else Draft([5, 6], [-1, 0], [0.9, 0.9]) for row in rows]

    def beam_nodes(self, group: BeamGroup) -> int:
        """See :class:`Drafter`."""
        return 4

    def observe(self, row: SequenceState, start: int) -> None:
        """See :class:`Drafter`."""
        self.observed.append((row, start))

    def forget(self, row: SequenceState) -> None:
        """See :class:`Drafter`."""
        self.forgotten.append(row)


def beams() -> list[SequenceState]:
    """The sequences of a group of two beams."""
    group = BeamGroup(run=None)  # type: ignore[arg-type]  # nothing is advanced
    group.rows = [SequenceState([1, 2, 3 + i], 2, Sampling(), i, 20, group) for i in range(2)]
    return group.rows


def test_the_speculator_returns_drafts_for_sequences_and_groups_as_far_as_there_is_room() -> None:
    """One list for every target, in order; groups get whole drafts or none, and without a drafter there are none."""
    speculator = Speculator(COSTS, draft_tokens=1)
    targets = [[row(20)], beams(), [row(20)], beams()]
    assert speculator.draft(targets, 100) == []
    speculator.start(Pairs())
    sizes = [[len(draft) for draft in drafts] for drafts in speculator.draft(targets, 100)]
    assert sizes == [[1], [1, 1], [1], [1, 1]]
    sizes = [[len(draft) for draft in drafts] for drafts in speculator.draft(targets, 7)]
    assert sizes == [[1], [1, 1], [1], [0, 0]]
    sizes = [[len(draft) for draft in drafts] for drafts in speculator.draft(targets, 0)]
    assert sizes == [[0], [0, 0], [0], [0, 0]]


def test_the_drafter_observes_each_committed_token_once_and_no_beams() -> None:
    """A sequence that was forgotten, such as a preempted one, is observed from its start again."""
    speculator, drafter, sequence, group = Speculator(COSTS, draft_tokens=1), Pairs(), row(20), beams()
    speculator.start(drafter)
    speculator.draft([[sequence], group], 100)
    speculator.draft([[sequence], group], 100)
    sequence.append([7, 8])
    speculator.forget([sequence, *group])
    assert drafter.observed == [(sequence, 0), (sequence, 2)]
    assert drafter.forgotten == [sequence, *group]
    speculator.draft([[sequence]], 100)
    assert drafter.observed[-1] == (sequence, 0)


def test_a_prompt_is_read_where_that_pays_in_what_is_left_of_the_text() -> None:
    """Long texts are worth it at once, short ones only when several of them have gone without."""
    joining = PrefillPolicy(takes=lambda tokens: tokens / 1000, saves=lambda rows, others: 0.01 * rows)
    assert joining.pays([row(100)], 500, 1, RoundLoad())
    assert joining.pays([row(30), row(30)], 500, 2, RoundLoad())  # they share the reading
    short = row(20)
    assert not joining.declined([short])
    assert not joining.pays([short], 500, 1, RoundLoad())
    assert joining.declined([short])
    assert not joining.pays([short], 500, 1, RoundLoad())  # it is counted once, however often it is asked for
    assert not joining.pays([row(20)], 500, 1, RoundLoad())
    assert joining.pays([row(20)], 500, 1, RoundLoad())
    assert not joining.pays([row(20)], 500, 1, RoundLoad())


def test_remaining_length_is_estimated_from_other_texts() -> None:
    """Texts that end long before their limit promise less."""
    joining = PrefillPolicy(takes=lambda tokens: tokens / 1000, saves=lambda rows, others: 0.01 * rows)
    for _ in range(5):
        done = row(200)
        done.tokens += [3] * 8
        joining.ended(done)
    assert not joining.pays([row(200)], 500, 1, RoundLoad())
    fresh = PrefillPolicy(takes=lambda tokens: tokens / 1000, saves=lambda rows, others: 0.01 * rows)
    assert fresh.pays([row(200)], 500, 1, RoundLoad())


class Slow(Drafter):
    """Tokens whose acceptance falls; they take their time, and so do all that are drafted."""

    name = "slow"

    def __init__(self, clock: list[float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        self._clock[0] += self._seconds
        return [Draft([5, 6, 7, 8], [-1, 0, 1, 2], [0.8, 0.8, 0.7, 0.6], by=MODEL) for _ in rows]


def test_what_took_long_to_draft_is_verified_to_a_greater_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the drafts is spent whatever is verified, so that a token may take as much more of the pass."""
    kept = []
    for share in (0.0, 0.9):
        clock, speculator = [0.0], Speculator(COSTS)
        monkeypatch.setattr(speculator_module, "time", SimpleNamespace(perf_counter=lambda clock=clock: clock[0]))
        speculator.start(Slow(clock, share * COSTS(16)))
        drafts = speculator.draft([[row(20)] for _ in range(16)], 1000)
        kept.append(sum(len(draft) for own in drafts for draft in own))
    assert 0 < kept[0] < kept[1]
