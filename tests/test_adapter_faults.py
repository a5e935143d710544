"""What is said of an adapter that cannot run: one line that names the adapter and what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from adapter_tools import rewrite, save_adapter
from device import DEVICE
from safetensors.torch import load_file, save_file
from seed_tools import MIX, SHAPE, save_model

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ConfigError, ModelError

WEIGHTS = "adapter_model.safetensors"
KEY = "base_model.model.model.layers.0.mlp.up_proj.lora_"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama."""
    config = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2)
    return save_model(tmp_path_factory.mktemp("model") / "model", config)


def said(model: str, adapter: str) -> str:
    """What both backends say, which is one line."""
    with pytest.raises(ModelError) as plain:
        asyncio.run(TransformersBackend(model, adapter=adapter, device=DEVICE).generate(MIX[0]))
    with pytest.raises(ModelError) as engine:
        SeedBackend(model, adapter=adapter, device=DEVICE).load()
    assert str(plain.value) == str(engine.value)
    assert "\n" not in str(plain.value)
    assert adapter in str(plain.value)
    return str(plain.value)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"peft_type": "IA3"}, "kind IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "whole layers of its own"),
        ({"bias": "all"}, "biases of its own"),
        ({"init_lora_weights": "pissa"}, "begun by pissa"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "no linear layers"),
        ({"r": 4}, "rank 4"),
        ({"r": 0}, "r: Input should be greater than 0"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"target_modules": ["up_proj", "q_proj"]}, "such as that of model.layers.0.self_attn.q_proj"),
        ({"peft_type": None}, "peft_type"),
        ({"target_modules": "(up_proj"}, "pattern of its adapter_config.json is wrong"),
        ({"alpha_pattern": {"(up_proj": 1}}, "pattern of its adapter_config.json is wrong"),
    ],
)
def test_configurations_that_cannot_run(model: str, tmp_path: Path, fields: dict[str, Any], what: str) -> None:
    """Other kinds than plain LoRA, another rank, layers that the weights lack."""
    adapter = save_adapter(tmp_path / "adapter", model, ("up_proj",))
    rewrite(adapter, **fields)
    assert what in said(model, adapter)


def lacks_a_matrix(tensors: dict[str, torch.Tensor]) -> None:
    """B of one layer."""
    del tensors[f"{KEY}B.weight"]


def has_another_width(tensors: dict[str, torch.Tensor]) -> None:
    """Of the inputs."""
    tensors[f"{KEY}A.weight"] = torch.zeros(3, 31)


def has_another_layer(tensors: dict[str, torch.Tensor]) -> None:
    """One more than the model."""
    for letter in "AB":
        tensors[f"{KEY.replace('.0.', '.2.')}{letter}.weight"] = tensors[f"{KEY}{letter}.weight"].clone()


def has_a_magnitude(tensors: dict[str, torch.Tensor]) -> None:
    """Of DoRA."""
    tensors[f"{KEY}magnitude_vector"] = torch.ones(48)


def is_not_finite(tensors: dict[str, torch.Tensor]) -> None:
    """One number."""
    tensors[f"{KEY}A.weight"][0, 0] = torch.nan


def is_empty(tensors: dict[str, torch.Tensor]) -> None:
    """No matrix at all."""
    tensors.clear()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lacks_a_matrix, "lacks model.layers.0.mlp.up_proj.lora_B"),
        (has_another_width, "48x31, the model's 48x32"),
        (has_another_layer, "no linear layer model.layers.2.mlp.up_proj"),
        (has_a_magnitude, "magnitude_vector"),
        (is_not_finite, "not finite"),
        (is_empty, "lacks 2 of the layers"),
    ],
)
def test_weights_that_do_not_fit(
    model: str, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], what: str
) -> None:
    """Missing matrices, other widths, layers of another model, damaged numbers."""
    adapter = save_adapter(tmp_path / "adapter", model, ("up_proj",))
    tensors = load_file(Path(adapter) / WEIGHTS)
    change(tensors)
    save_file(tensors, Path(adapter) / WEIGHTS)
    assert what in said(model, adapter)


def test_folders_that_are_no_adapters(model: str, tmp_path: Path) -> None:
    """No configuration, no weights, pickled weights, damaged files."""
    assert "no adapter_config.json" in said(model, str(tmp_path / "nothing"))
    adapter = save_adapter(tmp_path / "adapter", model, ("up_proj",))
    (Path(adapter) / WEIGHTS).write_bytes(b"damaged")
    assert "cannot be read" in said(model, adapter)
    (Path(adapter) / WEIGHTS).rename(Path(adapter) / "adapter_model.bin")
    assert "adapter_model.bin could run code" in said(model, adapter)
    (Path(adapter) / "adapter_config.json").write_text(json.dumps([1]))
    assert "adapter_config.json" in said(model, adapter)


def test_an_adapter_is_no_model_and_takes_no_8_bits(model: str, tmp_path: Path) -> None:
    """Named as the model it says how to give it; int8 is refused before anything is loaded."""
    adapter = save_adapter(tmp_path / "adapter", model, ("up_proj",))
    with pytest.raises(ModelError, match=r"is an adapter.*backend\.adapter="):
        SeedBackend(adapter).load()
    for kind in (SeedBackend, TransformersBackend):
        with pytest.raises(ConfigError, match="not in int8"):
            kind(model, adapter=adapter, dtype="int8")
