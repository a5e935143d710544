"""Draft trees of a model: laws are kept, lists are what the papers say, and shapes are as they were asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seed_tools import Naive, Open, ask, clean, request, scheduler, told
from toy_laws import CUT, GUESSED, NUCLEUS, TARGET, TEXTS, WARM, Law, Shaped, joint, p_value, texts

from treeagent.backends.sampling.gumbel_top_k import softmax_rows, warp_rows
from treeagent.backends.sampling.philox import DRAFT, gumbel
from treeagent.backends.sampling.sampler import choose, warp
from treeagent.backends.seed.drafters.model.tree_builder import Child, Frontier
from treeagent.backends.seed.drafters.model.tree_shapes import (
    BranchingTree,
    DynamicTree,
    Shape,
    StochasticBeam,
    condition,
)
from treeagent.backends.seed.drafters.registry import DrafterSpec
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers.base import DraftCheck
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling

COUPLED = [BranchingTree((3, 2), keeps_law=False), StochasticBeam(3, 2, keeps_law=False), DynamicTree(coupled=True)]
DRAWN = [
    BranchingTree((2, 2), keeps_law=True),
    BranchingTree((3, 1), keeps_law=True),
    StochasticBeam(3, 2, keeps_law=True),
    BranchingTree((2, 2), keeps_law=True, replacement=True),
    DynamicTree(coupled=False),
]


def named(shapes: Sequence[Shape]) -> list[str]:
    return [shape.name for shape in shapes]


@pytest.mark.sampled(9)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("setting", [WARM, CUT], ids=["warm", "cut"])
@pytest.mark.parametrize("shape", DRAWN, ids=named(DRAWN))
def test_recursive_rejection_keeps_the_law_of_the_text(shape: Shape, setting: Sampling) -> None:
    """Texts of two tokens have the law of the target, whatever tree was drafted."""
    drawn = texts(Rejection(), Shaped(shape), setting, TEXTS, 2)
    assert p_value(drawn, joint(setting, 2)) > 1e-3


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("shape", COUPLED, ids=named(COUPLED))
def test_a_coupled_tree_changes_no_text(shape: Shape) -> None:
    """Texts are those without drafts, and so is their law."""
    drawn = texts(Coupled(), Shaped(shape), NUCLEUS, 1500, 2)
    plain = [[choose(TARGET[0, 0], NUCLEUS, stream, 0)] for stream in range(1500)]
    for stream, text in enumerate(plain):
        text.append(choose(TARGET[1, text[0]], NUCLEUS, stream, 1))
    assert np.array_equal(drawn, plain)
    assert p_value(drawn, joint(NUCLEUS, 2)) > 1e-3


class Undiminished(Rejection):
    """Takes a later sibling for a draw from the whole law."""

    def proposal(self, law: Law, tried: Sequence[int]) -> Law:
        """Wrong."""
        return law


class Misdeclared(BranchingTree):
    """Takes the two likeliest tokens and marks them as drawn."""

    def _siblings(self, nodes: Frontier, logits: Law) -> list[list[Child]]:
        laws = softmax_rows(warp_rows(logits, [row.sampling for row in nodes.rows]))
        return [[(int(token), 0.5, law) for token in np.argsort(-law)[: self.widths[nodes.level]]] for law in laws]


class Picky(StochasticBeam):
    """Drops the children whose tokens it does not like."""

    def grow(self, sketches: Sequence, level: int, logits: Law, floor: float) -> None:
        """Wrong: the cut depends on what was drawn."""
        super().grow(sketches, level, logits, floor)
        for sketch in sketches:
            sketch.draft = sketch.draft.keep([i for i in range(len(sketch.draft)) if sketch.draft.tokens[i] < 3])
            sketch.growing = []


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (Undiminished(), BranchingTree((2, 2), keeps_law=True)),
        (Rejection(), Misdeclared((2, 2), keeps_law=True)),
        (Rejection(), Picky(3, 1, keeps_law=True)),
    ],
    ids=["law not diminished", "misdeclared", "cut by token"],
)
def test_a_broken_rule_is_found_out(rule: Rejection, shape: Shape) -> None:
    """The test of the law fails clearly for the mistakes that are easily made with trees."""
    drawn = texts(rule, Shaped(shape), WARM, TEXTS, 2)
    assert p_value(drawn, joint(WARM, 2)) < 1e-6


def test_a_law_that_underflows_is_drawn_from_as_it_stands() -> None:
    """At a very low temperature second siblings have no probability left; they are not proposed."""
    cold = Sampling(temperature=0.005)
    for shape in DRAWN:
        rows = [SequenceState([0], 1, cold, stream, 3) for stream in range(50)]
        drafts = Shaped(shape).propose(rows, 0.0, 2)
        for draft in drafts:
            assert draft.law is None or all(law[token] > 0 for law, token in zip(draft.law, draft.tokens, strict=True))
        logits = np.where(np.arange(len(GUESSED[0, 0])) == GUESSED[0, 0].argmax(), -9.0, TARGET[0, 0])
        claims = [DraftCheck(row, draft, 0) for row, draft in zip(rows, drafts, strict=True)]
        wide = Logits(torch.from_numpy(np.tile(logits, (1 + max(map(len, drafts)), 1))))
        assert all(verdict is not None for verdict in Rejection().verify(claims, wide))


@pytest.mark.sampled(5)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("shape", DRAWN, ids=named(DRAWN))
def test_the_first_nodes_of_a_drawn_tree_are_a_draft_too(shape: Shape) -> None:
    """As when only so many nodes are verified: the law is kept."""

    class Cut(Shaped):
        def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
            return [draft.keep(range(min(3, len(draft)))) for draft in super().propose(rows, floor, depth)]

    drawn = texts(Rejection(), Cut(shape), Sampling(temperature=1.0, top_k=2), TEXTS, 2)
    assert p_value(drawn, joint(Sampling(temperature=1.0, top_k=2), 2)) > 1e-3


@pytest.mark.parametrize(
    "name",
    ["model", "rsd-c:2x2", "rsd-s:3x3", "mcsd:2x2", "dynamic", "ngram+rsd-s:2x3", "stand+dynamic", "recycling+rsd-c"],
)
def test_the_engine_verifies_drawn_trees(opened: Open, naive: Naive, pair: Path, name: str) -> None:
    """Greedy texts are the naive ones, sampled ones end, and nothing of the draft model's memory is lost."""
    backend = opened(draft=str(pair / "model-draft"), drafter=name, verify="recursive")
    greedy = [request(place % 3, place, max_tokens=14) for place in range(4)]
    assert told(ask(backend, *greedy)) == naive.expected(greedy)
    warm = [request(place % 3, place, 2, temperature=0.8, top_p=0.9, max_tokens=14) for place in range(4)]
    for slots in (10_000, 90):
        for runner in (scheduler(backend).runner, backend.core.parts.draft_runner):  # type: ignore[union-attr]
            runner.memory = slots * runner.forest.pool.slot_bytes  # type: ignore[union-attr]
        backend.reset()
        for reply in ask(backend, *warm):
            assert len(reply.completions) == 2
        clean(backend)
    figures = backend.meter()
    ask(backend, *greedy)
    assert 0 < figures()["mbsu"] <= figures()["block_efficiency"]


