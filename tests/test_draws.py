"""Draws for many rows at once against the same draws one by one, score by score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toy_laws import softmax

from treeagent.backends.sampling import gumbel_top_k as draws
from treeagent.backends.sampling.gumbel_top_k import softmax_rows, top_draws_among, top_draws_rows, warp_rows
from treeagent.backends.sampling.philox import DRAFT, TEXT, gumbel
from treeagent.backends.sampling.sampler import choose, warp
from treeagent.backends.seed.drafters.model.tree_shapes import BranchingTree, Chain, DynamicTree, Shape, StochasticBeam
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.request import Sampling

SETTINGS = [
    Sampling(temperature=0.0),
    Sampling(temperature=1.0),
    Sampling(temperature=0.6, top_k=5),
    Sampling(temperature=1.0, top_p=0.9),
    Sampling(temperature=1.3, min_p=0.05),
    Sampling(temperature=0.05, top_k=9, top_p=0.8, min_p=0.01),
    Sampling(temperature=0.0, top_k=3),
]


def logits_of(kind: str, rows: int, size: int, seed: int) -> NDArray[np.float64]:
    """Plain ones, with ties, with impossible tokens, or all equal."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(rows, size))
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "impossible":
        logits[random.random((rows, size)) < 0.6] = -np.inf
        logits[:, seed % size] = 0.0
    elif kind == "equal":
        logits[:] = 1.0
    return logits


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(1, 90),
    count=st.integers(1, 20),
    many=st.sampled_from([4, 4096]),
    tried=st.sampled_from([2, 64]),
    kind=st.sampled_from(["plain", "ties", "impossible", "equal"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 999),
    shared=st.booleans(),
)
def test_the_best_draws_are_the_best_of_all(
    size: int, count: int, many: int, tried: int, kind: str, dtype: type, seed: int, shared: bool
) -> None:
    """Bit for bit as if every id's noise were made for each row alone and all were sorted; ties to the lowest id."""
    logits = logits_of(kind, len(SETTINGS), size, seed).astype(dtype)
    streams = [2**63 + seed] * len(SETTINGS) if shared else [seed + 2**40 * i for i in range(len(SETTINGS))]
    positions, numbers = [i // 2 for i in range(len(SETTINGS))], [i % 3 for i in range(len(SETTINGS))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "MANY", many)
        patch.setattr(draws, "TRIED", tried)
        sampled = [setting.temperature > 0 for setting in SETTINGS]
        ids, sums = top_draws_rows(warp_rows(logits, SETTINGS), sampled, streams, positions, count, DRAFT, numbers)
    assert ids.shape == sums.shape == (len(SETTINGS), count)
    for i, setting in enumerate(SETTINGS):
        scores = logits[i].astype(np.float64)
        if setting.temperature:
            noise = gumbel(streams[i], positions[i], np.arange(size), DRAFT, numbers[i])
            scores = warp(logits[i], setting) + noise
        expected = [j for j in sorted(range(size), key=lambda j: (-scores[j], j)) if scores[j] > -math.inf][:count]
        assert ids[i].tolist() == expected + [-1] * (count - len(expected))
        assert sums[i].tolist() == scores[expected].tolist() + [-math.inf] * (count - len(expected))


@pytest.mark.parametrize("size", [61, 9001])
def test_the_first_draw_is_the_targets_choice(size: int) -> None:
    """So a drafter with the target's law and noise is always right, for vocabularies of any size."""
    logits = logits_of("plain", len(SETTINGS), size, 3)
    streams, positions = list(range(len(SETTINGS))), [5] * len(SETTINGS)
    scores, sampled = warp_rows(logits, SETTINGS), [setting.temperature > 0 for setting in SETTINGS]
    ids, _ = top_draws_rows(scores, sampled, streams, positions, 3, TEXT)
    expected = [choose(row, setting, i, 5) for i, (row, setting) in enumerate(zip(logits, SETTINGS, strict=True))]
    assert ids[:, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["plain", "ties", "impossible", "equal"])
def test_laws_of_many_rows_are_those_of_single_rows(kind: str) -> None:
    """Bit for bit, cuts included."""
    logits = logits_of(kind, len(SETTINGS), 1201, 4)
    laws = softmax_rows(warp_rows(logits, SETTINGS))
    for row, law, setting in zip(logits, laws, SETTINGS, strict=True):
        assert np.array_equal(law, softmax(warp(row, setting) if setting.temperature else row))


def grown(shape: Shape, rows: list[SequenceState], kind: str, together: bool) -> list[Draft]:
    """Drafts of three levels for all rows, from logits that are a function of the row and the node's place."""
    sketches = [shape.new(row, 3) for row in rows]
    for part in [sketches] if together else [[sketch] for sketch in sketches]:
        growing = part
        for level in range(min(3, shape.depth or 3)):
            logits = [logits_of(kind, len(sketch.growing), 300, sketch.row.stream % 997 + level) for sketch in growing]
            if growing:
                shape.grow(growing, level, np.concatenate(logits).astype(np.float32), 0.02)
            growing = [sketch for sketch in growing if sketch.growing]
    return [sketch.draft for sketch in sketches]


SHAPES = [
    DynamicTree(coupled=True),
    DynamicTree(coupled=False, most=6),
    BranchingTree((2, 2), keeps_law=True, replacement=True),
    *(Chain(keeps_law=kept) for kept in (False, True)),
    *(BranchingTree((3, 2, 1), keeps_law=kept) for kept in (False, True)),
    *(StochasticBeam(4, 3, keeps_law=kept) for kept in (False, True)),
]


@pytest.mark.parametrize("kind", ["plain", "ties", "impossible"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.name}-{shape.keeps_law}")
def test_company_changes_no_draft(shape: Shape, kind: str) -> None:
    """Trees that grow together are those that grow alone, whatever the others' settings and positions."""
    rows = [
        SequenceState([1] * (1 + i % 4), 1, setting, 7919 * i + 2**50, 50) for i, setting in enumerate(SETTINGS * 2)
    ]
    drafts = grown(shape, rows, kind, True)
    assert sum(map(len, drafts)) > len(rows)
    for one, other in zip(drafts, grown(shape, rows, kind, False), strict=True):
        assert (one.tokens, one.parents) == (other.tokens, other.parents)
        assert one.confidence == pytest.approx(other.confidence, rel=1e-12)
        assert (one.law is None) == (other.law is None)
        if one.law is not None and other.law is not None:
            assert np.array_equal(one.law, other.law)


def test_draws_among_some_ids_are_those_of_rows_without_the_others() -> None:
    """In any order of the ids, with and without noise, with fewer possible ids than draws."""
    random = np.random.default_rng(3)
    scores = logits_of("impossible", 6, 50, 3)
    ids = np.stack([random.permutation(50)[:20] for _ in scores])
    alone = np.full_like(scores, -np.inf)
    np.put_along_axis(alone, ids, np.take_along_axis(scores, ids, axis=1), axis=1)
    sampled, streams, positions = [True, False, True, True, False, True], [9, 9, 7, 9, 1, 2], [0, 0, 1, 3, 4, 5]
    few = np.take_along_axis(scores, ids, axis=1)
    found = top_draws_among(few, ids, sampled, streams, positions, 12)
    expected = top_draws_rows(alone, sampled, streams, positions, 12)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
