"""Layers of the Llama family in ten launches each: four products, two of attention, and four between them.

The residual of a layer is added by the norm that follows it, which may be that of the next layer; gate and up are one
product, as are query, key and value. The numbers are those of :class:`.llama_layer.LlamaLayer`, to rounding.
T new tokens, E hidden size, H query heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .attention_rule import AttentionRule
from .gate_up import JointGateUp
from .int8_layer import Int8Layer
from .joint_batch import parts_of
from .llama_layer import LlamaLayer
from .rms_norm import RmsNorm
from .tree_attention import AttentionContext, attend_stored

Norm = Callable[[torch.Tensor], torch.Tensor]


def why_plain(layers: Sequence[LlamaLayer | Int8Layer], last: Norm) -> str | None:
    """Why kernels in Triton do not compute what layers, and the ``last`` norm, compute between products; None if so."""
    norms = [last]
    for layer in layers:
        if isinstance(layer, Int8Layer) or not isinstance(layer.gate_up, JointGateUp):
            return "layers in 8 bits"
        norms += [layer.before, layer.between, *(norm for norm in (layer.q_norm, layer.k_norm) if norm is not None)]
    if not all(isinstance(norm, RmsNorm) for norm in norms):
        return "norms of another kind"
    return None


def fused_norm(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """A norm (T, E) of ``x`` (T, E) in one launch."""
    return _add_norm(x, None, norm)[1]


def fused_layers(
    x: torch.Tensor,
    layers: Sequence[LlamaLayer | Int8Layer],
    rules: Sequence[AttentionRule],
    first: int,
    forest: AttentionContext,
    rotation: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """The output (T, E) of ``layers``, of which :func:`why_plain` says nothing, for the input ``x`` of the first one.

    Each attends by its rule, ``first`` is the number of the first, ``rotation`` cosines and signed sines (T, 1, D).
    """
    from ..kernels.layer_parts import gate, rotate_and_store  # noqa: PLC0415  # Triton is there where it is chosen

    cos, sin = rotation
    tokens, dim = len(x), cos.shape[2]
    parts = [(part.tokens, AttentionContext(part.plan, part.pool)) for part in parts_of(forest.plan, forest.pool)]
    change: torch.Tensor | None = None  # is added to x by the next norm
    for index, (layer, rule) in enumerate(zip(layers, rules, strict=True), first):
        assert isinstance(layer, LlamaLayer)  # noqa: S101  # see why_plain
        assert isinstance(layer.gate_up, JointGateUp)  # noqa: S101
        x, normed = _add_norm(x, change, layer.before)
        qkv = layer.qkv(normed).view(tokens, -1, dim)
        for own, context in parts:
            plan, entries = context.of(index)
            rotate_and_store(qkv[own], (cos[own], sin[own]), entries, plan.slots, layer.head_norms, layer.head_floor)
        heads = qkv.shape[1] - 2 * entries.shape[2]
        attended = attend_stored(qkv[:, :heads], index, forest, rule)
        x, normed = _add_norm(x, layer.out(attended.reshape(tokens, heads * dim)), layer.between)
        change = layer.down(gate(layer.gate_up.product(normed)))
    return x if change is None else change.add_(x)


def _add_norm(x: torch.Tensor, change: torch.Tensor | None, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    from ..kernels.layer_parts import add_norm  # noqa: PLC0415  # the same

    assert isinstance(norm, RmsNorm)  # noqa: S101  # see why_plain
    return add_norm(x, change, norm.weight, norm.floor)
