"""The choice of drafted nodes in C: the nodes that the one in NumPy takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seed_tools import COSTS

from treeagent.backends.seed.drafters.base import RoundLoad
from treeagent.backends.seed.executor.cost_table import CostTable
from treeagent.backends.seed.executor.pass_cost import PassCost
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.records import Draft
from treeagent.backends.seed.speculation.calibration import AcceptanceEstimator
from treeagent.backends.seed.speculation.compiled_selection import select_compiled
from treeagent.backends.seed.speculation.goodput import select, values

try:
    library.load()
except library.NoKernels as error:
    pytest.skip(str(error), allow_module_level=True)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """A tree; many confidences are equal."""
    size = draw(st.integers(0, 12))
    parents = [draw(st.integers(-1, node - 1)) for node in range(size)]
    confidence = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
    return Draft(list(range(size)), parents, [draw(confidence) for _ in range(size)])


@st.composite
def costs(draw: st.DrawFn) -> PassCost:
    """A table of a few sizes, the first of which may be the only one."""
    tokens = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True))
    steps = draw(st.lists(st.floats(0, 0.01), min_size=len(tokens), max_size=len(tokens)))
    seconds = tuple(0.001 + sum(steps[: place + 1]) for place in range(len(steps)))
    rates = draw(st.lists(st.floats(0, 1e-4), min_size=6, max_size=6))
    return PassCost(CostTable(tuple(sorted(tokens)), seconds, tuple(rates)), speed=draw(st.floats(0.5, 2)))


outcomes = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=30)
loads = st.builds(RoundLoad, st.integers(0, 4), st.floats(0, 9), st.integers(0, 9), st.floats(0, 0.02))


@given(
    st.lists(st.tuples(drafts(), st.floats(0, 2)), min_size=1, max_size=6),
    costs(),
    outcomes,
    loads,
    st.integers(0, 40),
)
@settings(max_examples=200, deadline=None)
def test_the_nodes_are_those_of_the_reference(weighed, cost, seen, load, most):
    """Of any drafts and worths of rows, beside any others, with any room: every node and parent, the summed values."""
    rows, each = zip(*weighed, strict=True)
    estimator = AcceptanceEstimator()
    estimator.learn(seen)
    worths = [values(draft, estimator.probabilities, worth) for draft, worth in weighed]
    expected = select(rows, worths, cost, most, load)
    found = select_compiled(rows, each, estimator, cost, most, load)
    assert found is not None
    kept, worth = found
    assert [(draft.tokens, draft.parents, draft.confidence) for draft in kept] == [
        (draft.tokens, draft.parents, draft.confidence) for draft in expected
    ]
    taken = [worths[row][node] for row, draft in enumerate(expected) for node in draft.tokens]
    assert worth == pytest.approx(sum(taken))


def test_a_pass_of_fixed_size_is_left_to_the_reference(monkeypatch):
    """Its padding is filled with the next best nodes."""
    estimator, rows = AcceptanceEstimator(), [Draft([1], [-1], [0.9])]
    monkeypatch.setattr(COSTS, "padded", lambda tokens: tokens + 4)
    assert select_compiled(rows, [1.0], estimator, COSTS, 9) is None
    monkeypatch.setattr(COSTS, "padded", int)
    assert select_compiled(rows, [1.0], estimator, COSTS, 9) is not None
    monkeypatch.setattr(library, "optional", lambda signature: None)
    assert select_compiled(rows, [1.0], estimator, COSTS, 9) is None
