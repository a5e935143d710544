"""Checkpoints with quantised weights: those that transformers expands run in both backends, others name what lacks."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from adapter_tools import save_adapter
from device import DEVICE
from safetensors.torch import load_file, save_file
from seed_tools import MIX, SHAPE, Naive, ask, clean, fixed_costs, save_model, told

from treeagent.backends.models.int8 import is_plain
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ModelError

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="on a GPU transformers keeps FP8 weights as they are")

BLOCK = 16


def quantized(folder: Path, **fields: Any) -> str:
    """A tiny Llama whose configuration says that its weights are quantised."""
    model = save_model(folder, transformers.LlamaConfig(**SHAPE, num_key_value_heads=2))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": fields}))
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A checkpoint in FP8 with a scale for each block of weights, and the same numbers written out."""
    folder = tmp_path_factory.mktemp("fp8")
    model = quantized(folder / "fp8", quant_method="fp8", weight_block_size=[BLOCK, BLOCK], activation_scheme="dynamic")
    plain = save_model(folder / "plain", transformers.LlamaConfig(**SHAPE, num_key_value_heads=2))
    tensors, expanded = load_file(Path(model) / "model.safetensors"), {}
    for name, tensor in list(tensors.items()):
        expanded[name] = tensor
        if "proj" not in name:
            continue
        rows, columns = (size // BLOCK for size in tensor.shape)
        blocks = tensor.view(rows, BLOCK, columns, BLOCK)
        scales = blocks.abs().amax(dim=(1, 3)) / 448  # the largest number of the type
        eighths = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
        tensors[name] = eighths.view(tensor.shape)
        tensors[f"{name}_scale_inv"] = scales
        expanded[name] = (eighths.float() * scales[:, None, :, None]).view(tensor.shape)
    save_file(tensors, Path(model) / "model.safetensors", {"format": "pt"})
    save_file(expanded, Path(plain) / "model.safetensors", {"format": "pt"})
    return model, plain


def test_fp8_weights_are_expanded(pair: tuple[str, str]) -> None:
    """Texts are those of the numbers that the file says, in both backends; also with a twin in 8 bits."""
    model, plain = pair
    expected = Naive(plain, "float32").expected(MIX)
    assert told(ask(TransformersBackend(model, device=DEVICE), *MIX)) == expected
    for draft in (None, "twin"):
        with fixed_costs():
            engine = SeedBackend(model, draft=draft, device=DEVICE)
            engine.load()
        assert told(ask(engine, *MIX)) == expected
        clean(engine)


def test_an_adapter_runs_over_quantised_weights(pair: tuple[str, str], tmp_path: Path) -> None:
    """The low-rank product is added to whatever the layers compute."""
    model, plain = pair
    adapter = save_adapter(tmp_path / "adapter", plain)
    with fixed_costs():
        replies = [told(ask(SeedBackend(each, adapter=adapter, device=DEVICE), *MIX)) for each in pair]
    assert replies[0] == replies[1] == told(ask(TransformersBackend(model, adapter=adapter, device=DEVICE), *MIX))


@pytest.mark.parametrize(
    ("fields", "library"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}, "gptqmodel"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "optimum"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed_tensors"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "hqq", "quant_config": {}}, "hqq"),
    ],
)
def test_a_missing_library_is_named(tmp_path: Path, fields: dict[str, Any], library: str) -> None:
    """In one line that says that the weights are quantised, and how; the same from both backends."""
    if find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    model = quantized(tmp_path / "model", **fields)
    said = []
    for kind in (SeedBackend, TransformersBackend):
        with pytest.raises(ModelError, match="quantised weights") as error:
            kind(model, device=DEVICE).load()
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert library.replace("_", "-") in said[0].lower()


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """Transformers would warn, and read the weights as plain ones."""
    model = quantized(tmp_path / "model", quant_method="octal")
    for kind in (SeedBackend, TransformersBackend):
        with pytest.raises(ModelError, match="'octal', which transformers does not know"):
            kind(model, device=DEVICE).load()


def test_a_layer_whose_forward_is_replaced_is_not_plain() -> None:
    """Libraries do so; the engine must not take the weight and leave the rest."""
    linear = torch.nn.Linear(2, 2)
    assert is_plain(linear)
    linear.forward = lambda x: x  # type: ignore[method-assign]
    assert not is_plain(linear)
    kept = torch.nn.Linear(2, 2)
    kept.weight = torch.nn.Parameter(_Eighths(torch.zeros(2, 2)), requires_grad=False)
    assert not is_plain(kept)


class _Eighths(torch.Tensor):
    """A tensor of a library's own."""
