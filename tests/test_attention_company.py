"""Attention in the compiled kernels: a token's numbers whatever is beside it, for every type of numbers."""

from __future__ import annotations

import pytest
import torch
from attention_tools import SHAPES, Branches, save_heads, threads_of_torch
from test_seed_kernels import needs_kernels

from treeagent.backends.seed.kernels import library

DTYPES = ("float32", "bfloat16", "int8")


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model of a head dimension, query heads and key heads."""
    return save_heads(tmp_path_factory.mktemp("heads") / "model", *request.param)


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_token_attends_the_same_in_any_company(folder: str, threads: int, dtype: str) -> None:
    """Bit by bit: branches that share a prompt all at once, in other orders, a few of them, and one by one."""
    with threads_of_torch(threads):
        branches = Branches(folder, dtype)
        segments = branches.segments
        together = branches.run(segments).view(len(segments), 3, -1)
        for order in ([8, 3, 0, 5], [2, 1], [7, 6, 5, 4, 3, 2, 1, 0], *([row] for row in range(len(segments)))):
            apart = branches.run([segments[row] for row in order])
            assert torch.equal(apart.view(len(order), 3, -1), together[order])


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_text_is_the_same_however_it_is_read(folder: str, dtype: str) -> None:
    """Bit by bit: whole, in pieces that end anywhere, and token by token; with another prompt it is another one."""
    branches = Branches(folder, dtype)
    text = [9 + 5 * i * i % 101 for i in range(70)]
    prompt, other = branches.segments[3].context, branches.segments[6].context
    _, whole = branches.read(text, prompt)
    for limit in (1, 7, 16, 33):
        assert torch.equal(branches.read(text, prompt, limit)[1], whole)
    assert not torch.equal(branches.read(text, other)[1], whole)


@needs_kernels
def test_the_kernel_is_near_what_torch_computes(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, within the rounding of sums; other branches' are not."""
    fast = Branches(folder, "float32")
    assert fast.weights.kernels == "compiled"
    result = fast.run(fast.segments)
    monkeypatch.setenv(library.SWITCH, "off")
    slow = Branches(folder, "float32")
    assert slow.weights.kernels != "compiled"
    exact = torch.cat([slow.run([segment]) for segment in slow.segments])
    scale = exact.abs().max()
    assert (result - exact).abs().max() < 1e-5 * scale
    swapped = torch.cat([slow.run([segment]) for segment in reversed(slow.segments)])
    assert (result - swapped).abs().max() > 1e-3 * scale
