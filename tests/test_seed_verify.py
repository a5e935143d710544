"""Acceptance rules: what is kept of a draft follows the target's law, or is its very text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_laws import (
    CUT,
    DRAWS,
    GUESSED,
    NUCLEUS,
    TEXTS,
    WARM,
    NothingTakenOff,
    Shaped,
    V,
    joint,
    p_value,
    softmax,
    texts,
)

from treeagent.backends.sampling.sampler import choose, warp
from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.drafters.hybrid import HybridDrafter
from treeagent.backends.seed.drafters.model.tree_shapes import Chain
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers import rejection as verify
from treeagent.backends.seed.verifiers.base import DraftCheck, Verifier
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling


class Likeliest(Drafter):
    """The ``breadth`` likeliest tokens after every node, ``levels`` deep, as a table would draft them."""

    name = "likeliest"

    def __init__(self, breadth: int, levels: int = 2) -> None:
        self.breadth, self.levels = breadth, levels

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = [Draft() for _ in rows]
        for row, draft in zip(rows, drafts, strict=True):
            level = [(-1, row.tokens[-1])]
            for step in range(self.levels):
                onward = []
                for parent, last in level:
                    for token in order(row.position + step, last)[: self.breadth]:
                        onward.append((len(draft), token))
                        draft.tokens.append(token)
                        draft.parents.append(parent)
                        draft.confidence.append(0.4)
                level = onward
        return drafts


@cache
def order(position: int, last: int) -> list[int]:
    """Tokens by the draft's law, likeliest first."""
    return np.argsort(-GUESSED[position, last]).tolist()


class Terse(Likeliest):
    """A table that promises less than one token, so that a model is asked as well."""

    def __init__(self) -> None:
        super().__init__(1, levels=1)

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = super().propose(rows, floor, depth)
        for draft in drafts:
            draft.confidence = [0.9]
        return drafts


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize(
    ("drafter", "setting", "length"),
    [
        (Shaped(Chain(keeps_law=True)), CUT, 2),
        (Likeliest(3), NUCLEUS, 3),
        (HybridDrafter(Terse(), Shaped(Chain(keeps_law=True))), WARM, 2),
    ],
    ids=["drawn chain", "siblings", "table and model"],
)
def test_rejection_keeps_the_law_of_the_text(drafter: Drafter, setting: Sampling, length: int) -> None:
    """Texts of two or three tokens have the law of the target."""
    drawn = texts(Rejection(), drafter, setting, 2 * TEXTS, length)
    assert p_value(drawn, joint(setting, length)) > 1e-3


class Misdeclared(Likeliest):
    """Takes the likeliest token and marks it as drawn."""

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = super().propose(rows, floor, depth)
        for row, draft in zip(rows, drafts, strict=True):
            last = [row.tokens[-1], *draft.tokens]
            draft.law = [softmax(warp(GUESSED[row.position + i, last[i]], WARM)) for i in range(len(draft))]
        return drafts


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize(
    ("rule", "drafter"),
    [
        (NothingTakenOff(), Shaped(Chain(keeps_law=True))),
        (NothingTakenOff(), Likeliest(3)),
        (Rejection(), Misdeclared(1)),
    ],
    ids=["nothing taken off", "nothing taken off from siblings", "misdeclared"],
)
def test_a_broken_rule_is_found_out(rule: Verifier, drafter: Drafter) -> None:
    """The test above fails clearly, with half as many texts, for the mistakes that are easily made."""
    drawn = texts(rule, drafter, WARM, TEXTS, 2)
    assert p_value(drawn, joint(WARM, 2)) < 1e-6


@pytest.mark.usefixtures("tabulated")
def test_coupled_verification_keeps_the_law_and_the_text() -> None:
    """Texts have the law of the target, and are the same without drafts."""
    drawn = texts(Coupled(), Likeliest(2), NUCLEUS, TEXTS, 2)
    assert p_value(drawn, joint(NUCLEUS, 2)) > 1e-3
    assert np.array_equal(drawn, texts(Coupled(), Likeliest(1, levels=0), NUCLEUS, TEXTS, 2))


