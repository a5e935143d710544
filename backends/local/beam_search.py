"""Hypothesis sampling and beam search: several beams of one completion step together, drawn from their joint law.

B beams x_1 .. x_B with scores s_b, their summed log-probabilities under the model. The joint score of an extension is
s_b + log p(v | x_b), with p the untempered softmax; a finished beam has one extension, to stay as it is. Temperature,
top-k, top-p and min-p act on all extensions together, and the next W beams are independent draws from what is left,
with replacement (Qin et al., arXiv 2409.16560, section 2.3); a beam that is drawn twice stands twice in the next law.
At temperature 0 the W best extensions are taken, of equal ones the lowest beam's and then the lowest token's. The first
step has one beam, the prompt; the run ends when all beams are finished, and its answer is the beam of highest score.

Noise: draw w of a step has a stream of its own, a hash of (the sample's stream, w), and the step as its position. It
takes the beam first, by Gumbel-max over the beams' masses, then a token of this beam, as a plain sampler would at the
joint's temperature. Both are draws from the same law as one draw of the pair, as P(b, v) = P(b) P(v | b) with P(b) the
mass of b's extensions; but only one row's noise must be made for a draw, and it is the noise that a drafter can share.

Shapes: B beams, V vocabulary, N extensions of all beams, W draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from treeagent.errors import BackendError
from treeagent.request import Sampling

from ..sampling.gumbel_top_k import top_draws_rows
from ..sampling.philox import TEXT, Floats, gumbel_rows
from ..sampling.sampler import NOT_FINITE, choose_rows, survivors
from .sample import Sample

WHICH = 1
"""The third word of the counter of the noise that chooses a beam; that of tokens is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """One beam; beams of the same ``raw`` tokens are the same text."""

    sample: Sample
    """Its text so far."""
    raw: tuple[int, ...] = ()
    """All tokens drawn, an end of text included."""
    score: float = 0.0
    """Their summed natural-log probability under the model that extends it."""

    @property
    def finished(self) -> bool:
        """Whether it ended, by an end of text, a stop string or its limit."""
        return self.sample.completion is not None

    def extended(self, token: int, score: float, eos: frozenset[int]) -> Hypothesis:
        """With one token more."""
        sample = self.sample.fork()
        sample.accept(token, eos)
        return Hypothesis(sample, (*self.raw, token), score)


class Pick(NamedTuple):
    """One extension."""

    beam: int
    """Which beam's."""
    token: int | None
    """None: it is finished and stays."""


class Joint:
    """The joint law of the extensions of B beams; equal beams are worked out once."""

    def __init__(self, beams: Sequence[Hypothesis], logits: Sequence[Floats | None], sampling: Sampling) -> None:
        """``logits`` (V,) after each beam, None after a finished one. Raises BackendError when they are not finite."""
        self.beams = list(beams)
        self.sampling = sampling
        known: dict[tuple[int, ...], NDArray[np.float64]] = {}
        for beam, row in zip(beams, logits, strict=True):
            if beam.raw not in known:
                assert beam.finished == (row is None)  # noqa: S101  # or it would be taken for a finished one
                known[beam.raw] = np.zeros(1) if row is None else log_softmax(row)
                known[beam.raw] += beam.score
        rows = [known[beam.raw] for beam in beams]
        self.ends = np.cumsum([len(row) for row in rows])
        self.flat: NDArray[np.float64] = np.concatenate(rows)
        """Joint scores (N,), beam after beam."""

    def start(self, beam: int) -> int:
        """Where a beam's extensions begin."""
        return int(self.ends[beam - 1]) if beam else 0

    def row(self, flat: NDArray[np.float64], beam: int) -> NDArray[np.float64]:
        """The part of (N,) numbers that belongs to one beam: (V,), or (1,) of a finished one."""
        return flat[self.start(beam) : int(self.ends[beam])]

    def score(self, pick: Pick) -> float:
        """Joint score of an extension."""
        return float(self.flat[self.start(pick.beam) + (pick.token or 0)])

    def next(self, stream: int, position: int, width: int) -> list[Pick]:
        """The ``width`` picks of one step: draws, or at temperature 0 the best, fewer where there are fewer."""
        if self.sampling.temperature == 0:
            return self.best(width)
        return self.draw([stream_of(stream, draw) for draw in range(width)], position)

    def best(self, count: int) -> list[Pick]:
        """The extensions of highest joint score."""
        ids, _ = top_draws_rows(self.flat[None], [False], [0], [0], count)
        return [self._pick(i) for i in ids[0].tolist() if i >= 0]

    def draw(self, streams: Sequence[int], position: int, purpose: int = TEXT) -> list[Pick]:
        """One draw from the warped law for each of the streams (W,)."""
        warped = self.warped()
        rows = [self.row(warped, beam) for beam in range(len(self.beams))]
        draws = draw(rows, self.sampling.temperature, streams, position, purpose)
        return [Pick(beam, None if self.beams[beam].finished else token) for beam, token in draws]

    def warped(self) -> NDArray[np.float64]:
        """Joint scores (N,), minus infinity where the warpers cut; to be divided by the temperature."""
        sampling = self.sampling
        if sampling.top_k is None and sampling.top_p is None and sampling.min_p is None:
            return self.flat
        return np.where(survivors(self.flat, sampling), self.flat, -np.inf)

    def extended(self, picks: Sequence[Pick], eos: frozenset[int]) -> list[Hypothesis]:
        """The next beams; equal ones are one object."""
        extended: dict[tuple[tuple[int, ...], int | None], Hypothesis] = {}
        for pick in picks:
            beam = self.beams[pick.beam]
            if (beam.raw, pick.token) not in extended:
                longer = beam if pick.token is None else beam.extended(pick.token, self.score(pick), eos)
                extended[beam.raw, pick.token] = longer
        return [extended[self.beams[pick.beam].raw, pick.token] for pick in picks]

    def _pick(self, place: int) -> Pick:
        beam = int(np.searchsorted(self.ends, place, side="right"))
        return Pick(beam, None if self.beams[beam].finished else place - self.start(beam))


