"""Attention of a network with 8-bit layers: integers for queries, keys and values, float64 for all else.

The numbers of a head are integers up to 2047 times one power of two, so that scores are exact integers in any order of
sums, and a key and its value take half the memory of float32. Their error is a sixteenth of that of 8-bit activations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

BITS = 11
"""Of the integers, the sign left out. The score of a head of up to 512 numbers is then an integer of 32 bits."""


def round_heads(x: torch.Tensor) -> torch.Tensor:
    """The numbers (..., D) of heads in float64, as integers times a power of two.

    The largest absolute value of each head is from 2^(e - 1) to 2^e, and integers are numbers of steps of 2^(e - 11).
    """
    exponent = torch.frexp(x.abs().amax(dim=-1, keepdim=True)).exponent  # (..., 1)
    step = exponent.long().add_(1023 - BITS).bitwise_left_shift_(52).view(torch.float64)  # exactly that power of two
    most = float((1 << BITS) - 1)
    return x.div(step).round_().clamp_(-most, most).mul_(step)


class Int8Attention(nn.Module):
    """In place of the attention of a Llama-family network, whose projections are 8-bit layers of outputs in float32.

    B texts of T tokens, E hidden size, H query heads, h key heads, D head dimension.
    """

    def __init__(self, attention: Any) -> None:
        """The parts of the attention that is replaced are taken over."""
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.o_proj = attention.o_proj
        if hasattr(attention, "q_norm"):
            self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.head_dim, self.scaling = int(attention.head_dim), float(attention.scaling)
        self.layer_idx = getattr(attention, "layer_idx", None)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """The output (B, T, E), as networks of transformers ask for it, which name their cache in two ways."""
        cache = past_key_values if cache is None else cache
        q, k, v = (
            linear(hidden_states).double().view(*hidden_states.shape[:2], -1, self.head_dim)  # (B, T, H or h, D)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        cos, sin = (part[:, :, None] for part in position_embeddings)
        q, k = (states * cos + _half_turned(states) * sin for states in (q, k))
        q, k, v = (round_heads(states).transpose(1, 2) for states in (q, k, v))
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        causal = attention_mask is None and q.shape[2] > 1
        groups = q.shape[1] // k.shape[1]
        k, v = (states.repeat_interleave(groups, dim=1) for states in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attention_mask, is_causal=causal, scale=self.scaling)
        return self.o_proj(attended.transpose(1, 2).flatten(2).float()), None


def _half_turned(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
