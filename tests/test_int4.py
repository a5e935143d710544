"""4-bit layers: their law, and that a draft model of such layers changes no token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from head_tools import engine
from seed_tools import FAMILIES, MIX, Naive, ask, clean, save_model, told
from torch import nn

from treeagent.backends.models.int4 import BLOCK, LEAST, MOST, ZERO, Int4Linear
from treeagent.backends.seed.kernels import library
from treeagent.errors import ConfigError, ModelError


def compiled() -> bool:
    """Whether the kernels can multiply weights of few bits."""
    try:
        return library.load().instructions() == 2  # type: ignore[no-any-return]
    except library.NoKernels:
        return False


def linear(inputs: int, *, bias: bool = False) -> nn.Linear:
    """With outliers among its weights."""
    torch.manual_seed(inputs)
    layer = nn.Linear(inputs, 12, bias=bias)
    with torch.no_grad():
        layer.weight[:, ::7] *= 5
        layer.weight[3] = 0
    return layer


@pytest.mark.parametrize(("inputs", "bias"), [(96, True), (70, False)])
def test_a_layer_follows_its_law(inputs: int, bias: bool) -> None:
    """Equal to sums of Python's numbers."""
    layer = linear(inputs, bias=bias)
    rounded, x = Int4Linear.of(layer), torch.randn(5, inputs)
    x[0] = 0
    scales, integers = rounded.scales.double().tolist(), (rounded.integers.int() - ZERO).tolist()
    offsets = [0.0] * 12 if layer.bias is None else layer.bias.tolist()
    for row, out in zip(x, rounded(x), strict=True):
        largest = float(row.abs().max())
        left = torch.round(row / largest * 127).tolist() if largest else [0.0] * inputs
        for own, scale, offset, found in zip(integers, scales, offsets, out.tolist(), strict=True):
            total = sum(a * b * scale[i // BLOCK] for i, (a, b) in enumerate(zip(left, own, strict=True)))
            assert found == pytest.approx(total * largest / 127 + offset, rel=1e-4, abs=1e-4)


def test_every_weight_is_the_nearest_of_its_block() -> None:
    """To a multiple of a scale that is in bfloat16, from -8 to 7 of them."""
    layer = linear(96)
    rounded = Int4Linear.of(layer)
    steps = torch.arange(LEAST, MOST + 1)
    values = rounded.scales.float().repeat_interleave(BLOCK, dim=1)[..., None] * steps  # (out, in, 16)
    nearest = (values - layer.weight[..., None]).abs().amin(dim=2)
    assert torch.allclose((rounded.weight() - layer.weight).abs(), nearest)
    assert torch.equal(rounded.scales, rounded.scales.bfloat16())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with grouped heads."""
    return save_model(tmp_path_factory.mktemp("int4") / "model", FAMILIES["llama"])


@pytest.mark.skipif(not compiled(), reason="no C compiler, or no 8-bit dot products")
@pytest.mark.parametrize("prefix", ["own", "target"])
@pytest.mark.parametrize("drafter", ["model", "ngram+rsd-s:2x2"])
def test_a_twin_in_4_bits_changes_no_token(folder: str, drafter: str, prefix: str) -> None:
    """Some of what it drafts is accepted."""
    backend = engine(folder, "twin", "float32", draft_dtype="int4", drafter=drafter, twin_prefix=prefix)
    meter = backend.meter()
    assert told(ask(backend, *MIX)) == Naive(folder, "float32").expected(MIX)
    figures = meter()
    assert figures["accepted"] > 0.1 * figures["drafted"] or drafter != "model"
    clean(backend)


def test_it_is_for_drafts_in_compiled_kernels(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refusal is one line."""
    with pytest.raises(ConfigError, match="int4"):
        engine(folder, "twin", "int4")
    with pytest.raises(ModelError, match="4-bit weights need the compiled kernels"):
        engine(save_model(tmp_path / "other", FAMILIES["gpt-neox"]), "twin", "float32", draft_dtype="int4")
    monkeypatch.setenv("TREEAGENT_KERNELS", "off")
    with pytest.raises(ModelError, match="4-bit weights need the compiled kernels") as error:
        engine(folder, "twin", "float32", draft_dtype="int4", drafter="model")
    assert "\n" not in str(error.value)
