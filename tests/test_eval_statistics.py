"""The arithmetic of ``treeagent eval``: intervals, paired tests, ranks and percentiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treeagent import Task
from treeagent.evaluation.statistics import exact, paired, percentile, ranking, share


def test_a_share_has_wilsons_interval() -> None:
    """Published values of 8 of 10, and the ends."""
    found = share(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share(0, 20).low == 0.0
    assert 0.1 < share(0, 20).high < 0.2
    assert share(0, 0).value is None
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)


def test_a_paired_test_counts_what_only_one_solves() -> None:
    """McNemar's exact test: 1 against 9 of 10 discordant pairs is 22 / 1024."""
    outcomes = [(True, False)] * 9 + [(False, True)] + [(True, True)] * 20 + [(False, False)] * 10
    found = paired(outcomes)
    assert (found.first, found.second, found.both, found.neither) == (9, 1, 20, 10)
    assert found.p == pytest.approx(22 / 1024)
    assert found.difference == pytest.approx(0.2)
    assert 0 < found.low < 0.2 < found.high < 0.4
    assert exact(0, 0) == 1.0
    assert exact(3, 3) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_turning_a_comparison_round_turns_its_numbers_round(outcomes: list[tuple[bool, bool]]) -> None:
    """And the interval holds what is next to the difference."""
    one, other = paired(outcomes), paired([(b, a) for a, b in outcomes])
    assert one.p == other.p
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.low <= one.high


def test_values_rank_good_thoughts_above_bad_ones() -> None:
    """Ties count half; a problem with good thoughts only says nothing; every problem has one vote."""
    found = ranking([[(2.0, True), (1.0, False), (1.0, False)], [(1.0, True), (1.0, False)], [(5.0, True)]])
    assert found.auc == pytest.approx((1.0 + 0.5) / 2)
    assert found.pairs == 3
    assert found.levels == ((5.0, 1, 1), (2.0, 1, 1), (1.0, 1, 4))
    assert ranking([]).auc is None
    assert ranking([[(1.0, True), (0.0, False)]]).low is None


def test_percentiles_are_values_that_occurred() -> None:
    """By nearest rank."""
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    assert percentile([], 0.5) is None


def test_promising_is_the_checkers_verdict() -> None:
    """Game of 24: what is left can make 24. Blocksworld: the beginning of a shortest plan."""
    game = Task.load("game24").checker
    assert game.is_promising("4 5 6 10", [], "4 6") is True
    assert game.is_promising("4 5 6 10", [], "1 1") is False
    blocks = Task.load("blocksworld")
    start = "a is on b. b is on the table. The hand is empty. Goal: a is on the table."
    checker = blocks.checker
    up = checker.transition(start, "unstack a from b")
    assert up is not None
    assert checker.is_promising(start, ["unstack a from b"], up) is True
    back = checker.transition(up, "stack a on b")
    assert back is not None
    assert checker.is_promising(start, ["unstack a from b", "stack a on b"], back) is False