@pytest.mark.usefixtures("tabulated")
def test_siblings_are_drawn_without_replacement_in_order() -> None:
    """The law of an ordered pair is q(x) q(y) / (1 - q(x)); with replacement it is q(x) q(y)."""
    law = np.exp(warp(GUESSED[0, 0], WARM))
    law /= law.sum()
    pairs = np.outer(law, law)
    without = pairs / (1 - law[:, None])
    np.fill_diagonal(without, 0)
    rows = [SequenceState([0], 1, WARM, stream, 3) for stream in range(TEXTS)]
    for shape, expected in (
        (BranchingTree((2,), keeps_law=True), without),
        (StochasticBeam(2, 1, keeps_law=True), without),
        (BranchingTree((2,), keeps_law=True, replacement=True), pairs),
    ):
        drafts = Shaped(shape).propose(rows, 0.0, 1)
        assert p_value(np.array([draft.tokens for draft in drafts]), expected) > 1e-3


@pytest.mark.usefixtures("tabulated")
def test_a_stochastic_beam_draws_paths_without_replacement() -> None:
    """The first of the kept paths is a draw from the law of paths, and all of them differ."""
    rows = [SequenceState([0], 1, WARM, stream, 4) for stream in range(TEXTS)]
    first = []
    for draft in Shaped(StochasticBeam(3, 2, keeps_law=True)).propose(rows, 0.0, 2):
        leaves = [node for node in range(len(draft)) if node not in draft.parents and draft.parents[node] >= 0]
        paths = [(draft.tokens[draft.parents[node]], draft.tokens[node]) for node in leaves]
        assert len(set(paths)) == len(paths) == 3
        first.append(paths[0])
    assert p_value(np.array(first), joint(WARM, 2, GUESSED)) > 1e-3


