"""The price of a row in a round, and the number of early rows that it allows."""

from __future__ import annotations

import pytest
from seed_tools import table

from treeagent.backends.seed.scheduler.round_cost import RoundCost


@pytest.mark.parametrize(("fixed", "each"), [(0.001, 0.002), (0.004, 0.0), (0.0, 0.0005)])
def test_the_time_outside_of_passes_is_learnt_by_rows(fixed: float, each: float) -> None:
    """After some hundred rounds of different sizes it is that of the rounds, whatever was assumed."""
    cost = RoundCost(table(1))
    for round in range(1500):
        cost.record(1 + round % 7, fixed + each * (1 + round % 7))
    assert cost.outside(5) == pytest.approx(fixed + 5 * each, rel=0.1)


def test_rounds_of_one_size_and_disturbed_ones_give_a_price_above_zero() -> None:
    """A round that took a second counts for little, and equal rounds do not make further rows free."""
    cost = RoundCost(table(1))
    for round in range(2000):
        cost.record(1, 1.0 if round == 1990 else 0.002)
    assert 0.002 < cost.outside(1) < 0.003
    assert cost(2) - cost.passes(2) > cost(1) - cost.passes(1)


def test_early_rows_are_many_beside_a_large_model_and_none_beside_a_small_one() -> None:
    """A row takes as long outside of the pass for both, which is little of the larger one's pass."""
    large, small = RoundCost(table(1)), RoundCost(table(40))
    assert large.slight(8) == 8
    assert small.slight(8) == 0
