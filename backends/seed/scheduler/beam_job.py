"""A completion by beams as the engine's work: several branches, verified in one pass, which fork and die with beams.

Every distinct live beam has a row and a branch. A branch holds the keys and values of all its tokens but the last,
which the next pass reads; so beams that differ in their last token alone share a node of the forest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...local.beam_search import BeamSearch, Hypothesis
from ..executor.forward_batch import Segment
from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import Slots
from ..records import BeamGroup, Draft, SequenceState
from ..verifiers.beam_coupled import BeamVerification
from .jobs import Job, span_of


@dataclass(slots=True, eq=False)
class BeamJob(Job):
    """One sample in the making, by beams."""

    run: BeamSearch
    finished: Callable[[], None]
    failed: Callable[[BaseException], None]
    single: bool = False
    """Whether only the best beam goes on after a pass."""
    branches: list[PageTable] = field(default_factory=list)
    """One for every row, in the same order."""
    drafts: list[Draft] | None = None
    """What has been drafted for every row and not verified yet."""
    served: int = 0
    group: BeamGroup = field(init=False)

    def __post_init__(self) -> None:
        self.group = BeamGroup(self.run)
        self.group.rows = [self._row(beam) for beam in self.run.live()]

    @property
    def open(self) -> bool:
        """Whether anybody still waits for it."""
        return self.run.sample.open

    @property
    def rows(self) -> int:
        """All beams may differ."""
        return 1 if self.single else self.run.width

    @property
    def most(self) -> int:
        """Prompt and all texts, which may part at their first token."""
        return len(self.run.sample.prompt) + self.run.sample.limit * self.rows

    @property
    def widths(self) -> list[int]:
        """The last token of every beam."""
        return [1] * len(self.group.rows)

    @property
    def drafted(self) -> list[int]:
        """The draft of every beam."""
        return [0] * len(self.group.rows) if self.drafts is None else [len(draft) for draft in self.drafts]

    def prompts(self) -> list[list[int]]:
        """Of every beam everything but the last token."""
        return [row.tokens[:-1] for row in self.group.rows]

    def spans(self, slots: Sequence[Slots]) -> list[Segment]:
        """Of every beam its last token and its draft."""
        drafts = self.drafts or [Draft() for _ in self.group.rows]
        return [span_of(*one) for one in zip(self.group.rows, drafts, self.branches, slots, strict=True)]

    def drop_drafts(self) -> None:
        """See :class:`Job`."""
        self.drafts, self.group.layers = [Draft() for _ in self.group.rows], []

    def commit(self, outcome: BeamVerification, slots: Sequence[Slots]) -> list[SequenceState]:
        """Take the steps of an outcome: branches of beams that survive grow and fork, the others leave.

        Returns the rows that are no more.
        """
        for beams in outcome.steps:
            self.run.advance(beams)
        if self.single:
            self.run.keep_best()
        ends: dict[tuple[int, int], list[Hypothesis]] = {}
        for beam in self.run.live():
            ends.setdefault(outcome.where[beam.raw[:-1]], []).append(beam)
        old, drafts = self.group.rows, self.drafts or [Draft() for _ in self.group.rows]
        branches, self.branches, self.group.rows = self.branches, [], []
        gone: list[SequenceState] = []
        for i, (row, draft, branch, own) in enumerate(zip(old, drafts, branches, slots, strict=True)):
            mine = {node: beams for (of, node), beams in ends.items() if of == i}
            if mine:
                self._spread(row, _Fork(draft, own, mine), branch)
                continue
            raw = tuple(row.tokens[row.prompt :])
            branch.give_back(own)
            branch.leave(keep=any(beam.raw[: len(raw)] == raw for beam in self.run.beams))  # its text may be asked for
            gone.append(row)
        self.drafts, self.group.layers = None, []
        return gone

    def _spread(self, row: SequenceState, fork: _Fork, branch: PageTable) -> None:
        """Lead a branch and its forks to where the surviving beams of one row's draft are."""
        branch.give_back(np.delete(fork.slots, [0, *(node + 1 for node in fork.used)]))
        branch.extend([row.tokens[-1]], fork.slots[:1])
        found: list[tuple[Hypothesis, PageTable]] = []
        fork.follow(-1, branch, found)
        for i, (beam, twin) in enumerate(found):
            if i == 0:  # whoever drafts has read this row, and may go on from there
                row.tokens[row.prompt :] = beam.raw
            self.group.rows.append(row if i == 0 else self._row(beam))
            self.branches.append(twin)

    def _row(self, beam: Hypothesis) -> SequenceState:
        sample = self.run.sample
        tokens = [*sample.prompt, *beam.raw]
        return SequenceState(tokens, len(sample.prompt), sample.sampling, sample.stream, sample.limit, self.group)


class _Fork:
    """The part of one row's draft that survives."""

    def __init__(self, draft: Draft, slots: Slots, ends: dict[int, list[Hypothesis]]) -> None:
        """``ends`` says which beams come out of which nodes."""
        self.draft, self.slots, self.ends = draft, slots, ends
        used: set[int] = set()
        for end in ends:
            node = end
            while node >= 0:
                used.add(node)
                node = draft.parents[node]
        self.used = sorted(used)

    def follow(self, node: int, branch: PageTable, found: list[tuple[Hypothesis, PageTable]]) -> None:
        """From a branch that holds a node on, one branch for every beam below it."""
        ends = self.ends.get(node, [])
        below = [child for child in self.used if self.draft.parents[child] == node]
        twins = [branch, *(branch.fork() for _ in range(len(ends) + len(below) - 1))]
        found += zip(ends, twins, strict=False)
        for child, twin in zip(below, twins[len(ends) :], strict=True):
            twin.extend([self.draft.tokens[child]], self.slots[[child + 1]])
            self.follow(child, twin, found)
