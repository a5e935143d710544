"""The default backend with real models: ``seed``, and ``transformers`` for what the engine cannot run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from device import DEVICE
from seed_tools import SHAPE, save_model
from test_seed_attention import BLOOM
from tiny_model import save_tiny_model
from typer.testing import CliRunner

from treeagent import Agent, ConfigError, ModelError, UnsupportedModelError
from treeagent.backends.models import loader
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.cli import app
from treeagent.runtime import factory

pytestmark = pytest.mark.usefixtures("fixed_times")

ATTENTION = "its attention cannot be replaced (it does not use transformers' attention interface)"
TASK = ["--task", "game24", "--input", "4 5 6 10", "--search", "greedy", "--quiet"]
SMALL = ["--set", "sampling.propose.max_tokens=12", "--set", "sampling.value.max_tokens=3", "--max-nodes", "4"]


def sliding(window: int, context: int) -> Any:
    """A tiny Mistral."""
    return transformers.MistralConfig(
        **SHAPE | {"max_position_embeddings": context, "num_key_value_heads": 2}, sliding_window=window
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models that the engine runs, and others."""
    at = tmp_path_factory.mktemp("models")
    configs = {
        "bloom": transformers.BloomConfig(**BLOOM),
        "window": sliding(100, 256),
        "wide": sliding(256, 256),
    }
    made = {name: save_model(at / name, config) for name, config in configs.items()}
    return made | {"llama": str(save_tiny_model(at / "llama"))}


def call(*words: str) -> Any:
    """A command in this process; anything but a documented exit is raised."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("name", "ran", "reason"),
    [
        ("llama", "seed", None),
        ("wide", "seed", None),
        ("bloom", "transformers", ATTENTION),
        ("window", "seed", None),
    ],
)
def test_solve_runs_every_model_that_one_of_them_runs(
    name: str, ran: str, reason: str | None, folders: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its JSON and its journal say on which backend, and why; the journal can be resumed on it."""
    journal, model = tmp_path / "run.jsonl", folders[name]
    result = call("solve", *TASK, *SMALL, "--model", model, "--json", "--journal", str(journal))
    assert result.exit_code == 1, result.output
    backend = json.loads(result.stdout)["settings"]["backend"]
    assert (backend["name"], backend["model"]) == (ran, model)
    assert backend == json.loads(journal.read_text().splitlines()[0])["settings"]["backend"]
    lines = [record.getMessage() for record in caplog.records if record.name == "treeagent"]
    if reason is None:
        assert "instead_of" not in backend
        assert lines == []
    else:
        assert backend["instead_of"]["name"] == "seed"
        assert reason in backend["instead_of"]["reason"]
        assert lines == [f"seed cannot run {model}: {backend['instead_of']['reason']}; transformers runs it"]
    again = call("resume", str(journal), "--max-nodes", "4", "--quiet")
    assert f"backend {ran}, model {model}" in again.stdout


