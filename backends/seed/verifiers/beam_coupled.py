"""Verification of drafted beams, by two rules as for single sequences (see ``coupled.py``, ``rejection.py``).

``coupled``: the target's own next beams are computed with the run's own noise, step after step, as long as all live
ones are among the drafted nodes; so the beams are those of plain decoding, whatever was drafted.
``recursive`` is the layer-wise rule of dynamic-width speculative beam decoding (DSBD; Qin et al., arXiv 2409.16560,
sections 3.1 and 3.2) in ``beam_rejection.py``; at temperature 0 it is the first one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...local.beam_search import Hypothesis, Joint
from ...sampling.philox import Floats
from ..executor.logits import Logits
from ..records import BeamGroup, Draft

Place = tuple[int, int]
"""A row of the group and a node of its draft, -1 for the row's last token."""
Raw = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BeamVerification:
    """The result of one group's verification."""

    steps: list[list[Hypothesis]] = field(default_factory=list)
    """The beams after every step, one step at least: all accepted layers and one more."""
    where: dict[Raw, Place] = field(default_factory=dict)
    """The places of the beams before the last step."""


class BeamWalk:
    """The walk of a group's beams through their drafts."""

    def __init__(self, group: BeamGroup, drafts: Sequence[Draft], first: Sequence[int], logits: Logits) -> None:
        """``first``: for every sequence of the group the row of ``logits`` (R, V) after its last token."""
        self.group, self.run = group, group.run
        self.beams = list(group.run.beams)
        self.where: dict[Raw, Place] = {tuple(row.tokens[row.prompt :]): (i, -1) for i, row in enumerate(group.rows)}
        self.steps: list[list[Hypothesis]] = []
        self._first, self._logits = first, logits
        self._children = {
            (i, parent, token): node
            for i, draft in enumerate(drafts)
            for node, (parent, token) in enumerate(zip(draft.parents, draft.tokens, strict=True))
        }

    @property
    def position(self) -> int:
        """Of the next step."""
        return self.run.position + len(self.steps)

    def joint(self) -> Joint | None:
        """The target's joint distribution of the next step; None where its logits are not finite."""
        raws = list(dict.fromkeys(beam.raw for beam in self.beams if not beam.finished))
        at = [self._first[i] + node + 1 for i, node in (self.where[raw] for raw in raws)]
        rows: Floats = self._logits.rows(at)
        if not np.isfinite(rows.max(axis=1)).all():
            return None
        known = dict(zip(raws, rows, strict=True))
        return Joint(self.beams, [known.get(beam.raw) for beam in self.beams], self.run.sample.sampling)

    def take(self, beams: list[Hypothesis], *, last: bool = False) -> bool:
        """Take a step, with ``last`` the last of this pass.

        Returns whether another one can be taken: all live beams after it were drafted.
        """
        self.steps.append(beams)
        self.beams = beams
        if last:
            return False
        onward: dict[Raw, Place] = {}
        for beam in beams:
            if not beam.finished:
                i, parent = self.where[beam.raw[:-1]]
                child = self._children.get((i, parent, beam.raw[-1]))
                if child is None:
                    return False
                onward[beam.raw] = (i, child)
        if not onward:
            return False
        self.where = onward
        return True

    def outcome(self) -> BeamVerification:
        """The steps so far."""
        return BeamVerification(self.steps, self.where)


class BeamVerifier(ABC):
    """A rule that accepts drafted beams."""

    @abstractmethod
    def verify(self, walk: BeamWalk) -> BeamVerification | None:
        """The steps of a group in this pass; None where logits are not finite (a broken model)."""


class CoupledBeams(BeamVerifier):
    """The target's own beams, as far as they were drafted."""

    def verify(self, walk: BeamWalk) -> BeamVerification | None:
        """See :class:`BeamVerifier`."""
        run = walk.run
        while True:
            joint = walk.joint()
            if joint is None:
                return None
            picks = joint.next(run.sample.stream, walk.position, run.width)
            if not walk.take(joint.extended(picks, run.eos)):
                return walk.outcome()
