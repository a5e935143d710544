"""Attention of 8-bit targets: heads as integers, and the compiled kernel beside torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_tools import SHAPES, Branches, save_heads
from test_seed_kernels import needs_kernels

from treeagent.backends.models.int8_attention import BITS, round_heads
from treeagent.backends.seed.executor import llama
from treeagent.backends.seed.kernels import library
from treeagent.errors import UnsupportedModelError


def test_heads_are_integers_times_a_power_of_two() -> None:
    """The nearest ones, of at most 11 bits and a sign, for numbers of any size; a head of zeros stays as it is."""
    x = torch.randn(40, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x *= torch.logspace(-30, 30, 40, dtype=torch.float64)[:, None]
    x[3], x[4] = 0.0, 2.0**-7
    x[5, 0] = 2.0 - 2.0**-40  # rounds to 2048 steps, which are too many
    x[5, 1:] = 0.0
    rounded = round_heads(x)
    for head, result in zip(x.tolist(), rounded.tolist(), strict=True):
        largest = max(map(abs, head))
        step = 2.0 ** (np.frexp(largest)[1] - BITS)
        integers = [number / step for number in result]
        assert all(number == int(number) and abs(number) < 2**BITS for number in integers)
        assert all(
            abs(number - exact) <= step / 2 or abs(number) == (2**BITS - 1) * step
            for number, exact in zip(result, head, strict=True)
        )
    assert torch.equal(rounded[4], x[4])
    assert float(rounded[5, 0]) == 2.0 - 2.0**-10


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model of a head dimension, query heads and key heads."""
    return save_heads(tmp_path_factory.mktemp("heads") / "model", *request.param)


@needs_kernels
def test_the_kernel_attends_as_torch_does(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, all branches at once; keys and values take a quarter of the memory of float64."""
    fast = Branches(folder, "int8")
    monkeypatch.setenv(library.SWITCH, "off")
    slow = Branches(folder, "int8")
    assert fast.weights.kernels == "compiled"
    assert slow.weights.kernels != "compiled"
    result = fast.run(fast.segments)
    assert torch.equal(result, torch.cat([slow.run([segment]) for segment in slow.segments]))
    assert fast.pool.slot_bytes < 0.3 * slow.pool.slot_bytes


def test_heads_that_are_not_rounded_would_be_seen(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the test before: the trial at load refuses them."""
    monkeypatch.setenv(library.SWITCH, "off")
    monkeypatch.setattr(llama, "round_heads", lambda x: x)
    with pytest.raises(UnsupportedModelError, match="logits over a small tree differ"):
        Branches(folder, "int8")
