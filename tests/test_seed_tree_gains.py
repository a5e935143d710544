"""Gains of draft trees on toy models: statements of the papers about accepted tokens, within sampling error.

An order-1 Markov target of normal logits, a draft that adds noise to them, and one pass from many random states, as in
the experiments of Jeon et al. (arXiv 2402.14160). D is the mean total variation distance of the two laws.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from toy_laws import Law

from treeagent.backends.sampling.gumbel_top_k import softmax_rows
from treeagent.backends.seed.drafters.model.tree_shapes import BranchingTree, Shape
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import SequenceState
from treeagent.backends.seed.verifiers.base import DraftCheck, Verifier
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling

V = 40
PASSES = 3000
WARM = Sampling(temperature=1.0)


@cache
def models(distance: float) -> tuple[Law, Law]:
    """Logits (V, V) of a target and of a draft at this mean total variation, found by bisection to 0.1 %."""
    random = np.random.default_rng(0)
    target, noise = 2 * random.normal(size=(V, V)), random.normal(size=(V, V))
    low, high = 0.0, 10.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        apart = np.abs(softmax_rows(target) - softmax_rows(target + middle * noise)).sum(axis=1).mean() / 2
        low, high = (middle, high) if apart < distance else (low, middle)
    draft = target + low * noise
    assert np.abs(softmax_rows(target) - softmax_rows(draft)).sum(axis=1).mean() / 2 == pytest.approx(distance, 1e-3)
    return target, draft


@cache
def gained(shape: Shape, rule: Verifier, distance: float) -> tuple[float, float]:
    """Mean tokens of a pass and its standard error; every pass has a state and noise of its own."""
    target, guessed = models(distance)
    states = np.random.default_rng(1).integers(V, size=PASSES).tolist()
    rows = [SequenceState([state], 1, WARM, stream, 100) for stream, state in enumerate(states)]
    sketches = [shape.new(row, 2) for row in rows]
    for level in range(2):
        last = [sketch.draft.tokens[node] if level else sketch.row.tokens[-1]
                for sketch in sketches for node in sketch.growing]  # fmt: skip
        shape.grow(sketches, level, guessed[last], 0.0)
    claims, places = [], []
    for sketch in sketches:
        claims.append(DraftCheck(sketch.row, sketch.draft, len(places)))
        places += [sketch.row.tokens[-1], *sketch.draft.tokens]
    verdicts = rule.verify(claims, Logits(torch.from_numpy(target[places])))
    tokens = np.array([len(verdict.tokens) for verdict in verdicts if verdict is not None])
    assert len(tokens) == PASSES
    return float(tokens.mean()), float(tokens.std(ddof=1)) / math.sqrt(PASSES)


COUPLED, DRAWN = BranchingTree((2, 2), keeps_law=False), BranchingTree((2, 2), keeps_law=True)
REPLACED = BranchingTree((2, 2), keeps_law=True, replacement=True)
MEMBERSHIP, RECURSIVE = Coupled(), Rejection()


@pytest.mark.parametrize("distance", [0.1, 0.2, 0.3])
def test_coupled_siblings_are_accepted_as_often_as_recursive_rejection_accepts(distance: float) -> None:
    """With two children a node and D up to 0.3: knowing the noise outweighs that it is not the best coupling."""
    ours, error = gained(COUPLED, MEMBERSHIP, distance)
    theirs, their_error = gained(DRAWN, RECURSIVE, distance)
    assert ours >= theirs - 2 * math.hypot(error, their_error)


def test_siblings_that_differ_are_accepted_more_often() -> None:
    """Drawn without replacement rather than with it, by a poor draft (D = 0.57), at the same number of nodes."""
    without, error = gained(DRAWN, RECURSIVE, 0.57)
    replaced, other_error = gained(REPLACED, RECURSIVE, 0.57)
    assert without >= replaced - 2 * math.hypot(error, other_error)


def test_the_better_the_draft_the_more_is_accepted() -> None:
    """Far beyond sampling error, for every rule, so that this measurement distinguishes drafts."""
    for shape, rule in ((COUPLED, MEMBERSHIP), (DRAWN, RECURSIVE)):
        means = [gained(shape, rule, distance) for distance in (0.57, 0.3, 0.1)]
        assert means[0][0] + 5 * means[0][1] < means[1][0] < means[2][0] - 5 * means[2][1]
