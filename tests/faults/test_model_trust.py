"""Model folders and .gguf files from elsewhere: no code, no question, no traceback, no full memory."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_model import save_tiny_model

from treeagent import ModelError
from treeagent.backends.models import loader, tokenizer
from treeagent.backends.models.loader import load_model
from treeagent.backends.models.tokenizer import load_tokenizer
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import weights
from treeagent.backends.seed.executor.weights import Weights

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


class NoInput:
    """A standard input that nobody may read."""

    def readline(self) -> str:
        raise AssertionError("a question was asked on standard input")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model, beside a module that leaves a mark when it is imported; nothing answers on standard input."""
    monkeypatch.setattr(sys, "stdin", NoInput())
    save_tiny_model(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass C: pass\n")
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_with_code_of_its_own_is_an_error_and_no_question(folder: Path) -> None:
    """Its module is not imported, and the message says what was expected."""
    own = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C", "AutoTokenizer": ["evil.C", None]}
    edit(folder / "config.json", model_type="evil", auto_map=own)
    edit(folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer", auto_map=own)
    with pytest.raises(ModelError, match=r"brings Python code of its own .* which is not run\. Expected"):
        load_model(folder, "float32", CPU)
    with pytest.raises(ModelError, match="brings Python code of its own"):
        load_tokenizer(folder)
    assert not (folder / "mark").exists()


def test_an_architecture_that_transformers_knows_is_loaded_without_the_folders_code(folder: Path) -> None:
    """Many published models have both."""
    edit(folder / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"})
    assert type(load_model(folder, "float32", CPU).network).__name__ == "LlamaForCausalLM"
    assert not (folder / "mark").exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/flash-attn", "owner/name", "flash_attention_2", "paged|owner/x"])
def test_no_attention_of_the_folders_choice_is_fetched(key: str, value: str, folder: Path) -> None:
    """A name of a hub repository there would be code to fetch and run."""
    edit(folder / "config.json", **{key: value})
    assert load_model(folder, "float32", CPU).network.config._attn_implementation == "sdpa"


def test_every_load_forbids_code_and_names_its_attention(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the three loading functions of transformers are given, and no call elsewhere that does without."""
    calls: dict[str, dict[str, Any]] = {}
    for name in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerFast"):
        kind, load = getattr(transformers, name), getattr(transformers, name).from_pretrained

        def recorded(*words: Any, name: str = name, load: Any = load, **options: Any) -> Any:
            calls[name] = options
            return load(*words, **options)

        monkeypatch.setattr(kind, "from_pretrained", recorded)
    load_model(folder, "float32", CPU)
    load_tokenizer(folder)  # by the class that its configuration names
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    calls["plain"] = calls.pop("PreTrainedTokenizerFast")
    load_tokenizer(folder)
    calls.pop("PreTrainedTokenizerFast", None)  # called by transformers
    assert {name: options["trust_remote_code"] for name, options in calls.items()} == dict.fromkeys(calls, False)
    assert len(calls) == 4
    assert calls["AutoModelForCausalLM"]["attn_implementation"] == "sdpa"
    sources = [
        path for part in ("treeagent", "backends", "tests", "docs", "examples") for path in (ROOT / part).rglob("*")
    ]
    for path in sources:
        if path.suffix in (".py", ".md") and path != Path(__file__):
            for call in re.findall(r"from_pretrained\(.*?\)", path.read_text(encoding="utf-8"), re.DOTALL):
                assert "trust_remote_code=False" in call or "**source" in call or "**where" in call


@pytest.mark.parametrize(
    "changes",
    [
        {"per_layer_config": {"0": {"head_dim": 4}}},
        {"per_layer_config": {"0": {"num_key_value_heads": 1}}},
        {"per_layer_config": {"1": {"max_position_embeddings": 4}}},
        {"head_dim": -1},
        {"num_attention_heads": 0},
        {"num_hidden_layers": "two"},
        {"eos_token_id": "end"},
        {"dtype": "evil"},
        {"rope_parameters": {"rope_type": "none"}},
        {"num_hidden_layers": 10**9},
        {"vocab_size": 10**9},
        {"hidden_size": 10**7},
        {"intermediate_size": 10**10},
    ],
)
def test_a_configuration_that_makes_no_sense_is_a_model_error(changes: dict[str, Any], folder: Path) -> None:
    """Whatever transformers raises for it; a promise of more parameters than there are weights fills no memory."""
    edit(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=r"cannot load the model|cannot be whole"):
        Weights(load_model(folder, "float32", CPU), folder)


HEADER = b"GGUF" + struct.pack("<I", 3)
KEY = struct.pack("<Q", 3) + b"abc"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        HEADER + struct.pack("<QQ", 2**63, 0),
        HEADER + struct.pack("<QQ", 0, 2**60),
        HEADER + struct.pack("<QQ", 2**64 - 1, 2**64 - 1),
        HEADER + struct.pack("<QQQ", 1, 1, 2**62) + b"abc",
        HEADER + struct.pack("<QQ", 2**40, 1) + KEY + struct.pack("<IIQ", 9, 8, 2**50),
        HEADER + struct.pack("<QQ", 1, 1) + KEY + struct.pack("<I", 999),
        HEADER + struct.pack("<QQ", 1, 1) + KEY + struct.pack("<IQ", 8, 2**63),
        HEADER + struct.pack("<QQ", 1, 0) + KEY + struct.pack("<IQQQ", 3, 2**62, 2**62, 2**62),
        HEADER + struct.pack("<QQ", 1, 0) + KEY + struct.pack("<I", 2**32 - 1),
    ],
)
def test_a_gguf_file_with_absurd_counts_is_a_model_error(content: bytes, tmp_path: Path) -> None:
    """At once, whatever its header promises."""
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot load the model .*model\.gguf"):
        load_model(file, "float32", CPU)
    with pytest.raises(ModelError, match=r"cannot load the model .*model\.gguf"):
        load_tokenizer(file)


@pytest.mark.parametrize(
    ("module", "name"),
    [(loader, "_check_causal"), (loader, "_check_size"), (loader, "_ends"), (loader, "supports_sdpa"),
     (loader, "network_dtype"), (weights, "windows_of"), (weights, "fault_of"), (tokenizer, "_is_plain")],
)  # fmt: skip
def test_a_fault_of_this_project_is_not_told_as_the_models(
    module: Any, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It surfaces as what it is."""
    edit(folder / "config.json", a_key_of_tomorrow=1)  # so that transformers loads it

    def faulty(*_: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(module, name, faulty)
    with pytest.raises(ZeroDivisionError, match="ours"):
        SeedBackend(str(folder), device="cpu").load()


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("config.json", {"architectures": "LlamaForCausalLM"}, "architectures"),
        ("config.json", {"num_hidden_layers": "two"}, "num_hidden_layers"),
        ("config.json", {"eos_token_id": ["x"]}, "eos_token_id"),
        ("config.json", {"max_position_embeddings": [1]}, "max_position_embeddings"),
        ("config.json", {"rope_parameters": 3}, "rope_parameters"),
    ],
)
def test_a_value_of_another_type_is_told_with_its_name(
    part: str, change: dict[str, Any], said: str, folder: Path
) -> None:
    """As the model's fault, and of no other kind than ModelError."""
    edit(folder / part, **change)
    with pytest.raises(ModelError, match=said):
        SeedBackend(str(folder), device="cpu").load()
