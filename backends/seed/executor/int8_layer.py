"""A decoder layer of the Llama family in 8-bit arithmetic, in few calls of torch.

A call takes 5 to 10 microseconds between two products that sweep the caches with their weights, and a pass over a small
model is made of hundreds of calls. The results are those of the network's own modules, bit by bit.
"""

from __future__ import annotations

from typing import Any

import torch

from ...models.int8 import Int8Linear
from ...models.int8_attention import Int8Attention
from ...models.int8_network import RowNorm


class Int8Layer:
    """Products, norms and activation; the caller rotates and attends. T tokens, E hidden size, I inner size."""

    def __init__(self, layer: Any) -> None:
        """The layer of a network that has been put into 8 bits. Its weights are taken over."""
        attention, mlp = layer.self_attn, layer.mlp
        self._before, self._between = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        self.q_norm = _norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self.k_norm = _norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self.scale = float(attention.scaling)
        self.wide = isinstance(attention, Int8Attention)
        """Whether attention is that of :class:`Int8Attention`; else it is in float32."""
        self._qkv = Int8Linear.joined([attention.q_proj, attention.k_proj, attention.v_proj])
        self._out: Int8Linear = attention.o_proj
        # Both with the other sign: the exponential wants that of the gate, and the signs of the product cancel.
        self._gate_up = Int8Linear.joined([mlp.gate_proj.negated(), mlp.up_proj.negated()])
        self._down: Int8Linear = mlp.down_proj
        self._inner = mlp.gate_proj.out_features
        layer.self_attn = layer.mlp = None  # frees the layers that were joined

    @staticmethod
    def fits(layer: Any) -> bool:
        """Whether all linear layers of a decoder layer are in 8 bits, and the rest in float32."""
        attention, mlp = layer.self_attn, layer.mlp
        linears = [getattr(attention, name, None) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
        linears += [getattr(mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
        eight = all(isinstance(linear, Int8Linear) for linear in linears)
        norm = layer.input_layernorm
        return eight and (isinstance(norm, RowNorm) or bool(norm.weight.dtype == torch.float32))

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values side by side for ``x`` (T, E), in the dtype of attention."""
        out = self._qkv.consume(self._before(x))
        return out.double() if self.wide else out

    def finish(self, attended: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The layer's output (T, E) from what its attention gave (T, heads * D), and its input.

        ``attended`` is overwritten.
        """
        x = self._out.consume(attended.float()).add_(x)
        both = self._gate_up.consume(self._between(x))  # (T, 2 * I)
        gate, up = both[:, : self._inner], both[:, self._inner :]
        if self.wide:
            wide = gate.double()
            inner = wide.div_(wide.exp().add_(1)).float().mul_(up)  # (T, I)
        else:
            inner = gate.exp().add_(1)  # (T, I)
            torch.div(gate, inner, out=inner).mul_(up)
        return self._down.consume(inner).add_(x)


def _norm(module: Any) -> RowNorm:
    return module if isinstance(module, RowNorm) else RowNorm(module.weight, module.variance_epsilon)
