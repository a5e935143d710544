"""Predicted pass times: constants are recovered, more work takes no less time, the machine's speed is followed."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import cycle, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent.backends.seed.executor.cost_table import TOKENS, CostTable
from treeagent.backends.seed.executor.pass_cost import PassCost
from treeagent.backends.seed.executor.pass_work import RATES, PassWork
from treeagent.backends.seed.executor.profiler import TRIALS, measure_passes
from treeagent.backends.seed.executor.trial_pass import TrialPass
from treeagent.backends.seed.scheduler import ratio_bins

TRUE = CostTable(
    TOKENS, (2e-3, 2.1e-3, 2.3e-3, 2.4e-3, 3e-3, 4e-3, 6e-3, 9e-3, 17e-3), (2e-6, 1e-5, 8e-7, 2e-8, 4e-8, 3e-4)
)
"""Of a machine that is never disturbed."""


def work_of(trial: TrialPass) -> PassWork:
    """What a trial pass computes, where every shared context is attended to once for all its rows."""
    lengths = list(trial.lengths(2048))
    if trial.rows * trial.shared < 1500:
        return PassWork.of([(0, [(trial.shared + own, new, 1 if trial.prompt else new) for own, new in lengths])])
    parts = [lengths[group :: trial.groups] for group in range(trial.groups)]
    return PassWork.of((trial.shared, [(trial.shared + own, new, new) for own, new in part]) for part in parts)


def test_known_constants_are_recovered() -> None:
    """The engine's own trial passes tell tokens, spans, logits, keys and groups apart."""
    fitted = CostTable.fit([(work, TRUE.predict(work)) for work in map(work_of, TRIALS)])
    draw = random.Random(0)
    for _ in range(200):
        rows, groups = draw.choice((1, 3, 12, 40, 120, 250)), draw.choice((1, 2, 5))
        parts = [
            [(700 + draw.randint(1, 400), 1 + draw.choice((0, 0, 2)), 1) for _ in range(1 + rows // groups)]
            for _ in range(groups)
        ]
        work = PassWork.of((draw.choice((0, 500, 700)), part) for part in parts)
        assert fitted.predict(work) == pytest.approx(TRUE.predict(work), rel=0.1)


@pytest.mark.parametrize("bad", range(0, len(TRIALS), 3))
def test_a_disturbed_measurement_spoils_little(bad: int) -> None:
    """One pass that took twenty times as long as it should moves the prediction of no other by a quarter."""
    works = list(map(work_of, TRIALS))
    times = [TRUE.predict(work) * (20 if place == bad else 1) for place, work in enumerate(works)]
    fitted = CostTable.fit(list(zip(works, times, strict=True)))
    for place, work in enumerate(works):
        if place != bad:
            assert fitted.predict(work) == pytest.approx(TRUE.predict(work), rel=0.25)


COUNTS = st.fixed_dictionaries(
    {name: st.integers(0, 300) for name in ("spans", "wanted", "private", "common", "pairs", "shared", "groups")}
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), COUNTS, st.floats(1e-4, 0.5)), min_size=1, max_size=12),
    st.integers(1, 400),
    COUNTS,
)
def test_more_work_never_takes_less_time(
    passes: list[tuple[int, dict[str, float], float]], tokens: int, counts: dict[str, float]
) -> None:
    """Whatever was measured, the prediction is positive and rises with every count."""
    table = CostTable.fit([(PassWork(tokens, **own), seconds) for tokens, own, seconds in passes])
    assert table.valid
    work = PassWork(tokens, **counts)
    seconds = table.predict(work)
    assert seconds > 0
    for name in ("tokens", *counts):
        assert table.predict(replace(work, **{name: getattr(work, name) + 1})) >= seconds * (1 - 1e-9)


def test_predictions_lie_between_what_was_measured() -> None:
    """Between two knots a prediction is between theirs, and beyond the last one it goes on with the last slope."""
    for low, high in pairwise(TOKENS):
        for tokens in range(low, high):
            assert TRUE.by_tokens(low) <= TRUE.by_tokens(tokens) <= TRUE.by_tokens(high)
    assert TRUE.by_tokens(512) == pytest.approx(17e-3 + 2 * 8e-3)