def draw(
    rows: Sequence[NDArray[np.float64]], temperature: float, streams: Sequence[int], position: int, purpose: int
) -> list[tuple[int, int]]:
    """For each stream (W,) a row and a place in it, from exp(scores / temperature) over all rows, normalised.

    Rows of scores are (V,), or (1,) where there is nothing more to choose.
    """
    masses = np.array([log_mass(row / temperature) for row in rows])  # (B,)
    beams = [0] * len(streams)
    if len(rows) > 1 and streams:
        beams = (masses + gumbel_rows(streams, position, len(rows), purpose, WHICH)).argmax(axis=1).tolist()
    going = [i for i, beam in enumerate(beams) if len(rows[beam]) > 1]
    places = [0] * len(beams)
    if going:
        flat = [Sampling(temperature=temperature)] * len(going)
        wide = np.stack([rows[beams[i]] for i in going])
        tokens = choose_rows(wide, flat, [streams[i] for i in going], [position] * len(going), purpose)
        for i, place in zip(going, tokens.tolist(), strict=True):
            places[i] = place
    return list(zip(beams, places, strict=True))


@lru_cache(maxsize=4096)
def stream_of(stream: int, draw: int) -> int:
    """64-bit key of the noise of one of a step's draws: a hash of the sample's stream and the draw's number."""
    data = stream.to_bytes(8, "little") + draw.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"beam").digest(), "little")


def law_of(joint: Joint) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """The warped law over distinct extensions: by a beam's ``raw`` the probabilities of its extensions, (V,) or (1,).

    A beam that stands twice in the joint has its mass twice.
    """
    scores = joint.warped() / joint.sampling.temperature
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    law: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for i, beam in enumerate(joint.beams):
        row = joint.row(weights, i)
        law[beam.raw] = law[beam.raw] + row if beam.raw in law else row
    return law


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Natural-log probabilities (V,) of logits (V,). Raises BackendError when they are not finite."""
    wide = logits.astype(np.float64)
    most = float(wide.max())
    if not math.isfinite(most):
        raise BackendError(NOT_FINITE)
    wide -= most + math.log(float(np.exp(wide - most).sum()))
    return wide


def log_mass(scores: NDArray[np.float64]) -> float:
    """Natural logarithm of the sum of exp(scores), minus infinity where all are."""
    most = float(scores.max())
    return most + math.log(float(np.exp(scores - most).sum())) if most > -math.inf else -math.inf


class BeamSearch:
    """The beams of one completion while it is generated."""

    def __init__(self, sample: Sample, eos: frozenset[int]) -> None:
        self.sample = sample
        self.eos = eos
        self.beams = [Hypothesis(sample.fork())]
        self.position = 0
        """Steps taken; every live beam has so many tokens."""
        self._generated = 0

    @property
    def width(self) -> int:
        """Beams that a step draws."""
        return self.sample.sampling.num_beams

    def live(self) -> list[Hypothesis]:
        """The distinct beams that need another token."""
        return list({beam.raw: beam for beam in self.beams if not beam.finished}.values())

    def advance(self, beams: Sequence[Hypothesis]) -> None:
        """Take the beams of a step; finishes the sample when all are finished.

        A step's tokens count once for every distinct beam that got one, also for beams that are not drawn again.
        """
        self.beams = list(beams)
        self.position += 1
        self._generated += len({beam.raw for beam in beams if len(beam.sample.tokens) == self.position})
        if all(beam.finished for beam in beams):
            self._end()

    def keep_best(self) -> None:
        """Go on with the beam of highest score alone: of summed log-probability, where the paper has perplexity."""
        self.beams = [best(self.beams)]
        if self.beams[0].finished:
            self._end()

    def _end(self) -> None:
        chosen = best(self.beams)
        self.sample.finish_as(chosen.sample, chosen.score, self._generated)


def best(beams: Sequence[Hypothesis]) -> Hypothesis:
    """The beam of highest score, the first of equals."""
    return max(beams, key=lambda beam: beam.score)
