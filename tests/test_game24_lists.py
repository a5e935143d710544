"""Steps and solutions of the Game of 24 that material lists, and which hands are solvable."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_game24 import CHECK

from treeagent.backends.training.mini_data import all_hands, listed, solution
from treeagent.tasks.game24_rules import apply, read, show, solvable, steps

HANDS = st.lists(st.integers(1, 13), min_size=4, max_size=4).map(sorted)


@settings(deadline=None, max_examples=60)
@given(HANDS, st.randoms(use_true_random=False))
def test_every_listed_step_is_legal_and_leads_to_its_state(hand: list[int], rng: random.Random) -> None:
    """Down a random path: what training material lists is what the checker accepts, each state once."""
    state = tuple(map(Fraction, hand))
    while len(state) > 1:
        found = list(steps(state))
        assert len({step.state for step in found}) == len(found)
        for step in found:
            assert CHECK.legal(show(state), step.text, show(step.state))
            assert step.result == apply(step.left, step.op, step.right) >= 0
        assert set(listed(state)) <= set(found)
        state = rng.choice(found).state


@settings(deadline=None, max_examples=60)
@given(HANDS, st.randoms(use_true_random=False))
def test_every_solution_verifies_by_answer_and_by_steps(hand: list[int], rng: random.Random) -> None:
    """The expression spelled from a random way to 24 verifies, and so do its steps."""
    state = tuple(map(Fraction, hand))
    if not solvable(state):
        return
    path, expression = solution(state, rng)
    assert CHECK.verify(show(state), [], expression)
    assert CHECK.verify(show(state), [], f"{expression} = 24")
    assert CHECK.verify(show(state), [step.text for step in path], None)
    assert not CHECK.verify(show(state), [step.text for step in path[:-1]], None)
    assert not CHECK.verify(show(state), [step.text for step in path[1:]], None)


def test_steps_verify_only_in_order_and_to_24() -> None:
    """Each step must follow from the one before; the last must leave 24."""
    path = ["13 - 9 = 4 (left: 4 4 10)", "10 - 4 = 6 (left: 4 6)", "4 * 6 = 24 (left: 24)"]
    assert CHECK.verify("4 9 10 13", path, None)
    assert not CHECK.verify("4 9 10 13", path[::-1], None)
    assert not CHECK.verify("4 9 10 13", [*path[:2], "4 + 6 = 10 (left: 10)"], None)
    assert not CHECK.verify("4 9 10 13", [], None)
    assert not CHECK.verify("24", [], None)
    assert not CHECK.verify("4 9 10 13", [*path, *path], None)


@pytest.mark.exhaustive
def test_what_is_solvable_is_known() -> None:
    """1362 of the 1820 hands can be solved; the two that need fractions are among them, 1 1 1 1 is not."""
    assert sum(map(solvable, all_hands())) == 1362
    assert solvable(read("3 3 8 8"))
    assert solvable(read("1 3 4 6"))
    assert not solvable(read("1 1 1 1"))


def test_negative_numbers_would_solve_nothing_more() -> None:
    """The lister leaves negative results out; an independent solver with all of them agrees on every third hand."""

    def brute(numbers: tuple[Fraction, ...], seen: dict[tuple[Fraction, ...], bool]) -> bool:
        if len(numbers) == 1:
            return numbers[0] == 24
        if numbers not in seen:
            seen[numbers] = any(
                brute(tuple(sorted((*(n for k, n in enumerate(numbers) if k not in (i, j)), value))), seen)
                for i in range(len(numbers))
                for j in range(len(numbers))
                if i != j
                for op in "+-*/"
                if (value := apply(numbers[i], op, numbers[j])) is not None
            )
        return seen[numbers]

    seen: dict[tuple[Fraction, ...], bool] = {}
    for hand in all_hands()[::60]:
        assert brute(hand, seen) == solvable(hand)
