"""Masks of constraints: what may follow a beginning is remembered, and logits are cut where it is forbidden."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from treeagent.backends.local import token_masks
from treeagent.backends.local.token_masks import TokenMask, TokenMasks
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers.base import DraftCheck
from treeagent.backends.seed.verifiers.tree_masks import masked_tree
from treeagent.constraint import Constraint
from treeagent.request import Sampling

LABELS = Constraint.of_choices(["good", "unsure", "bad", "badly put"])
NUMBERS = Constraint("regex", r"(\d\d? [-+*/] ){20}\d")


@pytest.fixture(scope="module")
def masks() -> TokenMasks:
    """Those of the bundled model."""
    backend = SeedBackend("mini")
    backend.load()
    assert backend.core.parts is not None
    jobs = backend.core.parts.jobs
    return TokenMasks(jobs._tokenizer, jobs._model, jobs._vocabulary)


def walk(masks: TokenMasks, constraint: Constraint, seed: int) -> list[tuple[list[int], list[int], int]]:
    """A random text: at each place all allowed tokens, the forced ones, and the token that was taken."""
    chance, mask, places = random.Random(seed), masks.mask(constraint), []
    for _ in range(30):
        allowed = mask.allowed().nonzero()[0].tolist()
        token = chance.choice(allowed)
        places.append((allowed, mask.forced(), token))
        if (longer := mask.after(token)) is None:  # the end
            break
        mask.take(token)
        assert mask.allowed().tolist() == longer.allowed().tolist()
    return places


@pytest.mark.parametrize("constraint", [LABELS, NUMBERS], ids=["labels", "numbers"])
def test_remembered_masks_are_those_of_texts_that_share_nothing(
    masks: TokenMasks, constraint: Constraint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In texts that part at any place, also beyond what is remembered."""
    together = [walk(masks, constraint, seed) for seed in range(12)]
    monkeypatch.setattr(token_masks, "KNOWN", 0)
    monkeypatch.setattr(masks, "_begun", {})
    apart = [walk(masks, constraint, seed) for seed in range(12)]
    assert together == apart
    assert len({str(text) for text in apart}) > 1


def test_texts_of_a_constraint_go_their_own_ways(masks: TokenMasks) -> None:
    """What one of them takes is no matter of another, and a token that is not allowed has nothing after it."""
    one, other = masks.mask(LABELS), masks.mask(LABELS)
    before = other.allowed().tolist()
    token = before.index(True)
    one.take(token)
    assert other.allowed().tolist() == before
    assert one.allowed().tolist() != before
    assert other.after(before.index(False)) is None
    with pytest.raises(ValueError, match="read-only"):
        other.allowed()[token] = False


def test_only_so_many_constraints_are_remembered(masks: TokenMasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last."""
    monkeypatch.setattr(masks, "_begun", {})
    monkeypatch.setattr(token_masks, "CONSTRAINTS", 2)
    constraints = [Constraint.of_choices([word]) for word in "abc"]
    for each in (*constraints[:2], constraints[0], constraints[2]):
        masks.mask(each)
    assert list(masks._begun) == [constraints[0], constraints[2]]


class Given(TokenMask):
    """Allows the same tokens at every place."""

    def __init__(self, tokens: set[int], size: int) -> None:
        self._allowed = np.isin(np.arange(size), list(tokens))

    def allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """See :class:`TokenMask`."""
        return self._allowed

    def after(self, token: int) -> TokenMask | None:
        """See :class:`TokenMask`."""
        return self if self._allowed[token] else None


@pytest.mark.parametrize("tokens", [{3}, {1, 3, 5}, set(range(40)) - {7}, set(range(40))], ids=len)
def test_logits_are_cut_where_a_mask_forbids_and_nowhere_else(tokens: set[int]) -> None:
    """Of few allowed tokens and of many; rows without a mask and below a forbidden node stay as they are."""
    logits = torch.randn(6, 40)
    before, mask = logits.clone(), Given(tokens, 40)
    free, bound = (SequenceState([0], 1, Sampling(), 0, 9, mask=each) for each in (None, mask))
    draft = Draft([3, 7, 1], [-1, -1, 1], [0.5, 0.5, 0.5])
    masked = masked_tree(
        [DraftCheck(free, Draft(), 0), DraftCheck(bound, draft, 1), DraftCheck(free, Draft(), 5)], logits
    )
    expected = before.clone()
    for row in [1, 2, *([3] if 7 in tokens else []), *([4] if {7, 1} <= tokens else [])]:
        for token in set(range(40)) - tokens:
            expected[row, token] = -torch.inf
    assert torch.equal(masked, expected)
    assert torch.equal(logits, before)
