"""Toy laws for the tests of acceptance rules: exact laws of short texts, and texts of many streams in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from treeagent.backends.sampling import gumbel_top_k as draws
from treeagent.backends.sampling.philox import DRAFT, TEXT, uniforms
from treeagent.backends.sampling.sampler import choose_rows, survivors, warp
from treeagent.backends.seed.drafters.base import EMPTY_LOAD, Drafter, RoundLoad
from treeagent.backends.seed.drafters.model import tree_shapes as shapes
from treeagent.backends.seed.executor import token_choice
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.speculation.verified_drafts import verified_drafts
from treeagent.backends.seed.verifiers.base import DraftCheck, Verifier
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling

Law = NDArray[np.float64]

V = 5
LENGTH = 3
"""Tokens of the longest text; the joint law of all of them is tested."""
SCALE = int(os.environ.get("TREEAGENT_DRAWS", "1"))
"""By how much the numbers of texts of all tests of laws are multiplied."""
DRAWS = 20_000 * SCALE
"""Streams whose random numbers are at hand, and texts of the largest test."""
TEXTS = 6_000 * SCALE
"""Texts of most tests of a law: wrong rules fail with so many, at one in a million."""

random = np.random.default_rng(1)
TARGET = random.normal(size=(LENGTH + 2, V, V)) * 1.5
"""Logits (position, last token, next token)."""
GUESSED = TARGET + random.normal(size=TARGET.shape)

WARM = Sampling(temperature=0.7)
CUT = Sampling(temperature=0.7, top_k=4)
NUCLEUS = Sampling(temperature=1.0, top_p=0.9)


@cache
def noise(position: int, purpose: int, draw: int = 0) -> Law:
    """Of all streams (DRAWS, V)."""
    numbers = np.hstack([table(position, block, purpose, draw) for block in range(-(-V // 4))])[:, :V]
    return -np.log(-np.log(numbers))


@cache
def table(position: int, block: int, purpose: int, draw: int = 0) -> Law:
    """Uniform numbers of all streams (DRAWS, 4)."""
    positions, blocks = (np.full(DRAWS, number, dtype=np.uint32) for number in (position, block))
    return uniforms(np.arange(DRAWS, dtype=np.uint64), positions, blocks, purpose, draw)


@contextmanager
def tabulated() -> Iterator[None]:
    """Target's choices for all streams by one call of NumPy, cuts worked out once: a test takes seconds, not minutes.

    The values are the same.
    """

    def chosen(
        logits: Law, samplings: Sequence[Sampling], streams: list[int], positions: list[int], purpose: int = TEXT
    ) -> NDArray[np.int64]:
        scores = np.stack([warped(row.tobytes(), sampling) for row, sampling in zip(logits, samplings, strict=True)])
        for position in set(positions):
            these = np.array(positions) == position
            scores[these] += noise(position, purpose)[np.array(streams)[these]]
        return scores.argmax(axis=1)

    streams = [7, 0, DRAWS - 1] * 2
    for setting in (WARM, CUT, NUCLEUS):
        arguments = TARGET[0][[0, 1, 2, 3, 4, 0]], [setting] * 6, streams, [0, 1, 1, 2, 0, 2], DRAFT
        assert np.array_equal(chosen(*arguments), choose_rows(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "survivors", lambda logits, sampling: surviving(logits.tobytes(), sampling))
        for module in (token_choice, shapes):
            patch.setattr(module, "choose_rows", chosen)
        yield


@cache
def surviving(logits: bytes, sampling: Sampling) -> NDArray[np.bool_]:
    """See :func:`survivors`."""
    return survivors(np.frombuffer(logits), sampling)


@cache
def warped(logits: bytes, sampling: Sampling) -> Law:
    """See :func:`warp`."""
    return warp(np.frombuffer(logits), sampling)


def softmax(scores: Law) -> Law:
    """Probabilities (V,)."""
    weights: Law = np.exp(scores - scores.max())
    return weights / weights.sum()


class Table(Logits):
    """Logits that need not be brought from anywhere."""

    def rows(self, which: Sequence[int]) -> Law:
        """Rows (len(which), V)."""
        host: Law = self._tensor.numpy()
        return host[which.start : which.stop] if isinstance(which, range) else host[which]


def texts(
    verifier: Verifier, drafter: Drafter, sampling: Sampling, count: int = TEXTS, length: int = LENGTH, first: int = 0
) -> NDArray[np.int64]:
    """Texts (count, length) of as many streams from ``first`` on, drafted and verified until they are long enough."""
    going = everyone = [SequenceState([0], 1, sampling, stream, length) for stream in range(first, first + count)]
    while going:
        drafts = drafter.propose(going, 0.0, 2)
        claims, places = [], []
        for row, draft in zip(going, drafts, strict=True):
            claims.append(DraftCheck(row, draft, len(places)))
            depths = [row.position]
            places.append((row.position, row.tokens[-1]))
            for token, parent in zip(draft.tokens, draft.parents, strict=True):
                depths.append(depths[parent + 1] + 1)
                places.append((depths[-1], token))
        positions, last = np.array(places).T
        logits = Table(torch.from_numpy(TARGET[positions, last]))
        verdicts = verifier.verify(claims, logits)
        if drafter.top_k_wanted:
            drafter.learn(verified_drafts(claims, verdicts, logits, drafter.top_k_wanted))
        for row, verdict in zip(going, verdicts, strict=True):
            assert verdict is not None
            row.tokens += verdict.tokens
        going = [row for row in going if row.position < length]
    return np.array([row.tokens[1 : 1 + length] for row in everyone])


def joint(sampling: Sampling, length: int = LENGTH, logits: Law = TARGET) -> Law:
    """The exact law (V, ..., V) of a text."""
    law = np.zeros([V] * length)
    for text in np.ndindex(*law.shape):
        chance, last = 1.0, 0
        for position, token in enumerate(text):
            chance *= softmax(warp(logits[position, last], sampling))[token]
            last = token
        law[text] = chance
    return law


def p_value(drawn: NDArray[np.int64], law: Law) -> float:
    """Chi-square test of drawn texts against a law; cells of fewer than 5 expected texts are counted together."""
    counts = np.zeros(law.shape)
    np.add.at(counts, tuple(drawn.T), 1)
    if counts[law == 0].any():
        return 0.0
    expected = law * len(drawn)
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    half = torch.tensor([(len(wanted) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


class NothingTakenOff(Rejection):
    """After a rejection draws from the whole law again."""

    def residual(self, law: Law, token: int, proposal: Law | None) -> Law:
        """Wrong."""
        return law


class Shaped(Drafter):
    """Drafts of a shape, two levels deep at most, from the toy draft's logits."""

    def __init__(self, shape: shapes.Shape) -> None:
        self.shape = shape
        self.name = shape.name

    def propose(
        self, rows: Sequence[SequenceState], floor: float, depth: int, load: RoundLoad = EMPTY_LOAD
    ) -> list[Draft]:
        """See :class:`Drafter`."""
        growing = sketches = [self.shape.new(row, min(depth, 2)) for row in rows]
        for level in range(min(depth, 2)):
            last = [
                (sketch.row.position + level, sketch.draft.tokens[node] if node >= 0 else sketch.row.tokens[-1])
                for sketch in growing
                for node in sketch.growing
            ]
            positions, tokens = np.array(last).T
            self.shape.grow(growing, level, GUESSED[positions, tokens], floor)
            growing = [sketch for sketch in growing if sketch.growing]
            if not growing:
                break
        return [sketch.draft for sketch in sketches]
