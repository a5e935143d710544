"""The weights of a widened model, one after the other.

A hidden state has the small model's numbers first and zeros after them. A root-mean-square norm over more numbers of
the same sum has a mean smaller by d/D, so its weight is multiplied by sqrt(d/D) and its epsilon by d/D. New heads and
neurons are random and no output reads them: their columns of ``o_proj`` and ``down_proj`` are zero, as are the rows of
new hidden numbers. Columns that meet zeros alone are random as well, so that a GPU has numbers to multiply. A layer
whose ``o_proj`` and ``down_proj`` are zero is the identity.
In a wider head the small head's numbers stand where the rotary frequencies are the same, and the others' keys are zero.
d, D hidden size of the small and the large model; V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from .shape import DecoderShape, kv_heads_of_each

BLOCK = 999_983
"""Random numbers that are repeated; a prime, so that no two rows are alike. To draw them all takes minutes on a CPU."""

Tensors = dict[str, torch.Tensor]


class WideMatrices:
    """Makes the tensors of the large model from those of the small one, a group at a time."""

    def __init__(
        self,
        small: DecoderShape,
        large: DecoderShape,
        weights: Mapping[str, torch.Tensor],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """``weights`` are the small model's in float32, by their names in transformers' checkpoints."""
        self._small, self._large, self._weights = small, large, weights
        self._dtype, self._device = dtype, device
        generator = torch.Generator().manual_seed(0)
        self._block = torch.empty(BLOCK).normal_(generator=generator).to(device)
        times = large.head_dim // small.head_dim
        first = torch.arange(small.head_dim // 2) * times
        self._inside = torch.cat((first, first + large.head_dim // 2))  # (small head_dim,) places within a head
        self._queries, self._keys = self._heads()
        self._scale = math.sqrt(small.hidden / large.hidden)
        self._sharpness = math.sqrt(times)
        """Queries are multiplied by it, because scores are divided by the root of the head's width."""

    def groups(self) -> Iterator[tuple[str, Tensors]]:
        """All tensors of the large model: the name of a group, and its tensors; one group is in memory at a time."""
        yield "embeddings", {"model.embed_tokens.weight": self._columns("model.embed_tokens.weight", fill=False)}
        for layer in range(self._large.layers):
            yield f"layer {layer}", self._layer(layer)
        head: Tensors = {"model.norm.weight": self._norm("model.norm.weight")}
        if not self._large.tied:
            tied = "lm_head.weight" not in self._weights
            head["lm_head.weight"] = self._columns("model.embed_tokens.weight" if tied else "lm_head.weight")
        yield "head", head

    def _layer(self, layer: int) -> Tensors:
        small, large = self._small, self._large
        source = f"model.layers.{min(layer, small.layers - 1)}."  # an identity layer's other weights are any
        identity = layer >= small.layers
        hidden, inner = torch.arange(small.hidden), torch.arange(small.inner)
        wide, narrow = large.heads * large.head_dim, large.kv_heads * large.head_dim
        read = self._spread(self._queries, large.head_dim)
        keys = self._spread(self._keys, large.head_dim)
        copies = torch.arange(small.kv_heads).repeat_interleave(kv_heads_of_each(small, large))
        own = self._spread(copies, small.head_dim, inside=torch.arange(small.head_dim))
        q, k, v, o = (source + f"self_attn.{name}_proj.weight" for name in "qkvo")
        gate, up, down = (source + f"mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
        key = self._matrix(k, (narrow, large.hidden), keys, hidden, own=own)
        unused = torch.ones(large.head_dim, dtype=torch.bool)
        unused[self._inside] = False
        key.view(large.kv_heads, large.head_dim, -1)[:, unused.to(self._device)] = 0
        tensors = {
            q: self._matrix(q, (wide, large.hidden), read, hidden, scale=self._sharpness),
            k: key,
            v: self._matrix(v, (narrow, large.hidden), keys, hidden, own=own),
            o: self._matrix(o, (large.hidden, wide), hidden, read, fill=False, zero=identity),
            gate: self._matrix(gate, (large.inner, large.hidden), inner, hidden),
            up: self._matrix(up, (large.inner, large.hidden), inner, hidden),
            down: self._matrix(down, (large.hidden, large.inner), hidden, inner, fill=False, zero=identity),
            **{
                source + f"{name}.weight": self._norm(source + f"{name}.weight")
                for name in ("input_layernorm", "post_attention_layernorm")
            },
        }
        return {f"model.layers.{layer}." + name.removeprefix(source): tensor for name, tensor in tensors.items()}

    def _heads(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the small model's query heads are in the large one, and the key-value heads that they read.

        One key-value head of the small model has several copies where it serves more query heads than one of the large.
        """
        small, large = self._small, self._large
        group, room, each = small.heads // small.kv_heads, large.heads // large.kv_heads, kv_heads_of_each(small, large)
        queries = [
            (head // group * each + head % group // room) * room + head % group % room for head in range(small.heads)
        ]
        return torch.tensor(queries), torch.arange(small.kv_heads * each)

    def _spread(self, heads: torch.Tensor, width: int, inside: torch.Tensor | None = None) -> torch.Tensor:
        """Rows of heads ``width`` wide that hold the small heads' numbers, head by head."""
        places = self._inside if inside is None else inside
        return (heads[:, None] * width + places).flatten()

    def _matrix(
        self,
        name: str,
        size: tuple[int, int],
        rows: torch.Tensor,
        columns: torch.Tensor,
        *,
        own: torch.Tensor | None = None,
        scale: float = 1.0,
        fill: bool = True,
        zero: bool = False,
    ) -> torch.Tensor:
        """A matrix with the small one's in the ``rows`` and ``columns``, random or, without ``fill``, zero elsewhere.

        ``own`` names the rows of the small matrix that are taken, if not all once. With ``zero`` nothing is taken.
        """
        source = self._weights[name].to(self._device)
        matrix = self._random(size, float(source.std())) if fill else self._empty(size).zero_()
        if not zero:
            taken = source if own is None else source[own.to(self._device)]
            matrix[rows.to(self._device)[:, None], columns.to(self._device)] = (taken * scale).to(self._dtype)
        return matrix

    def _columns(self, name: str, *, fill: bool = True) -> torch.Tensor:
        """A table (V, D) over the vocabulary."""
        rows = torch.arange(len(self._weights[name]))
        size = (len(rows), self._large.hidden)
        return self._matrix(name, size, rows, torch.arange(self._small.hidden), fill=fill)

    def _norm(self, name: str) -> torch.Tensor:
        source = self._weights[name]
        weight = torch.full((self._large.hidden,), self._scale)
        weight[: len(source)] *= source.cpu()
        return weight.to(self._device, self._dtype)

    def _random(self, size: tuple[int, int], spread: float) -> torch.Tensor:
        block = self._block * spread
        matrix = self._empty(size)
        flat = matrix.view(-1)
        for start in range(0, len(flat), BLOCK):
            part = flat[start : start + BLOCK]
            part.copy_(block[: len(part)])
        return matrix

    def _empty(self, size: tuple[int, int]) -> torch.Tensor:
        return torch.empty(size, dtype=self._dtype, device=self._device)
