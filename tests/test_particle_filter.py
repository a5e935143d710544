"""What is particular to particles."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from chain_tools import leaves, samples
from hypothesis import given
from hypothesis import strategies as st
from judged_trees import backend_of, expanded, judged_trees
from search_cases import short
from synthetic import TreeBackend, solve

from treeagent.strategies.particle_filter import ParticleFilter


@pytest.mark.parametrize("by", ["propose", "sample"])
@short
@given(drawn=judged_trees(), n=st.integers(1, 8), seed=st.integers(0, 5))
def test_as_many_particles_are_drawn_as_there_were(by: Any, drawn: Any, n: int, seed: int) -> None:
    """On every level n samples less the particles that have arrived, and only a level's states are expanded."""
    tree, values = drawn
    backend = backend_of(tree, values)
    result = solve(backend, ParticleFilter(n=n, by=by), seed=seed)
    levels: dict[int, int] = {}
    for name, count in samples(backend):
        levels[len(name)] = levels.get(len(name), 0) + count
    assert all(count <= n for count in levels.values())
    assert levels.get(1, n) == n
    asked = expanded(backend)
    assert len(asked) == len(set(asked))
    assert result.answer in leaves(tree) or result.answer is None


def test_particles_are_drawn_by_the_softmax_of_their_judgements() -> None:
    """Over many seeds a particle is followed as often as the softmax says; an unknown one never."""
    tree = [[[1]], [[2]], [[3]]]
    judge = {"ra": "v0", "rb": "v10", "rc": "hm"}
    followed: Counter[str] = Counter()
    for seed in range(300):
        backend = TreeBackend(tree, judge=lambda name, node: judge.get(name[:2], "hm"))
        solve(backend, ParticleFilter(n=3, by="propose", temperature=1.0), seed=seed)
        followed.update(name for name in expanded(backend) if len(name) == 2)
    missed = (1 / (1 + math.exp(-1))) ** 3  # that three draws all give the better one
    assert followed["ra"] / 300 == pytest.approx(1 - missed, abs=0.09)
    assert followed["rc"] == 0


def test_one_particle_is_one_chain() -> None:
    """A single particle takes the model's steps as they come, whatever the judge says."""
    backend = TreeBackend([[[7, 30]], 30])
    assert solve(backend, ParticleFilter(n=1)).answer == "raaa"
    assert samples(backend) == [("r", 1), ("ra", 1), ("raa", 1)]
