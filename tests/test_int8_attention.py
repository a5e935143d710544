"""Attention of 8-bit targets: heads as integers, and the compiled kernel beside torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from seed_tools import save_model
from test_seed_kernels import CPU, needs_kernels
from transformers import LlamaConfig

from treeagent.backends.models.int8_attention import BITS, round_heads
from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.executor import llama
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache
from treeagent.errors import UnsupportedModelError

SHARED = 53
"""Tokens of the prompt that all branches share; not a whole number of the kernel's tiles."""
PRIVATE = (0, 3, 16, 40, 11, 29, 5, 17, 21)
"""Tokens of the branches' own, by branch."""


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


@pytest.fixture(scope="module", params=[(64, 9, 3), (40, 4, 4), (8, 22, 2), (128, 4, 1)], ids=str)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model of a head dimension, query heads and key heads."""
    dim, heads, kv_heads = request.param
    config = LlamaConfig(
        vocab_size=120, hidden_size=4 * heads, intermediate_size=48, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=dim, max_position_embeddings=256, bos_token_id=0, eos_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    return save_model(tmp_path_factory.mktemp("heads") / "model", config)


class Branches:
    """An 8-bit model that has read a prompt, and after it texts of the branches' own."""

    def __init__(self, folder: str) -> None:
        self.weights = Weights(load_model(Path(folder), "int8", CPU), folder)
        self.pool = self.weights.new_pool(1 << 28)
        self.forest = RadixCache(self.pool)
        prompt = self._read([5 + i * i % 97 for i in range(SHARED)], np.zeros(0, dtype=np.int64))
        texts = [[9 + (7 * row + i * i) % 101 for i in range(length)] for row, length in enumerate(PRIVATE)]
        own = [self._read(text, prompt) for text in texts]
        self.segments = [
            Segment([30 + row, 40, 50], self.pool.allocate(3), np.concatenate((prompt, slots)), self.forest.root,
                    [-1, 0, 0], range(3))
            for row, slots in enumerate(own)
        ]  # fmt: skip

    def _read(self, tokens: list[int], context: np.ndarray) -> np.ndarray:
        slots = self.pool.allocate(len(tokens))
        if len(tokens):
            self.run([Segment(tokens, slots, context, self.forest.root, wanted=range(len(tokens)))])
        return slots

    def run(self, segments: list[Segment]) -> torch.Tensor:
        """Logits of a pass."""
        weights = self.weights
        with torch.inference_mode():
            return weights.decoder(make_forward_batch(segments, weights.dtype, CPU, weights.in_place), self.pool)


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """So many threads, and then those of before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_token_attends_the_same_in_any_company(folder: str, threads: int) -> None:
    """Bit by bit: branches that share a prompt all at once, in other orders, a few of them, and one by one."""
    with threads_of_torch(threads):
        branches = Branches(folder)
        segments = branches.segments
        together = branches.run(segments).view(len(segments), 3, -1)
        for order in ([8, 3, 0, 5], [2, 1], [7, 6, 5, 4, 3, 2, 1, 0], *([row] for row in range(len(segments)))):
            apart = branches.run([segments[row] for row in order])
            assert torch.equal(apart.view(len(order), 3, -1), together[order])


@needs_kernels
def test_the_kernel_attends_as_torch_does(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, all branches at once; keys and values take a quarter of the memory of float64."""
    fast = Branches(folder)
    monkeypatch.setenv(library.SWITCH, "off")
    slow = Branches(folder)
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
        Branches(folder)
