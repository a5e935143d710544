"""Layers of the Llama family in ten launches: torch's numbers, a token's bits in any company, and the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from seed_tools import FEW, SHAPE, Naive, save_model
from triton_child import Ask, needs_triton

from treeagent.backends.models.decoder import load_decoder
from treeagent.backends.seed.executor import fused_choice
from treeagent.backends.seed.executor.fused_choice import fuse_layers
from treeagent.backends.seed.executor.llama import LlamaDecoder
from treeagent.backends.seed.executor.weights import Weights

NEAR = {"float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}
"""Largest error by dtype, as a share of the largest number."""
KEYS = {"num_key_value_heads": 2}
WINDOWS = {**KEYS, "sliding_window": 16, "num_hidden_layers": 3}
FAMILIES: dict[str, Any] = {
    "Llama": transformers.LlamaConfig(**SHAPE, num_key_value_heads=4, attention_bias=True, mlp_bias=True),
    "Qwen3": transformers.Qwen3Config(**SHAPE, num_key_value_heads=1, head_dim=16),
    "Mistral": transformers.MistralConfig(**{**SHAPE, **WINDOWS}),
    "Qwen2": transformers.Qwen2Config(**{**SHAPE, **WINDOWS}, use_sliding_window=True, max_window_layers=1),
}
CASES: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32", "heads": (4, 2, 8), "size": 33, "norms": False, "seed": 1},
    "norms of heads": {"dtype": "float32", "heads": (3, 1, 20), "size": 1500, "norms": True, "seed": 2},
    "bfloat16": {"dtype": "bfloat16", "heads": (6, 3, 12), "size": 70, "norms": True, "seed": 3},
    "float16": {"dtype": "float16", "heads": (2, 2, 64), "size": 1030, "norms": True, "seed": 4},
    "large numbers": {"dtype": "float32", "heads": (5, 1, 10), "size": 8, "norms": False, "seed": 5, "scale": 50},
}


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_kernels_give_the_numbers_of_torch_in_any_company(ask: Ask, name: str) -> None:
    """Within rounding; a token alone has the bits that it has among others; no other slot is written."""
    case = CASES[name]
    result = ask("layer_parts", case)
    assert result["error"] < NEAR[case["dtype"]]
    assert result["alone"]
    assert result["elsewhere"] == 0


@needs_triton
@pytest.mark.parametrize("wrong", ["cos", "sin", "slots", "norms", "qkv"])
def test_a_rotation_with_one_fault_is_found_out(interpreter: Ask, wrong: str) -> None:
    """What it is given of another token, or of keys in place of queries."""
    assert not interpreter("layer_parts", {**CASES["bfloat16"], "wrong": wrong})["error"] < 0.1  # it may be NaN


@needs_triton
def test_the_trial_at_load_finds_a_kernel_that_computes_something_else(interpreter: Ask) -> None:
    """It says nothing of the right ones, and names what differs."""
    result = interpreter("trial_of_layers", "float32")
    assert result["fault"] is None
    assert "gate: results differ from plain ones by" in result["broken"]


@needs_triton
@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_a_layer_is_ten_launches(interpreter: Ask, tmp_path: Path, family: str) -> None:
    """Where it was twice as many and more; a pass adds the cosines and the last residual, the head is two."""
    folder = save_model(tmp_path / "model", FAMILIES[family])
    counted = interpreter("launches", {"folder": folder})
    assert counted["fused"] == {"layer": 10, "both": 22, "head": 2}
    assert counted["plain"]["layer"] > 20
    assert counted["plain"]["head"] > 4


@needs_triton
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("asked", [[2], pytest.param([0, 1, 2], marks=pytest.mark.exhaustive)], ids=["one", "several"])
def test_graphs_of_fused_layers_write_the_texts_of_plain_decoding(
    interpreter: Ask, tmp_path: Path, family: str, asked: list[int]
) -> None:
    """Every family that is fused, with drafts, by replays; the figure says so."""
    folder = save_model(tmp_path / "model", FAMILIES[family])
    result = interpreter("texts_of_fused_layers", {"folder": folder, "asked": asked})
    expected = Naive(folder, "float32").expected([FEW[number] for number in asked])
    assert result["texts"] == [[list(sample) for sample in samples] for samples in expected]
    assert ", layers in Triton, attention in Triton, draws on the GPU, graphs" in result["kernels"]
    assert result["replayed"] > 3


def test_layers_that_are_not_fused_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers in 8 bits and kernels that fail; other families, which never are, say nothing."""
    monkeypatch.setenv("TREEAGENT_KERNELS", "off")
    monkeypatch.setattr(fused_choice, "layer_trial", lambda *what: None)
    what = (torch.device("cpu"), torch.float32)
    folder = save_model(tmp_path / "model", FAMILIES["Llama"])
    plain = Weights(load_decoder(Path(folder), "float32", what[0]), folder).decoder
    eight = Weights(load_decoder(Path(folder), "int8+float32", what[0]), folder).decoder
    assert isinstance(plain, LlamaDecoder)
    assert fuse_layers(eight, *what) == ", layers in torch (layers in 8 bits)"
    assert fuse_layers(object(), *what) == ""
    monkeypatch.setattr(fused_choice, "layer_trial", lambda *what: "RuntimeError: no C compiler")
    assert fuse_layers(plain, *what) == ", layers in torch (RuntimeError: no C compiler)"
