"""``treeagent eval --repeats``: pass@k by its definition, votes over answers that grade alike, repeats that go on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from test_eval_growth import evaluate
from test_eval_growth import folder as folder  # noqa: PLC0414  the fixture

from treeagent.evaluation.outcomes import Outcome
from treeagent.evaluation.repeats import at_each_k, mean, pass_at, vote_at


@pytest.mark.parametrize(("n", "right", "k"), [(n, c, k) for n in range(1, 7) for c in range(n + 1) for k in (1, n)])
def test_pass_at_k_is_the_share_of_sets_with_a_right_try(n: int, right: int, k: int) -> None:
    """The estimator of Chen et al. against all sets of k tries."""
    tries = [place < right for place in range(n)]
    sets = list(itertools.combinations(tries, k))
    assert pass_at(n, right, k) == pytest.approx(sum(any(chosen) for chosen in sets) / len(sets))


def test_a_vote_goes_by_the_key_of_answers() -> None:
    """The most frequent of k; of equals the earliest; no answer does not vote."""
    tries = [("a", False), ("b", True), ("b", True), (None, False)]
    assert vote_at(tries, 1) == pytest.approx(2 / 4)
    assert vote_at(tries, 4) == 1.0
    assert vote_at(tries, 2) == pytest.approx(3 / 6)  # b+b, b+none twice; a goes before b
    assert vote_at([(None, False)] * 3, 2) == 0.0
    many = [("a", False)] * 6 + [("b", True)] * 14
    assert 0.8 < vote_at(many, 5) < 1.0
    assert vote_at(many, 5) == vote_at(many, 5)


def test_an_interval_covers_the_mean_and_repeats_itself() -> None:
    """Bootstrap over problems, with a fixed seed."""
    first = mean([1.0] * 30 + [0.0] * 10)
    assert first.value == 0.75
    assert (first.low, first.high) == pytest.approx((0.6, 0.875), abs=0.06)
    assert mean([1.0] * 30 + [0.0] * 10) == first
    assert (mean([1.0] * 5).low, mean([1.0] * 5).high) == (1.0, 1.0)


def test_a_problem_that_failed_once_is_in_no_figure() -> None:
    """Only problems with a verdict in every repeat are compared."""
    right, wrong = Outcome(0, "x", "1", True), Outcome(0, "x", "2", False)
    failed, fine = Outcome(1, "y", error="down"), Outcome(1, "y", "1", True)
    found = at_each_k([[right, fine], [wrong, failed]], lambda outcome: outcome.answer)
    assert [(each.k, each.passed.value, each.passed.problems) for each in found] == [(1, 0.5, 1), (2, 1.0, 1)]
    assert at_each_k([[right], [failed]], lambda outcome: outcome.answer) == []


def test_repeats_have_seeds_of_their_own_and_may_become_more(folder: Path) -> None:
    """Each is a folder that goes on; the answers here do not depend on the seed, so all figures are the accuracy."""
    first = json.loads(evaluate(folder, "--repeats", "2", "--json").output)
    assert [row["seed"] for row in first["repeats"]] == [0, 1]
    assert [each["k"] for each in first["at_k"]] == [1, 2]
    for each in first["at_k"]:
        assert each["passed"]["value"] == each["voted"]["value"] == pytest.approx(first["accuracy"]["value"])
    assert (folder / "out" / "repeats" / "2" / "outcomes.jsonl").exists()
    more: Any = evaluate(folder, "--repeats", "3")
    assert "seed 2: accuracy 57.1%, 4 of 7" in more.output, more.output
    assert "k = 3: pass@k 57.1%" in more.output
    assert evaluate(folder, "--json").exit_code == 0
