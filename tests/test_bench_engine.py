"""``treeagent bench`` on the engine: how it is opened, warmed and asked, and that its tokens are the same."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from bench_runs import SEEDS, call, made, run
from bench_runs import folder as folder  # noqa: PLC0414  the fixture

from treeagent.backends.bench import measure
from treeagent.backends.bench.config.modes import MODES, PLAIN, SERIAL
from treeagent.backends.bench.runners.backend import HopelessDrafter, backend_runner
from treeagent.backends.bench.workloads import prompts as workload
from treeagent.backends.seed.executor.weights import WeightCache
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import UnknownNameError

# The engine, first a stand-in that writes down what it is asked


class Engine(TransformersBackend):
    """The plain backend with the engine's extra methods."""

    log: list = []  # noqa: RUF012  # one for all, as tests read it

    def __init__(self, model, *, draft=None, drafter="auto", policy="rounds", shelf, **common):
        assert isinstance(shelf, WeightCache)
        super().__init__(model, **common)
        self.log.append(("open", drafter, policy, draft is not None))
        self.live = self.most = 0

    def reset(self, tables=True):
        """Nothing is kept; it is only written down."""
        self.log.append(("reset", tables))

    def meter(self):
        """Made-up figures."""
        return lambda: {"block_efficiency": 1.5, "overhead": 0.25}

    async def generate(self, request):
        """With a count of the requests that are open."""
        self.live += 1
        self.most = max(self.most, self.live)
        self.log.append(("ask", request.key.seed, self.live))
        try:
            return await super().generate(request)
        finally:
            self.live -= 1


@pytest.fixture
def engine(monkeypatch):
    """The stand-in in the engine's place."""
    module = types.ModuleType("treeagent.backends.seed.backend")
    module.SeedBackend = Engine
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Engine, "log", [])
    return Engine


def test_the_engine_starts_cold_with_warm_tables_if_so_wished(folder, engine, monkeypatch):
    """Everything is forgotten, tables learn from prompts of another seed, and the forest is forgotten again."""
    monkeypatch.setattr(workload, "builtin_prompts", lambda kind, n, seed: [f"{seed} {i}" for i in range(n)])
    words = ["--model", str(folder / "model"), "--branches", "2", "--warm-seed", "6", "--max-tokens", "4", "-q"]
    result = call(*words, "--modes", "seed-ngram,seed-nodraft", "--draft", str(folder / "draft"), "--no-check")
    assert result.exit_code == 0, result.output
    assert engine.log[0] == ("open", "ngram", "rounds", False)
    kinds = [entry[:2] for entry in engine.log[1:]]
    warm_up = [("reset", True), ("ask", 5)]
    timed = [("reset", True), ("ask", 6), ("ask", 6), ("reset", False), ("ask", 5), ("ask", 5)]
    assert kinds == [*warm_up, *timed, ("open", "none"), *warm_up, *timed]
    assert "25.0 %" in result.stdout


def test_modes_of_the_engine_open_it_as_they_say(folder, engine):
    """Policies, drafters, and the draft where it is used."""
    grid = made(model=str(folder / "model"), draft=str(folder / "draft"))
    for name in SEEDS:
        backend_runner(MODES[name], grid.settings, "float32", WeightCache()).open()
    opened = {name: entry[1:] for name, entry in zip(SEEDS, engine.log, strict=True)}
    assert opened == {
        "seed": ("auto", "rounds", True),
        "seed-nodraft": ("none", "rounds", False),
        "seed-ngram": ("ngram", "rounds", False),
        "seed-model": ("model", "rounds", True),
        "seed-ngram+model": ("ngram+model", "rounds", True),
        "seed-hopeless": (HopelessDrafter, "rounds", False),
        "seed-fcfs": ("auto", "fcfs", True),
        "seed-serial": ("auto", "serial", True),
        "seed-serial-nodraft": ("none", "serial", False),
    }


@pytest.mark.parametrize(("words", "most"), [(["--sequential"], 1), ([], 4)])
def test_prompts_are_sent_at_once_or_one_at_a_time(folder, engine, words, most):
    """One at a time is a single live branch; the forest is forgotten before the first only."""
    result = run(folder, "-q", *words, modes=["seed", "transformers-continuous"], tokens=4)
    assert result.exit_code == 0, result.output
    asked = [entry for entry in engine.log if entry[0] == "ask"][1:]
    assert max(entry[2] for entry in asked) == most
    assert [entry[0] for entry in engine.log].count("reset") == 2
    assert result.stdout.count("4/4") == 2


def test_a_backend_that_reads_another_prompt_is_refused(folder, engine, monkeypatch):
    """Its speed would be that of another workload."""
    monkeypatch.setattr(
        measure, "load_tokenizer", lambda where, chat: types.SimpleNamespace(prompt=lambda text: [1, 2, 3])
    )
    result = run(folder, "-q", modes=[SERIAL, "seed"], tokens=4)
    assert result.exit_code == 3
    assert "the tokenizer makes 3 of it" in result.stdout


def test_unknown_modes_name_their_kind():
    """The error is the one for names."""
    with pytest.raises(UnknownNameError, match="no mode is called 'sed'"):
        made(modes=["sed"])


# The engine itself


@pytest.mark.sampled(2)
@pytest.mark.parametrize("temperature", ["0.8", "0"])
def test_the_engine_gives_the_same_tokens(folder, temperature):
    """All policies and drafters, greedy and sampled, in float64."""
    pytest.importorskip("treeagent.backends.seed.backend")
    words = ["--temperature", temperature, "--dtype", "float64", "--draft", str(folder / "draft"), "-q"]
    result = run(folder, *words, modes=[PLAIN, *SEEDS])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("4/4") == 1 + len(SEEDS)


def test_the_engine_scales(folder, tmp_path):
    """``--scaling`` shows one mode with ever more branches, and draws it."""
    pytest.importorskip("treeagent.backends.seed.backend")
    picture = Path(tmp_path / "scaling.svg")
    words = ["--scaling", "--plot", str(picture), "--model", str(folder / "model"), "-q", "--max-tokens", "8"]
    result = call(*words, "--prompts", str(folder / "prompts.txt"))
    assert result.exit_code == 0, result.output
    assert "per doubling" in result.stdout
    assert picture.stat().st_size > 1000
