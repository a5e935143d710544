"""Layer-wise rejection over beams: dynamic-width speculative beam decoding (DSBD; Qin et al., arXiv 2409.16560).

A layer's drafts are independent draws from the draft's joint law q over all its beams. One after the other is accepted
with probability min(1, p'(x) / q(x)), p' being the target's joint law p at first; a rejection leaves
p' = max(p' - q, 0), normalised, and an acceptance sets p' back to p. (Algorithm 1 prints the ratio upside down; the
released code has it as here.) Each accepted beam is a draw from p, independent of the others, as what precedes it since
the last acceptance is one run of recursive rejection; a run that the drafts do not end is ended by a draw from what is
left. So with fixed widths all beams together follow the law of plain beam sampling, not only each one.

p and q are laws over distinct texts: a text that stands twice among the beams has its mass twice. A draft below a beam
that was not accepted has p'(x) = 0. N distinct extensions of the accepted beams.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from treeagent.errors import ConfigError

from ...local.beam_search import Joint, Pick, draw, law_of, stream_of
from ...sampling.philox import RESIDUAL
from ...sampling.sampler import MOST_BEAMS
from ..records import BeamLayer
from .beam_coupled import BeamVerification, BeamVerifier, BeamWalk, CoupledBeams, Raw
from .beam_width import width_of
from .rejection import LEAST_RESIDUAL, uniform

Distribution = Mapping[Raw, NDArray[np.float64]]
"""By a beam's ``raw`` the probabilities of its extensions, 1 in all."""


class Residuals:
    """The residual of the target's distribution after each number of rejections, over its N extensions."""

    def __init__(self, target: Distribution, proposal: Distribution) -> None:
        self._raws = list(target)
        lengths = [len(target[raw]) for raw in self._raws]
        self._starts = dict(zip(self._raws, np.cumsum([0, *lengths[:-1]]).tolist(), strict=True))
        self._cuts = np.cumsum(lengths)[:-1]
        zero = [np.zeros(length) for length in lengths]
        self.proposal = np.concatenate([proposal.get(raw, none) for raw, none in zip(self._raws, zero, strict=True)])
        self._left = [np.concatenate([target[raw] for raw in self._raws])]

    def after(self, rejections: int) -> NDArray[np.float64]:
        """The distribution (N,) after so many rejections in a row."""
        while len(self._left) <= rejections:
            left = np.maximum(self._left[-1] - self.proposal, 0.0)
            mass = float(left.sum())
            self._left.append(left / mass if mass > LEAST_RESIDUAL else self._left[0])  # p = q but for rounding
        return self._left[rejections]

    def place(self, raw: Raw, token: int | None) -> int | None:
        """The index of an extension; None below a beam that the target's distribution does not have."""
        return self._starts[raw] + (token or 0) if raw in self._starts else None

    def alphas(self, count: int) -> list[float]:
        """The acceptance of a draft after 0, 1 .. count - 1 rejections."""
        return [min(1.0, float(np.minimum(self.after(n), self.proposal).sum())) for n in range(count)]

    def draws(self, rejections: int, streams: list[int], position: int) -> list[tuple[Raw, int]]:
        """For each stream a draw from the distribution after so many rejections: a beam, an index of its extensions."""
        with np.errstate(divide="ignore"):
            rows = np.split(np.log(self.after(rejections)), self._cuts)
        return [(self._raws[row], at) for row, at in draw(rows, 1.0, streams, position, RESIDUAL)]


class BeamRejection(BeamVerifier):
    """Accepts layer after layer, until one has too few accepted beams."""

    def __init__(self, threshold: float | None = None, least: int = 1) -> None:
        """A step has as many beams as are all accepted with probability ``threshold``, at least ``least``.

        None: always all beams.
        """
        self.threshold, self.least = threshold, least

    def verify(self, walk: BeamWalk) -> BeamVerification | None:
        """See :class:`BeamVerifier`."""
        run = walk.run
        if run.sample.sampling.temperature == 0:
            return CoupledBeams().verify(walk)
        for layer in walk.group.layers:
            joint = walk.joint()
            if joint is None:
                return None
            picks, passed = self._judge(walk, joint, layer)
            if not walk.take(joint.extended(picks, run.eos), last=not passed):
                return walk.outcome()
        joint = walk.joint()
        if joint is None:
            return None
        walk.take(joint.extended(joint.next(run.sample.stream, walk.position, run.width), run.eos), last=True)
        return walk.outcome()

    def _judge(self, walk: BeamWalk, joint: Joint, layer: BeamLayer) -> tuple[list[Pick], bool]:
        """The picks of a step, and whether all of them were drafted."""
        stream, position = walk.run.sample.stream, walk.position
        left = Residuals(law_of(joint), layer.law or {})
        width = walk.run.width
        if self.threshold is not None:
            width = width_of(left.alphas(len(layer.picks)), self.threshold, self.least, width)
        places = {beam.raw: i for i, beam in enumerate(joint.beams)}
        picks: list[Pick] = []
        rejections = 0
        for rank, (beam, token) in enumerate(layer.picks):
            raw = layer.parents[beam].raw
            at = left.place(raw, token)
            chance = 0.0 if at is None else self.chance(left.after(rejections)[at], left.proposal[at])
            accepted = uniform(stream, position, rank) < chance
            rejections = self.onward(rejections, accepted=accepted)
            if accepted:
                picks.append(Pick(places[raw], token))
                if len(picks) == width:
                    return picks, True
        streams = [stream_of(stream, number) for number in range(len(picks), width)]
        drawn = left.draws(rejections, streams[:1], position) + left.draws(0, streams[1:], position)
        for raw, place in drawn:
            i = places[raw]
            picks.append(Pick(i, None if joint.beams[i].finished else place))
        return picks, False

    def chance(self, target: float, proposal: float) -> float:
        """Probability of accepting a draft by its probabilities in both distributions."""
        return min(1.0, float(target / proposal)) if proposal > 0 else 0.0

    def onward(self, rejections: int, *, accepted: bool) -> int:
        """Rejections in a row after one more draft."""
        return 0 if accepted else rejections + 1


def check_beams(threshold: float | None, least: int, survivors: int | None, *, coupled: bool) -> None:
    """Raise ConfigError where the options of the width of beams have no meaning."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"beam_threshold is a chance between 0 and 1, not {threshold}")
    if not 1 <= least <= MOST_BEAMS:
        raise ConfigError(f"beam_min must be between 1 and {MOST_BEAMS}, not {least}")
    if survivors not in (None, 1):
        raise ConfigError(f"beam_survivors is 1 (only the best beam goes on after a pass) or left out, not {survivors}")
    for option, value in (("beam_threshold", threshold), ("beam_survivors", survivors)):
        if coupled and value is not None:
            raise ConfigError(
                f"{option} changes which beams are drawn, and verify=coupled promises those of plain decoding: "
                "give verify=recursive, or leave it out"
            )
    if least > 1 and threshold is None:
        raise ConfigError("beam_min is the least of the widths that beam_threshold chooses: give that too")