@pytest.mark.parametrize(
    ("name", "levels"),
    [("rsd-c:2x2", [2, 4]), ("rsd-c:3x2", [3, 6]), ("rsd-s:4x2", [4, 4]), ("mcsd:2x1", [2, 2]), ("model", [1, 1])],
)
@pytest.mark.parametrize("coupled", [True, False])
def test_trees_have_the_shape_that_was_asked_for(name: str, levels: list[int], coupled: bool) -> None:
    """So many nodes on every level, siblings that differ, parents before children, a law for every drawn node."""
    if name.startswith("mcsd") and coupled:
        return
    shape = DrafterSpec.parse(name).shape(coupled=coupled)
    assert shape.name == name
    [draft] = Shaped(shape).propose([SequenceState([0], 1, Sampling(temperature=1.0), 5, 9)], 0.0, 2)
    depths: list[int] = []
    for node, parent in enumerate(draft.parents):
        assert parent < node
        depths.append(0 if parent < 0 else depths[parent] + 1)
    assert [depths.count(level) for level in range(2)] == levels
    assert (draft.law is None) == coupled
    if draft.law is not None:
        assert len(draft.law) == len(draft)
    if draft.distinct:
        assert len(set(zip(draft.parents, draft.tokens, strict=True))) == len(draft)


@given(temperature=st.sampled_from([0.0, 0.3, 1.0]), stream=st.integers(0, 99))
def test_the_first_child_is_what_the_model_itself_would_write(temperature: float, stream: int) -> None:
    """With the target's noise; so a model that drafts for itself is always right."""
    row = SequenceState([0, 3], 1, Sampling(temperature=temperature), stream, 9)
    for shape in COUPLED:
        [draft] = Shaped(shape).propose([row], 0.0, 2)
        assert draft.tokens[0] == choose(GUESSED[1, 3], row.sampling, stream, 1)
        below = next(node for node, parent in enumerate(draft.parents) if parent == 0)
        assert draft.tokens[below] == choose(GUESSED[2, draft.tokens[0]], row.sampling, stream, 2)


def test_independent_draws_have_noise_of_their_own() -> None:
    """Every number of a draw gives other noise, number 0 the usual one."""
    ids = np.arange(50)
    noises = [gumbel(9, 4, ids, DRAFT, draw) for draw in range(4)]
    assert np.array_equal(noises[0], gumbel(9, 4, ids, DRAFT))
    assert len({noise.tobytes() for noise in noises}) == 4


@given(
    scores=st.lists(st.floats(-30, 30), min_size=1, max_size=8),
    most=st.floats(-30, 30),
)
def test_conditioned_scores_have_the_maximum_that_was_asked_for(scores: list[float], most: float) -> None:
    """Kool et al.'s formula, evaluated stably: the same as the textbook form where that can be computed."""
    noisy = np.sort(np.array(scores))[::-1]
    conditioned = condition(noisy, most)
    assert conditioned[0] == most
    assert (np.diff(conditioned) <= 1e-9).all()
    assert not np.isnan(conditioned).any()
    if abs(most) < 5 and (np.abs(noisy) < 5).all():
        textbook = -np.log(math.exp(-most) - math.exp(-noisy[0]) + np.exp(-noisy))
        assert np.allclose(conditioned, textbook, atol=1e-6)


def test_cutting_a_draft_keeps_what_verification_needs() -> None:
    """Laws and how siblings were drawn."""
    law = [np.array([0.5, 0.5])] * 3
    draft = Draft([0, 0, 1], [-1, -1, 0], [0.5] * 3, law, distinct=False)
    kept = draft.keep([0, 2])
    assert (kept.tokens, kept.parents, kept.distinct) == ([0, 1], [-1, 0], False)
    assert kept.law is not None
    assert len(kept.law) == 2
