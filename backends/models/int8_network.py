"""How a network with 8-bit layers computes everything between them, so that a token's logits are the same in any batch.

Where a row could be rounded differently beside other rows, one activation in front of an 8-bit product would move by a
whole step, and that changes tokens. There are two ways out:

* The Llama family computes in float32 what is computed row by row or number by number, with operations whose results
  do not depend on the batch (:class:`RowNorm`, :class:`RowSilu`). Attention, whose sums are cut differently in every
  batch, is in float64 (:class:`.Int8Attention`): differences of 1e-16 vanish when the result is rounded.
* Every other network computes all of it in float64.

A draft may depend on its batch, so it computes everything in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from .int8 import quantize
from .int8_attention import Int8Attention

LLAMA_FAMILY = frozenset(
    {"LlamaForCausalLM", "LlamaNetwork", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
)
"""Networks of transformers, and :class:`.llama_network.LlamaNetwork`, of pre-norms, rotary positions and gated SiLU."""
SILU = ("SiLU", "SiLUActivation")
"""Names of the classes of that activation."""


class RowNorm(nn.Module):
    """The root-mean-square norm x / sqrt(mean(x^2) + epsilon) * weight of rows (..., E) in float64, rounded."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        """``weight`` (E,)."""
        super().__init__()
        self.weight, self.epsilon = weight.detach().float().contiguous(), float(epsilon)
        self._wide = self.weight.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., E)."""
        wide = x.double()
        mean = (wide * wide).mean(dim=-1, keepdim=True)  # (..., 1)
        return (wide * mean.add_(self.epsilon).rsqrt_()).mul_(self._wide).to(x.dtype)


class RowSilu(nn.Module):
    """x / (1 + exp(-x)) in float64, rounded; torch's own function rounds the end of a block in another way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        wide = x.double()
        return (wide / wide.neg().exp_().add_(1)).to(x.dtype)


def make_target(network: Any) -> torch.dtype:
    """Replace the linear layers of a network in float32, so that its logits do not depend on the batch.

    Returns the dtype of its keys and values. Raises UnsupportedLinear.
    """
    quantize(network)
    if type(network).__name__ not in LLAMA_FAMILY or not _has_family_parts(network) or not rows_stand_alone():
        network.double()
        return torch.float64
    for layer in network.model.layers:
        attention = layer.self_attn = Int8Attention(layer.self_attn)
        for parent, name in (
            (layer, "input_layernorm"),
            (layer, "post_attention_layernorm"),
            (attention, "q_norm"),
            (attention, "k_norm"),
        ):
            if hasattr(parent, name):
                _replace(parent, name, _row_norm)
        _replace(layer.mlp, "act_fn", lambda _: RowSilu())
    _replace(network.model, "norm", _row_norm)
    return torch.float64


def _replace(parent: nn.Module, name: str, make: Callable[[Any], nn.Module]) -> None:
    """Put a module made of the present one in its place."""
    setattr(parent, name, make(getattr(parent, name)))


def _row_norm(norm: Any) -> RowNorm:
    return RowNorm(norm.weight, norm.variance_epsilon)


def _has_family_parts(network: Any) -> bool:
    """Whether all activations are SiLU; a configuration may name another one."""
    return all(type(layer.mlp.act_fn).__name__ in SILU for layer in network.model.layers)


@cache
def rows_stand_alone() -> bool:
    """Whether this build of torch computes the same for a row in a batch as for the row alone, bit by bit."""
    x = torch.linspace(-9, 9, 41 * 197).mul_(7).sin_().mul_(5).view(41, 197)
    norm, silu = RowNorm(torch.linspace(0.5, 2, 197), 1e-5), RowSilu()

    def alone(function: nn.Module, rows: int) -> bool:
        return torch.equal(
            function(x), torch.cat([function(x[first : first + rows].clone()) for first in range(0, 41, rows)])
        )

    return all(alone(function, rows) for function in (norm, silu) for rows in (1, 2, 3, 16))
