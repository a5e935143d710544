"""Options of the engine, and the times that it measures and keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from draft_trees import Trees
from seed_tools import MEASURED, MIX, Naive, Open, ask, idle, scheduler, told

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.config import EngineConfig, ResearchOptions
from treeagent.backends.seed.executor import profiler as timing
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.pass_cost import PassCost
from treeagent.backends.seed.executor.pass_work import PassWork
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.trial_pass import TrialPass
from treeagent.errors import ConfigError, UnknownNameError

pytestmark = pytest.mark.usefixtures("fixed_times")


def test_a_described_engine_can_be_opened_again() -> None:
    """``open`` takes what ``describe`` tells, every option included."""
    backend = SeedBackend(
        "mini", draft="mini-draft", draft_dtype="float32", drafter="ngram+model", exit="adaptive:0.6", policy="fcfs",
        verify="rejection", draft_tokens=3, beam_draft="8x2", beam_threshold=0.9, beam_min=2, beam_survivors=1,
        dtype="float64", device="cpu", kv_memory=12.5, max_rows=7, chunk=99, threads=1, chat=False, thinking="[T] [/T]",
        adapter="lora",
    )  # fmt: skip
    described = backend.describe()
    assert json.loads(json.dumps(described)) == described
    again = SeedBackend.open(described["model"], described["options"])
    assert again.describe() == described
    assert set(described["options"]) == set(SeedBackend.options) - {"drafts_from"}  # it changes no output
    assert again.config == backend.config
    assert (again.config.kv_memory, again.config.research.max_rows, again.chat) == (12.5, 7, False)


def test_an_engines_options_are_one_record_that_cannot_be_changed() -> None:
    """Research options among them; ``auto`` is resolved by whether there is a draft model."""
    config = EngineConfig.of(**{**EngineConfig().options(), "draft": "mini-draft", "chunk": 7})
    assert (config.research.chunk, config.drafter_name) == (7, "ngram+model")
    assert config == EngineConfig(draft="mini-draft", research=ResearchOptions(chunk=7))
    assert EngineConfig().drafter_name == "ngram"
    with pytest.raises(FrozenInstanceError):
        config.draft = None  # type: ignore[misc]
    with pytest.raises(ConfigError, match="needs a draft model"):
        replace(config, draft=None, drafter="model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drafter": "ngrams"}, "Did you mean 'ngram'"),
        ({"policy": "round"}, "Did you mean 'rounds'"),
        ({"verify": "coupling"}, "Did you mean 'coupled'"),
        ({"drafter": "model"}, "needs a draft model"),
        ({"drafter": "none", "draft": "mini-draft"}, "uses no model"),
        ({"drafter": "stand+dynamic"}, "'stand\\+dynamic' needs a draft model"),
        ({"drafter": "recycling", "draft": "mini-draft"}, "uses no model"),
        ({"kv_memory": 0}, "kv_memory must be positive"),
        ({"max_rows": -1}, "max_rows must be positive"),
        ({"chunk": 0}, "chunk must be positive"),
        ({"draft_tokens": 0}, "draft_tokens must be positive"),
        ({"kv_memory": float("nan")}, "kv_memory must be positive"),
        ({"dtype": "float23"}, "float32"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_senseless_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    """A ConfigError says what is wrong, and what was probably meant, before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        SeedBackend("mini", **options)


def test_unknown_models_are_refused_at_once_or_at_load(tmp_path: Path) -> None:
    """A target's name at once; words of the command line that are no numbers too."""
    with pytest.raises(UnknownNameError, match="mini"):
        SeedBackend("minni")
    with pytest.raises(ConfigError, match="whole number"):
        SeedBackend.open("mini", {"max_rows": "many"})
    with pytest.raises(ConfigError, match="kv_memory"):
        SeedBackend.open("mini", {"kv_memory": "lots"})


def test_a_drafter_of_ones_own(opened: Open, naive: Naive) -> None:
    """Whatever makes a drafter can be given, and is asked for a new one by a reset."""
    made: list[Trees] = []

    def make() -> Trees:
        made.append(Trees(naive.truth(MIX), hit=0.9))
        return made[-1]

    backend = opened(drafter=make, draft_tokens=6)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    idle(backend)
    assert backend.meter()()["drafter"] == "trees"
    backend.reset()
    assert len(made) == 2


def test_passes_are_measured_once_and_the_times_kept(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's cache; a damaged file is measured again, one that cannot be written is no fault, and one of a time
    when the machine was busy with other things, or was for a part of the passes, is measured again when it is not.
    """
    pace, power = [1.0], [1.0]
    really = timing.run_trial

    def clock(runner: ModelRunner, segments: Sequence[Segment]) -> tuple[PassWork, float]:
        work, _ = really(runner, segments)
        return work, pace[0] * work.tokens ** power[0]

    monkeypatch.setattr(timing, "run_trial", clock)
    times: list[int] = []
    measure = timing.measure_passes

    def spy(run: Callable[[TrialPass], tuple[PassWork, float]], *trials: Any) -> list[tuple[PassWork, float]]:
        times.append(1)
        return measure(run, *trials)

    def load(backend: SeedBackend) -> PassCost:
        backend.load()
        assert scheduler(backend).runner.forest.pool.used == 0
        return scheduler(backend).speculator.cost

    monkeypatch.setattr(timing, "profile_cost", MEASURED)
    monkeypatch.setattr(timing, "measure_passes", spy)
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path / "cache"))
    first = load(SeedBackend(str(pair / "model"), device="cpu"))
    assert load(SeedBackend(str(pair / "model"), device="cpu", max_rows=3)).table == first.table
    assert len(times) == 1
    pace[0] = 3.0  # busier than it was
    busy = load(SeedBackend(str(pair / "model"), device="cpu"))
    assert busy.table == first.table
    assert busy(1) == pytest.approx(3 * first(1))
    pace[0] = 0.5
    assert load(SeedBackend(str(pair / "model"), device="cpu"))(1) == pytest.approx(first(1) / 2)
    assert len(times) == 2
    for number, power[0] in enumerate((1.3, 1.0), 3):
        load(SeedBackend(str(pair / "model"), device="cpu"))
        assert len(times) == number
    [kept] = tmp_path.glob("cache/costs/*")
    whole = json.loads(kept.read_text())
    for number, damaged in enumerate(("{", "[]", json.dumps(whole | {"rates": [-1.0] * 6}), '{"tokens": [1]}'), 5):
        kept.write_text(damaged)
        load(SeedBackend(str(pair / "model"), device="cpu"))
        assert len(times) == number
    monkeypatch.setenv("TREEAGENT_CACHE", str(kept))
    load(SeedBackend(str(pair / "model"), device="cpu"))
    assert len(times) == 9


def test_passes_can_be_measured_with_little_memory(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naive: Naive
) -> None:
    """An engine with just enough memory for its requests loads, though the largest measured passes need more."""
    monkeypatch.setattr(timing, "profile_cost", MEASURED)
    monkeypatch.setattr(timing, "ENOUGH", 3.0)  # time for the largest
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    slot = 2 * 2 * 2 * 8 * 8
    backend = SeedBackend(str(pair / "model"), device="cpu", dtype="float64", kv_memory=90 * slot / 1e6)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    idle(backend)
    assert scheduler(backend).runner.forest.pool.peak <= 90
