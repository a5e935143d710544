"""Modes of the benchmark that carry options of the engine in their names."""

from __future__ import annotations

import bench_tables
import pytest

from treeagent.backends.bench.config.modes import OPTIONS, find
from treeagent.backends.bench.runners.backend import SeedRunner, backend_runner
from treeagent.backends.bench.suite import GridMeasurement
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.weights import WeightCache
from treeagent.errors import ConfigError, UnknownNameError


def test_a_mode_of_the_engine_may_carry_options() -> None:
    """They reach the engine, decide whether a draft model is needed, and whether samples can be compared."""
    mode = find("seed@drafter=rsd-s:3x4@verify=recursive@draft_tokens=12")
    assert mode.options == {"drafter": "rsd-s:3x4", "verify": "recursive", "draft_tokens": 12}
    assert mode.drafts
    assert not mode.keyed
    assert find("seed-fcfs@drafter=ngram").options == {"policy": "fcfs", "drafter": "ngram"}
    assert find("seed@verify=coupled").keyed
    assert not find("seed@drafter=ngram").drafts
    beams = find("seed@drafter=model@num_beams=4@beam_draft=8x2")
    assert (beams.num_beams, beams.options) == (4, {"drafter": "model", "beam_draft": "8x2"})
    assert find("backend-transformers@num_beams=3").num_beams == 3
    own = find("seed@draft=mini-draft@drafter=model")
    assert own.options == {"draft": "mini-draft", "drafter": "model"}
    assert not own.drafts  # it brings its own
    assert not find("seed@drafter=recycling").drafts
    assert find("seed@drafter=stand+rsd-c:2x2").drafts


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("seed@draft_token=3", "Did you mean 'draft_tokens'"),
        ("seed@draft_tokens=many", "expected a number"),
        ("transformers-serial@policy=fcfs", "takes no option"),
        ("transformers-serial@num_beams=4", "takes no option"),
        ("backend-transformers@policy=fcfs", "takes no option"),
        ("sed@policy=fcfs", "no mode"),
        ("seed@drafter=rsd-s:3", "such as 3x4"),
        ("seed@drafter=stands", "Did you mean 'stand'"),
    ],
)
def test_an_option_of_a_mode_that_means_nothing_is_refused(name: str, reason: str) -> None:
    """Before anything is loaded."""
    with pytest.raises((ConfigError, UnknownNameError), match=reason):
        find(name)


def test_options_of_modes_are_options_of_the_engine() -> None:
    """Of the same types."""
    assert {name: SeedBackend.options[name] for name in OPTIONS} == dict(OPTIONS)


def test_a_mode_of_the_engine_runs_the_engine_whatever_its_options() -> None:
    """Also where its samples cannot be compared."""
    grid = bench_tables.planned(["-m", "mini", "--modes", "seed@drafter=ngram@verify=recursive"])
    assert isinstance(backend_runner(grid.modes[0], grid.settings, "float32", WeightCache()), SeedRunner)


def test_modes_of_one_benchmark_may_draft_with_different_models() -> None:
    """A mode's own draft goes before that of the benchmark."""
    words = ["-m", "mini", "--draft", "mini-draft", "--modes"]
    grid = bench_tables.planned([*words, "seed-model,seed@draft=other/draft@drafter=model,seed-ngram"])
    runners = [backend_runner(mode, grid.settings, "float32", WeightCache()) for mode in grid.modes]
    drafts = [runner._make().config.draft for runner in runners]
    assert drafts == ["mini-draft", "other/draft", None]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("seed", True),
        ("seed-fcfs", True),
        ("seed@drafter=auto", True),
        ("seed-nodraft", False),
        ("seed-hopeless", False),
        *((f"seed@drafter={drafter}", "+" in drafter) for drafter in ("ngram", "recycling", "stand", "stand+model")),
    ],
)
def test_only_modes_that_draft_with_a_model_are_given_one(name: str, model: bool) -> None:
    """The engine refuses a draft model that its drafter has no use for."""
    grid = bench_tables.planned(["-m", "mini", "--draft", "mini-draft", "--modes", name])
    engine = backend_runner(grid.modes[0], grid.settings, "float32", WeightCache())._make()
    assert (engine.config.draft is not None) == model


def test_beams_are_compared_with_beams_and_have_the_log_probability_of_outputs() -> None:
    """Speculative beams are the plain backend's token for token; the best of four is worth more than one sample."""
    beams = ["backend-transformers", "seed-nodraft", "seed@drafter=model@beam_draft=8x3"]
    modes = ",".join([*(f"{mode}@num_beams=4" for mode in beams), "seed-nodraft"])
    words = ["-m", "mini", "--draft", "mini-draft", "--workload", "mini", "--branches", "2", "--max-tokens", "8"]
    reference = ["--reference", "backend-transformers@num_beams=4", "--temperature", "1"]
    measurement = GridMeasurement(bench_tables.planned([*words, "--modes", modes, *reference]), quiet=True)
    measurement.measure()
    plain, engine, drafted, sampled = measurement.cells(explain=False)[0].rows
    assert (plain.equal, engine.equal, drafted.equal, sampled.equal) == (2, 2, 2, None)
    assert plain.score is not None
    assert engine.score is not None
    assert engine.score.mean == pytest.approx(plain.score.mean, abs=1e-3)
    assert sampled.score is not None
    assert sampled.score.mean < plain.score.mean
    assert drafted.figures["drafted"] > 0
