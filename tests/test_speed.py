"""Speed-ups from repeats, with their intervals, and how figures are shown."""

from __future__ import annotations

import math
import random

import pytest

from treeagent.cli.metrics_text import backends, paragraph, shown
from treeagent.comparison.speedup import Pass, Score, speedup


def score(*seconds: float, tokens: int | None = 100) -> Score:
    """A backend's repeats, each with its own time for a figure."""
    return Score("a", tuple(Pass(1, 1, 120, tokens, each, {"time": each}) for each in seconds))


def test_a_speedup_is_the_geometric_mean_of_paired_ratios():
    """Each repeat is held against the reference's in the same repeat; Student's interval over the logarithms."""
    found = score(1.0, 1.0, 1.0).speedup(score(1.0, 2.0, 4.0))
    assert found is not None
    assert found.ratio == pytest.approx(2.0)
    half = 4.303 * math.log(2) / math.sqrt(3)
    assert found.interval == pytest.approx((2 / math.exp(half), 2 * math.exp(half)))


def test_a_slow_minute_that_strikes_both_widens_no_interval():
    """That is what pairing is for."""
    found = score(1.0, 5.0, 1.0, 2.0).speedup(score(2.0, 10.0, 2.0, 4.0))
    assert found is not None
    assert found.interval == pytest.approx((2.0, 2.0))


def test_the_interval_turned_round_is_that_of_the_slowdown():
    """Which backend is the reference does not matter."""
    ratios = [1.5, 2.0, 1.2, 1.9]
    there, back = speedup(ratios), speedup([1 / ratio for ratio in ratios])
    assert there is not None
    assert back is not None
    assert there.interval is not None
    assert back.interval == pytest.approx(tuple(1 / end for end in reversed(there.interval)))


@pytest.mark.parametrize("repeats", [3, 5, 11, 40])
def test_the_interval_holds_the_truth_nineteen_times_in_twenty(repeats):
    """Over many experiments with noise of a known law, at least and not much more often than it says."""
    draw = random.Random(repeats)
    held = 0
    for _ in range(4000):
        found = speedup([math.exp(draw.gauss(0.5, 0.2)) for _ in range(repeats)])
        assert found is not None
        assert found.interval is not None
        held += found.interval[0] <= math.exp(0.5) <= found.interval[1]
    assert 0.94 <= held / 4000 <= 0.965


def test_too_few_measurements_give_none():
    """One repeat is no measurement, two have no interval, and a clock that did not move has no ratio."""
    assert score(1.0).speedup(score(2.0)) is None
    two = score(1.0, 1.0).speedup(score(2.0, 2.0))
    assert two is not None
    assert two.interval is None
    assert score(0.0, 1.0).speedup(score(2.0, 2.0)) is None
    assert score(0.0).speed is None
    assert score(1.0, tokens=None).speed is None


def test_a_score_has_the_median_repeat_and_keeps_all_of_them():
    """Seconds, tokens per second and the engine's figures are the median repeat's."""
    found = score(4.0, 1.0, 2.0).to_json(score(8.0, 2.0, 4.0))
    assert found["seconds"] == 2.0
    assert found["completion_tokens_per_second"] == 50.0
    assert found["engine"] == {"time": 2.0}
    assert found["speedup"] == {"ratio": pytest.approx(2.0), "interval": pytest.approx((2.0, 2.0))}
    assert [run["seconds"] for run in found["runs"]] == [4.0, 1.0, 2.0]
    assert score(1.0, 1.0).to_json(None)["speedup"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (70, "70"),
        (69120000, "69,120,000"),
        (301.234, "301"),
        (12345.6, "12,346"),
        (1.4249, "1.42"),
        (0.0, "0"),
        (-0.0712, "-0.0712"),
        ([0.7, 0.5], "0.7 0.5"),
        (list(range(9)), "0 1 2 3 4 5 ..."),
        ([], "none"),
        ([0.5, None], "0.5 unknown"),
        ("rounds", "rounds"),
        (True, "True"),
        (None, "unknown"),
    ],
)
def test_a_figure_is_shown_to_three_digits(value, text):
    """Whatever it is about."""
    assert shown(value) == text


def test_figures_fit_the_terminal_and_unknown_ones_are_left_out(monkeypatch):
    """A line ends between two figures; nothing at all is said of a backend that keeps none."""
    figures = {"tokens_per_second": 301.2, "rounds": 70, "block_efficiency": 1.42, "drafted": None}
    monkeypatch.setenv("COLUMNS", "200")
    assert paragraph("engine", figures) == ["engine: tokens per second 301, rounds 70, block efficiency 1.42"]
    for width in (1, 30, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = paragraph("engine", figures)
        assert " ".join(line.strip() for line in lines) == (
            "engine: tokens per second 301, rounds 70, block efficiency 1.42"
        )
        assert any("tokens per second 301," in line for line in lines)
        assert width < 30 or all(len(line) <= width for line in lines)
    assert paragraph("engine", {}) == []
    assert paragraph("engine", {"drafted": None}) == []


def test_figures_of_a_further_model_stand_in_lines_of_their_own():
    """As if that model had run alone."""
    further = {"rounds": 3, "exits": [1, 2], "unknown": None}
    lines = paragraph("engine", {"rounds": 7, "evaluator": further, "kernels": "compiled"})
    assert lines == ["engine: rounds 7, kernels compiled", *paragraph("engine, evaluator", further)]


def test_the_lines_on_backends_name_models_and_adapters() -> None:
    """Of the generator, the evaluator and further models; what is not known is left out."""
    settings = {
        "backend": {"name": "seed", "model": "smollm2", "options": {"adapter": "GENERATOR", "threads": 2}},
        "evaluator_model": {"name": "seed", "model": "smollm2", "options": {"adapter": "JUDGE"}},
        "models": {"wide": {"name": "openai", "model": None, "options": {}}},
    }
    assert backends(settings) == [
        "backend seed, model smollm2, adapter GENERATOR",
        "evaluator's backend seed, model smollm2, adapter JUDGE",
        "model wide: backend openai",
    ]