@pytest.mark.usefixtures("tabulated")
def test_a_drawn_chain_keeps_the_law_it_was_drawn_from() -> None:
    """Tokens of a draft are distributed as the law that stands beside them, warped like the target's."""
    everyone = [SequenceState([0], 1, CUT, stream, 3) for stream in range(2 * TEXTS)]
    drafts = Shaped(Chain(keeps_law=True)).propose(everyone, 0.0, 2)
    law = joint(CUT, 2, GUESSED)
    assert drafts[0].law is not None
    assert np.allclose(drafts[0].law[0], law.sum(axis=1))
    assert p_value(np.array([draft.tokens for draft in drafts]), law) > 1e-3


TREE = st.lists(st.tuples(st.integers(-1, 8), st.integers(0, V - 1)), max_size=9)


@settings(max_examples=300, deadline=None)
@given(
    tree=TREE,
    temperature=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    top_k=st.none() | st.integers(1, V),
    min_p=st.none() | st.floats(0.0, 0.9),
    stream=st.integers(0, DRAWS - 1),
    begun=st.integers(0, 2),
    greedy_rule=st.booleans(),
)
def test_a_coupled_verdict_is_the_plain_text(
    tree: list[tuple[int, int]],
    temperature: float,
    top_k: int | None,
    min_p: float | None,
    stream: int,
    begun: int,
    greedy_rule: bool,
) -> None:
    """Any tree is followed exactly as far as it agrees with plain decoding; greedy rejection does the same."""
    sampling = Sampling(temperature=temperature, top_k=top_k, min_p=min_p)
    draft, seen = Draft(), set()
    for above, token in tree:
        parent = min(above, len(draft) - 1)
        if (parent, token) not in seen:
            seen.add((parent, token))
            draft.tokens.append(token)
            draft.parents.append(parent)
            draft.confidence.append(0.5)
    laws = np.random.default_rng(stream).normal(size=(4 + len(draft), V))  # three rows of somebody else's before
    row = SequenceState([0] * (1 + begun), 1, sampling, stream, 20)
    rule = Rejection() if greedy_rule and temperature == 0 else Coupled()
    [verdict] = rule.verify([DraftCheck(row, draft, 3)], Logits(torch.from_numpy(laws)))
    assert verdict is not None
    node, path, text = -1, [], []
    while True:
        text.append(choose(laws[4 + node], sampling, stream, begun + len(text)))
        below = [i for i, parent in enumerate(draft.parents) if parent == node and draft.tokens[i] == text[-1]]
        if not below:
            break
        [node] = below
        path.append(node)
    assert (verdict.tokens, verdict.accepted) == (tuple(text), tuple(path))


@pytest.mark.parametrize("rule", [Coupled(), Rejection()])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_cost_their_own_branch_alone(rule: Verifier, temperature: float) -> None:
    """A branch gets no verdict once its walk meets nan, infinity or no possible token; others get theirs."""
    sampling = Sampling(temperature=temperature)
    broken = [torch.full((V,), value, dtype=torch.float64) for value in (torch.nan, torch.inf, -torch.inf)]
    fine = torch.tensor([0.0, 50.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    partly = fine.clone()
    partly[3] = torch.nan
    for bad in [*broken, partly]:
        logits = torch.stack([fine, fine, fine, bad, bad, fine, fine, bad])
        drafts = [Draft([1], [-1], [0.5]), Draft([1], [-1], [0.5]), Draft(), Draft(), Draft([2], [-1], [0.5])]
        claims = [
            DraftCheck(SequenceState([0], 1, sampling, stream, 9), draft, first)
            for stream, (draft, first) in enumerate(zip(drafts, (0, 2, 4, 5, 6), strict=True))
        ]
        first, second, third, fourth, fifth = rule.verify(claims, Logits(logits))
        assert first == verify.Verification((0,), (1, 1))
        assert (second, third) == (None, None)
        assert fourth == fifth == verify.Verification((), (1,))  # what lies behind a rejected token does not matter


def test_a_residual_without_mass_is_the_law_itself() -> None:
    """Where the draft's law is the target's up to rounding, a rejection must not divide by nothing."""
    law = np.array([0.5, 0.5, 0.0])
    assert np.array_equal(Rejection().residual(law, 0, law + 1e-17), law)
    assert np.array_equal(Rejection().residual(np.array([1.0, 0.0]), 0, None), [1.0, 0.0])
    assert np.allclose(Rejection().residual(law, 0, np.array([0.25, 0.75, 0.0])), [1.0, 0.0, 0.0])
