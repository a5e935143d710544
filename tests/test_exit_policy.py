"""Which exits of a draft are evaluated: those that save time, also when shares change."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent.backends.seed.executor.exit_policy import TRIAL, ExitPolicy


def test_exits_are_evaluated_where_that_takes_less_time() -> None:
    """Evaluating an exit costs one output head; a token that stops there saves the layers and the heads that follow."""
    cheap = ExitPolicy((1, 2, 4), (1.0, 4.0))  # layers alone
    assert cheap.active_exits == (0, 1, 2)
    assert cheap.relative_cost == pytest.approx((1 + 1 / 2 + 2 / 4) / 4)
    dear = ExitPolicy((1, 2, 4), (11.0, 14.0))  # a look takes ten layers
    assert dear.active_exits == (2,)
    assert dear.relative_cost == 1
    unknown = ExitPolicy((1, 2, 4))
    assert unknown.active_exits == (0, 1, 2)
    assert not unknown.weighs


@settings(deadline=None)
@given(
    layers=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    layer=st.floats(0.1, 10),
    look=st.floats(0, 50),
    shares=st.lists(st.integers(0, 100), min_size=5, max_size=5),
)
def test_the_choice_of_exits_is_the_best_of_all(
    layers: list[int], layer: float, look: float, shares: list[int]
) -> None:
    """Against every subset, whatever shares have left."""
    exits = list(itertools.accumulate(layers))
    policy = ExitPolicy(exits, (look + layer * exits[0], look + layer * exits[-1]))
    for number in range(len(exits) - 1):
        policy.learn(number, shares[number], 100)
    policy.end_pass()

    def way(looked: Sequence[int]) -> float:
        seconds, reach, before = 0.0, 1.0, -1
        for number in looked:
            seconds += reach * policy._stage(before, number)
            reach, before = reach * (1 - policy._exit_rate(number)), number
        return seconds

    last = len(exits) - 1
    every = [(*some, last) for count in range(last + 1) for some in itertools.combinations(range(last), count)]
    assert way(policy.active_exits) == pytest.approx(min(map(way, every)))
    assert policy.relative_cost == pytest.approx(way(policy.active_exits) / way((last,)))


def test_an_exit_that_was_given_up_is_tried_again() -> None:
    """Its evidence loses weight, and with the share that is assumed at first it saves time."""
    policy = ExitPolicy((1, 4), (2.0, 5.0))
    assert policy.active_exits == (0, 1)
    policy.learn(0, 0, 1000)
    policy.end_pass()
    assert policy.active_exits == (1,)
    for _ in range(1000):
        policy.end_pass()
    assert policy.active_exits == (0, 1)


def test_all_exits_are_evaluated_from_time_to_time() -> None:
    """So that one is found that pays, though its share was thought too small."""
    policy = ExitPolicy((1, 4), (9.0, 12.0))  # pays above a share of three quarters
    looks = []
    for _ in range(12 * TRIAL):
        looks.append(policy.active_exits)
        if policy.active_exits == (0, 1):
            policy.learn(0, 50, 50)
        policy.end_pass()
    assert looks[:TRIAL] == [(1,)] * TRIAL
    assert looks[TRIAL] == (0, 1)
    assert looks[-TRIAL:].count((0, 1)) == TRIAL