def test_a_refusal_by_the_files_reads_no_weights(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model is read once, by the backend that runs it."""
    read: list[object] = []
    whole = loader.load_model

    def counted(*how: Any) -> Any:
        read.append(how)
        return whole(*how)

    monkeypatch.setattr(loader, "load_model", counted)
    factory.open_backend(None, folders["bloom"], {"device": DEVICE}).load()
    assert len(read) == 1


@pytest.mark.parametrize("name", ["bloom", "llama", "wide", "window"])
def test_files_and_load_agree_on_what_the_engine_can_run(name: str, folders: dict[str, str]) -> None:
    """The reason is the same."""
    reasons = []
    for step in ("check_model", "load"):
        try:
            getattr(SeedBackend(folders[name], device=DEVICE), step)()
            reasons.append(None)
        except UnsupportedModelError as error:
            reasons.append(error.reason)
    assert reasons[0] == reasons[1] == (ATTENTION if name == "bloom" else None)


def test_a_named_engine_runs_a_model_with_windows_and_refuses_the_others(folders: dict[str, str]) -> None:
    """As before."""
    assert call("solve", *TASK, *SMALL, "--model", folders["window"], "--backend", "seed").exit_code == 1
    result = call("solve", *TASK, *SMALL, "--model", folders["bloom"], "--backend", "seed")
    assert result.exit_code == 3
    assert "cannot run in the seed engine" in result.stderr
    assert "transformers runs it" in result.stderr


def test_missing_and_damaged_models_are_errors_of_the_default(folders: dict[str, str], tmp_path: Path) -> None:
    """Nothing is said of another backend."""
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in Path(folders["llama"]).iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[: 900 if file.suffix == ".safetensors" else None])
    (tmp_path / "empty").mkdir()
    for model in (damaged, tmp_path / "empty", tmp_path / "gone"):
        agent = Agent("game24", "io", model=str(model))
        with pytest.raises(ModelError) as raised:
            agent.solve("4 5 6 10")
        assert not isinstance(raised.value, UnsupportedModelError)
        assert agent.settings["backend"]["name"] == "seed"


def test_lack_of_memory_in_the_trial_leads_to_no_fallback(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallback would need as much."""

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("treeagent.backends.seed.executor.weights.make_forward_batch", full)
    with pytest.raises(ModelError, match="more memory than there is") as raised:
        factory.open_backend(None, folders["llama"], {"device": DEVICE}).load()
    assert not isinstance(raised.value, UnsupportedModelError)


def test_an_evaluators_model_that_the_engine_cannot_run(folders: dict[str, str], tmp_path: Path) -> None:
    """The generator stays on the engine; a resumed run has the same two backends."""
    journal = tmp_path / "run.jsonl"
    words = [*TASK, *SMALL, "--model", folders["llama"], "--evaluator-model", folders["bloom"]]
    result = call("solve", *words, "--json", "--journal", str(journal), "--search", "bfs", "--no-legality")
    settings = json.loads(result.stdout)["settings"]
    assert settings["backend"]["name"] == "seed"
    assert settings["evaluator_model"]["name"] == "transformers"
    assert settings["evaluator_model"]["instead_of"] == {"name": "seed", "reason": ATTENTION}
    agent, _ = Agent.from_journal(journal)
    assert isinstance(agent.backend, SeedBackend)
    assert isinstance(agent.judging, TransformersBackend)


def test_eval_says_what_ran(folders: dict[str, str], tmp_path: Path) -> None:
    """In its text, its JSON and its folder."""
    words = ["eval", "--task", "game24", "--search", "greedy", "--limit", "1", "--model", folders["bloom"], "--quiet"]
    words += [*SMALL, "--out", str(tmp_path / "out")]
    first = call(*words)
    assert first.exit_code == 0, first.output
    assert f"backend transformers, model {folders['bloom']}, as seed cannot run it: {ATTENTION}" in first.stdout
    settings = json.loads(call(*words, "--json").stdout)["settings"]
    assert settings["backend"]["instead_of"]["reason"] == ATTENTION


def test_options_of_the_engine_need_a_model_that_it_can_run(folders: dict[str, str]) -> None:
    """And those of ``transformers`` its name."""
    with pytest.raises(UnsupportedModelError, match=r"seed cannot run .*attention.*no option 'drafter'"):
        factory.open_backend(None, folders["bloom"], {"drafter": "none"}).load()
    with pytest.raises(ConfigError, match="The backend 'transformers' takes these options; name it"):
        factory.open_backend(None, folders["llama"], {"max_batch": "3"})


COMMON = {"device": DEVICE, "dtype": "float64", "threads": torch.get_num_threads(), "chat": False, "thinking": "none"}


@pytest.mark.parametrize("options", [{}, *({name: value} for name, value in COMMON.items())], ids=str)
def test_common_options_mean_the_same(options: dict[str, Any], folders: dict[str, str]) -> None:
    """What both backends have in common has the same default and is handed on to the fallback."""
    first, second = (kind.open(folders["llama"], options) for kind in (SeedBackend, TransformersBackend))
    common = first.options.keys() & second.options.keys()
    assert common == COMMON.keys() | {"adapter"}  # which fits only one of the models
    values = [{name: backend.option_values()[name] for name in common} for backend in (first, second)]
    assert values[0] == values[1]
    fallen = factory.open_backend(None, folders["bloom"], options)
    fallen.load()
    assert options.items() <= fallen.describe()["options"].items()
