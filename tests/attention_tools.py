"""Branches that share a prompt, for tests of what a token attends to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from seed_tools import save_model
from test_seed_kernels import CPU
from transformers import LlamaConfig

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache

SHARED = 53
"""Tokens of the prompt that all branches share; not a whole number of the kernel's tiles."""
PRIVATE = (0, 3, 16, 40, 11, 29, 5, 17, 21)
"""Tokens of the branches' own, by branch."""
SHAPES = [(64, 9, 3), (40, 4, 4), (8, 22, 2), (128, 4, 1)]
"""A head dimension, query heads and key heads."""


def save_heads(folder: Path, dim: int, heads: int, kv_heads: int) -> str:
    """The folder of a tiny model with such heads."""
    config = LlamaConfig(
        vocab_size=120, hidden_size=4 * heads, intermediate_size=48, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=dim, max_position_embeddings=256, bos_token_id=0, eos_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    return save_model(folder, config)


class Branches:
    """A model that has read a prompt, and after it texts of the branches' own."""

    def __init__(self, folder: str, dtype: str) -> None:
        self.weights = Weights(load_model(Path(folder), dtype, CPU), folder)
        self.pool = self.weights.new_pool(1 << 28)
        self.forest = RadixCache(self.pool)
        prompt, _ = self.read([5 + i * i % 97 for i in range(SHARED)])
        texts = [[9 + (7 * row + i * i) % 101 for i in range(length)] for row, length in enumerate(PRIVATE)]
        own = [self.read(text, prompt)[0] for text in texts]
        self.segments = [
            Segment([30 + row, 40, 50], self.pool.allocate(3), np.concatenate((prompt, slots)), self.forest.root,
                    [-1, 0, 0], range(3))
            for row, slots in enumerate(own)
        ]  # fmt: skip

    def read(
        self, tokens: list[int], context: np.ndarray | None = None, limit: int | None = None
    ) -> tuple[np.ndarray, torch.Tensor]:
        """The slots of a text after a context, and its logits; read in pieces of ``limit`` tokens."""
        limit = limit or max(len(tokens), 1)
        context = np.zeros(0, dtype=np.int64) if context is None else context
        slots, logits = self.pool.allocate(len(tokens)), [torch.zeros(0, 120)]
        for at in range(0, len(tokens), limit):
            piece, own = tokens[at : at + limit], slots[at : at + limit]
            before = np.concatenate((context, slots[:at]))
            logits.append(self.run([Segment(piece, own, before, self.forest.root, wanted=range(len(piece)))]))
        return slots, torch.cat(logits)

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
