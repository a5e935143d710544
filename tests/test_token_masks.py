"""What may follow the beginning of a constrained text is remembered, and is the same as without a memory."""

from __future__ import annotations

import random

import pytest

from treeagent.backends.local import token_masks
from treeagent.backends.local.token_masks import TokenMasks
from treeagent.backends.seed.backend import SeedBackend
from treeagent.constraint import Constraint

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
