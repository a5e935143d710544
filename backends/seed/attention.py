"""Forest attention: the one function that transformers calls in place of its own.

Registered with transformers' attention interface; the plan of the pass arrives as the keyword ``forest`` of the model's
forward. New keys and values go to their slots first, so that spans of one pass may build on each other. Query heads that
share a key head are folded into the token axis instead of repeating keys (GQA).
T new tokens, H query heads, h key-value heads, G = H / h, D head dimension, B spans of n tokens with K keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import AttentionInterface

from .forest import Plan, Private, Shared
from .pool import SlotPool

NAME = "treeagent_forest"


@dataclass(frozen=True, slots=True)
class Pass:
    """What the attention layers of one pass work on."""

    plan: Plan
    pool: SlotPool


class UnsupportedAttention(Exception):
    """The model asks attention for something that is not built: the message says what."""


def forest_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    forest: Pass | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer: ``query`` (1, H, T, D), ``key`` and ``value`` (1, h, T, D); result (1, T, H, D)."""
    if forest is None:
        raise UnsupportedAttention("the model does not hand keyword arguments on to its attention")
    for name in ("softcap", "s_aux", "position_bias", "head_mask"):
        if others.get(name) is not None:
            raise UnsupportedAttention(f"its attention uses {name!r}")
    plan, layer = forest.plan, module.layer_idx
    keys, values = forest.pool.keys[layer], forest.pool.values[layer]  # (slots, h, D)
    keys.index_copy_(0, plan.slots, key[0].transpose(0, 1))
    values.index_copy_(0, plan.slots, value[0].transpose(0, 1))
    _, heads, tokens, dim = query.shape
    group = heads // keys.shape[1]
    scale = 1 / math.sqrt(dim) if scaling is None else scaling
    folded = query[0].transpose(0, 1).unflatten(1, (keys.shape[1], group))  # (T, h, G, D)
    own = [_attend_private(folded, part, keys, values, group, scale) for part in plan.private]
    out, lse = own[0] if len(own) == 1 else (torch.cat([o for o, _ in own]), torch.cat([w for _, w in own]))
    for part in plan.shared:
        merge(
            out[part.first : part.last], lse[part.first : part.last], *_attend_shared(folded, part, keys, values, scale)
        )
    return out.reshape(1, tokens, heads, dim), None


def merge(out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor) -> None:
    """Fold attention over other keys into ``out`` (N, h, G, D), ``lse`` (N, h, G) being the log-sum-exp of its scores."""
    weight = torch.sigmoid(other_lse - lse)[..., None].to(out.dtype)
    out.lerp_(other, weight)


def _attend_private(
    query: torch.Tensor, part: Private, keys: torch.Tensor, values: torch.Tensor, group: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each span's tokens over its own keys: (N, h, G, D) and the log-sum-exp (N, h, G) of N tokens."""
    spans, _, n, most = part.mask.shape
    heads, dim = keys.shape[1:]
    k = keys.index_select(0, part.keys).view(spans, most, heads, dim).transpose(1, 2)  # (B, h, K, D)
    v = values.index_select(0, part.keys).view(spans, most, heads, dim).transpose(1, 2)
    q = query[part.first : part.last] if part.tokens is None else query.index_select(0, part.tokens)
    q = q.reshape(spans, n, heads, group, dim).transpose(1, 2).reshape(spans, heads, n * group, dim)
    out, lse = attend(q, k, v, part.fold(group), scale)  # (B, h, n * G, D), (B, h, n * G)
    out = out.reshape(spans, heads, n, group, dim).transpose(1, 2).reshape(spans * n, heads, group, dim)
    lse = lse.reshape(spans, heads, n, group).transpose(1, 2).reshape(spans * n, heads, group)
    if part.real is None:
        return out, lse
    return out.index_select(0, part.real), lse.index_select(0, part.real)


def _attend_shared(
    query: torch.Tensor, part: Shared, keys: torch.Tensor, values: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """All tokens of the part over one prefix: (N, h, G, D) and log-sum-exp (N, h, G)."""
    _, heads, group, dim = query.shape
    if isinstance(part.keys, slice):
        k, v = keys[part.keys], values[part.keys]  # (K, h, D)
    else:
        k, v = keys.index_select(0, part.keys), values.index_select(0, part.keys)
    q = query[part.first : part.last].transpose(0, 1).reshape(1, heads, -1, dim)  # (1, h, N * G, D)
    out, lse = attend(q, k.transpose(0, 1)[None], v.transpose(0, 1)[None], None, scale)
    return (
        out[0].unflatten(1, (-1, group)).transpose(0, 1),
        lse[0].unflatten(1, (-1, group)).transpose(0, 1),
    )


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with its log-sum-exp: q (B, h, Q, D), k and v (B, h, K, D), additive mask (B, 1, Q or 1, K).

    Returns (B, h, Q, D) and (B, h, Q), the latter in float32 at least. torch's own CPU kernel, where there is one.
    """
    kernel = find_kernel() if q.device.type == "cpu" else None
    if kernel is not None:
        out, lse = kernel(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
        return out, lse
    return attend_plainly(q, k, v, mask, scale)


def attend_plainly(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as two products and a softmax."""
    scores = torch.matmul(q, k.transpose(2, 3)) * scale
    if mask is not None:
        scores = scores + mask
    wide = scores if scores.dtype == torch.float64 else scores.float()
    lse = wide.logsumexp(dim=3)
    return torch.matmul((wide - lse[..., None]).exp().to(v.dtype), v), lse


@cache
def find_kernel() -> Any:
    """Torch's CPU kernel, which is private: used where it exists and its log-sum-exp has the shape it should have."""
    kernel = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    if kernel is None:
        return None
    q = torch.linspace(-2, 2, 2 * 3 * 4 * 8).sin().view(2, 3, 4, 8)
    k = torch.linspace(-1, 3, 2 * 3 * 5 * 8).cos().view(2, 3, 5, 8)
    mask = torch.zeros(2, 1, 1, 5)
    try:
        out, lse = kernel(q, k, k, 0.0, False, attn_mask=mask, scale=0.5)
    except (RuntimeError, TypeError):
        return None
    plain, plain_lse = attend_plainly(q, k, k, mask, 0.5)
    same = (
        lse.shape == plain_lse.shape
        and torch.allclose(out, plain, atol=1e-5)
        and torch.allclose(lse, plain_lse, atol=1e-5)
    )
    return kernel if same else None


AttentionInterface.register(NAME, forest_attention)