@pytest.mark.parametrize("rows", [1, 7, 64, 250])
def test_one_number_of_nodes_costs_what_it_costs_among_many(rows: int) -> None:
    """The vector of a round has the values of single predictions, and those of the whole work."""
    cost, nodes = PassCost(TRUE, 1.3), np.arange(80)
    work = PassWork.of([(400, [(500, 1, 1)] * rows)])
    cost.record(work, TRUE.predict(work) * 1.3)
    assert cost.each(rows, nodes).tolist() == pytest.approx([cost(rows, count) for count in range(80)])
    assert cost(rows) == pytest.approx(1.3 * TRUE.predict(work))
    drafted = PassWork.of([(400, [(500, 2, 2)] * rows)])
    assert cost(rows, rows) == pytest.approx(1.3 * TRUE.predict(drafted), rel=0.05)


def test_longer_contexts_are_expected_where_they_were_seen() -> None:
    """Each magnitude of rows has its own contexts; the next one is taken for one that was never seen."""
    cost = PassCost(TRUE)
    for rows, context in ((1, 900), (16, 100)):
        work = PassWork.of([(0, [(context, 1, 1)] * rows)])
        cost.record(work, TRUE.predict(work))
    for rows, context in ((1, 900), (16, 100), (32, 100)):
        assert cost(rows) == pytest.approx(TRUE.predict(PassWork.of([(0, [(context, 1, 1)] * rows)])))


def test_a_slower_machine_is_noticed_and_a_single_slow_pass_is_not() -> None:
    """The speed is the median of recent passes, also for the draft model beside the target."""
    cost, work = PassCost(TRUE), PassWork.of([(0, [(100, 1, 1)] * 4)])
    draft = PassCost(TRUE, 0.5).beside(cost)
    usual = TRUE.predict(work)
    assert cost.record(work, 30 * usual) == pytest.approx(usual)
    for _ in range(30):
        cost.record(work, usual)
    cost.record(work, 30 * usual)
    assert cost.record(work, usual) == pytest.approx(usual)
    for _ in range(30):
        cost.record(work, 2 * usual)
    assert cost.record(work, 2 * usual) == pytest.approx(2 * usual)
    assert cost(4) == pytest.approx(2 * usual)
    assert draft(4) == pytest.approx(usual)


def test_a_slow_machine_is_not_measured_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds the rest of the passes is left out, and larger ones are predicted by the last slope."""
    clock = [0.0]
    monkeypatch.setattr("treeagent.backends.seed.executor.profiler.time.perf_counter", lambda: clock[0])
    runs: list[TrialPass] = []

    def run(trial: TrialPass) -> tuple[PassWork, float]:
        work = work_of(trial)
        runs.append(trial)
        clock[0] += 0.7
        return work, 0.2 * work.tokens

    passes = measure_passes(run)
    assert len(passes) < len(TRIALS)
    assert len(runs) == len(passes) + 1
    assert CostTable.fit(passes).predict(PassWork(200, 200, 200, 4800, 0, 4800)) > 10


def test_the_least_of_the_repeats_counts() -> None:
    """Passes that were disturbed once have the time of their other run."""
    disturbed = cycle([5.0, 1.0, 1.0])

    def run(trial: TrialPass) -> tuple[PassWork, float]:
        work = work_of(trial)
        return work, next(disturbed) * TRUE.predict(work)

    for work, seconds in measure_passes(run):
        assert seconds == pytest.approx(TRUE.predict(work))


def test_work_is_counted_span_by_span_and_shared_keys_once() -> None:
    """Two rows behind a common prefix of 10, and one alone."""
    work = PassWork.of([(10, [(14, 1, 1), (12, 3, 3)]), (0, [(5, 2, 1)])])
    assert work == PassWork(6, 3, 5, 5 + 5 + 7, 10, 5 + 15 + 14, 40, 1)
    assert len(work.counts) == len(RATES)


def test_quantiles_of_ratios_are_those_of_the_passes() -> None:
    """Within the width of a bin; classes of rows are counted apart, and unknown is None."""
    counts, draw = [0] * ratio_bins.SIZE, random.Random(0)
    ratios = sorted(draw.lognormvariate(0.1, 0.3) for _ in range(2000))
    for ratio in ratios:
        counts[ratio_bins.place(16, ratio)] += 1
    kinds = ratio_bins.by_rows(counts)
    assert [sum(kind) for kind in kinds] == [0, 0, 2000, 0, 0]
    for share in (0.1, 0.5, 0.9):
        assert ratio_bins.quantile(kinds[2], share) == pytest.approx(ratios[int(share * 2000)], rel=0.05)
    assert ratio_bins.quantile(kinds[0], 0.5) is None
    assert ratio_bins.place(1, 1e-9) == 0
    assert ratio_bins.place(1000, 1e9) == ratio_bins.SIZE - 1
