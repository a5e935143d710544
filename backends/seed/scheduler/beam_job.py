"""A job that generates one sample by beams: several branches, verified in one pass, which fork and end with beams.

Every distinct live beam has a sequence and a branch. A branch holds the keys and values of all its tokens but the last,
which the next pass computes; so beams that differ in their last token alone share a node of the prefix cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from treeagent.errors import BackendError

from ...local.beam_search import BeamSearch, Hypothesis
from ...sampling.sampler import NOT_FINITE
from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import Slots
from ..records import BEAMS, BeamGroup, Draft, SequenceState
from ..verifiers.beam_coupled import BeamVerification, BeamVerifier, BeamWalk
from .jobs import CERTAIN, Committed, GenerationJob, JobOutput, Rank
from .metrics import Counters


class BeamJob(GenerationJob):
    """One sample, its beams and their branches."""

    def __init__(
        self,
        run: BeamSearch,
        verifier: BeamVerifier,
        finished: Callable[[], None],
        failed: Callable[[BaseException], None],
        rank: Rank = CERTAIN,
        *,
        single: bool = False,
    ) -> None:
        """``single``: only the best beam is continued after a pass; ``rank`` as in :class:`Job`."""
        super().__init__(failed, rank)
        self.run, self.single = run, single
        self.group = BeamGroup(run)
        self.group.rows = self.sequences = [self._sequence(beam) for beam in run.live()]
        self._verifier = verifier
        self._finished = finished

    @property
    def open(self) -> bool:
        """See :class:`Job`."""
        return self.run.sample.open

    @property
    def rows(self) -> int:
        """All beams may differ."""
        return 1 if self.single else self.run.width

    @property
    def most(self) -> int:
        """Prompt and all texts, which may differ from their first token on."""
        return len(self.run.sample.prompt) + self.run.sample.limit * self.rows

    def drop_drafts(self) -> None:
        """See :class:`Job`."""
        super().drop_drafts()
        self.group.layers = []

    def leave(self, *, keep: bool) -> None:
        """See :class:`Job`."""
        super().leave(keep=keep)
        self.group.layers = []

    def finished(self) -> None:
        """See :class:`Job`."""
        self._finished()

    def commit(self, output: JobOutput, counters: Counters) -> Committed:
        """Take as many steps as were drafted right, and one more; the group counts as one sequence."""
        first = [rows.start for rows in output.rows]
        verification = self._verifier.verify(BeamWalk(self.group, self.next_drafts(), first, output.logits))
        if verification is None:
            for branch, slots in zip(self.branches, output.slots, strict=True):
                branch.give_back(slots)
            return Committed(error=BackendError(NOT_FINITE))
        layers = len(self.group.layers)
        removed = self._take_steps(verification, output.slots)
        ended = self.run.sample.completion is not None
        accepted = counters.count_beams(layers, len(verification.steps), ended=ended)
        self.last_round = counters.rounds
        return Committed(BEAMS, [(1.0, step) for step in accepted], removed, ended)

    def _take_steps(self, verification: BeamVerification, slots: Sequence[Slots]) -> list[SequenceState]:
        """Advance the beams: branches of surviving beams grow and fork, the others are released.

        ``slots`` (1 + n,) for every sequence, of its last token and its draft. Returns the sequences that ended.
        """
        for beams in verification.steps:
            self.run.advance(beams)
        if self.single:
            self.run.keep_best()
        ends: dict[tuple[int, int], list[Hypothesis]] = {}
        for beam in self.run.live():
            ends.setdefault(verification.where[beam.raw[:-1]], []).append(beam)
        parts = list(zip(self.sequences, self.next_drafts(), self.branches, slots, strict=True))
        self.drafts, self.branches = None, []
        self.group.layers, self.group.rows = [], []
        self.sequences = self.group.rows
        removed: list[SequenceState] = []
        for i, (sequence, draft, branch, own) in enumerate(parts):
            survivors = {node: beams for (row, node), beams in ends.items() if row == i}
            if survivors:
                self._spread(sequence, _Fork(draft, own, survivors), branch)
                continue
            raw = tuple(sequence.tokens[sequence.prompt :])
            branch.give_back(own)
            # a text that another beam continues, or that is the result, may be requested again
            branch.release(keep=any(beam.raw[: len(raw)] == raw for beam in self.run.beams))
            removed.append(sequence)
        return removed

    def _spread(self, sequence: SequenceState, fork: _Fork, branch: PageTable) -> None:
        """Extend a branch, and forks of it, to the surviving beams of one sequence's draft."""
        branch.give_back(np.delete(fork.slots, [0, *(node + 1 for node in fork.used)]))
        branch.extend([sequence.tokens[-1]], fork.slots[:1])
        for i, (beam, twin) in enumerate(fork.spread(branch)):
            if i == 0:  # drafters have read this sequence, and can continue from there
                sequence.set_generated(beam.raw)
            own = sequence if i == 0 else self._sequence(beam)
            own.hold(twin)
            self.sequences.append(own)
            self.branches.append(twin)

    def _sequence(self, beam: Hypothesis) -> SequenceState:
        sample = self.run.sample
        tokens = [*sample.prompt, *beam.raw]
        return SequenceState(tokens, len(sample.prompt), sample.sampling, sample.stream, sample.limit, self.group)


class _Fork:
    """The part of one sequence's draft that survives."""

    def __init__(self, draft: Draft, slots: Slots, ends: dict[int, list[Hypothesis]]) -> None:
        """``slots`` (1 + n,) of the last token and the draft; ``ends``: the surviving beams by their last node."""
        self.draft, self.slots, self.ends = draft, slots, ends
        used: set[int] = set()
        for end in ends:
            node = end
            while node >= 0:
                used.add(node)
                node = draft.parents[node]
        self.used = sorted(used)

    def spread(self, branch: PageTable, node: int = -1) -> list[tuple[Hypothesis, PageTable]]:
        """From a branch that holds a node of the draft, one branch for every surviving beam at or below the node."""
        ends = self.ends.get(node, [])
        below = [child for child in self.used if self.draft.parents[child] == node]
        twins = [branch, *(branch.fork() for _ in range(len(ends) + len(below) - 1))]
        survivors = list(zip(ends, twins, strict=False))
        for child, twin in zip(below, twins[len(ends) :], strict=True):
            twin.extend([self.draft.tokens[child]], self.slots[[child + 1]])
            survivors += self.spread(twin, child)
        return survivors
