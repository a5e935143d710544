"""Forest attention: new tokens over the slots that their branches hold, and over each other.

New keys and values go to their slots first, so that spans of one pass may build on each other. Query heads that share a
key head are folded into the token axis instead of repeating keys (GQA), but where prompts are read causally.
:func:`forest_attention` is registered with transformers' attention interface, so that its models call it in place of
their own; the plan of the pass arrives as the keyword ``forest`` of the model's forward.
T new tokens, H query heads, h key-value heads, G = H / h, D head dimension, B spans of n tokens with K keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import AttentionInterface

from ..kv_cache.pool import SlotPool
from .forward_batch import ForwardBatch, PrivateSegment, SharedPrefix

NAME = "treeagent_forest"


@dataclass(frozen=True, slots=True)
class AttentionContext:
    """What the attention layers of one pass work on."""

    plan: ForwardBatch
    pool: SlotPool


class UnsupportedAttention(Exception):
    """The model asks attention for something that is not built: the message says what."""


def forest_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    forest: AttentionContext | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """One layer of a model of transformers: ``query`` (1, H, T, D), ``key`` and ``value`` (1, h, T, D).

    Returns (1, T, H, D). Raises UnsupportedAttention.
    """
    if forest is None:
        raise UnsupportedAttention("the model does not hand keyword arguments on to its attention")
    for name in ("softcap", "s_aux", "position_bias", "head_mask"):
        if others.get(name) is not None:
            raise UnsupportedAttention(f"its attention uses {name!r}")
    dim = query.shape[3]
    scale = 1 / math.sqrt(dim) if scaling is None else scaling
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, D) each
    out = attend_forest(q, torch.stack((k, v), dim=1), module.layer_idx, forest, scale)
    return out.reshape(1, query.shape[2], query.shape[1], dim), None


def attend_forest(
    query: torch.Tensor, new: torch.Tensor, layer: int, forest: AttentionContext, scale: float
) -> torch.Tensor:
    """Store ``new`` keys and values (T, 2, h, D), attend with ``query`` (T, H, D); result (T, h, G, D)."""
    plan, entries = forest.plan, forest.pool.entries[layer]  # (slots, 2, h, D)
    entries.index_copy_(0, plan.slots, new)
    query = query.view(len(query), entries.shape[2], -1, query.shape[2])  # (T, h, G, D)
    own = [_attend_private(query, part, entries, scale) for part in plan.private]
    out, lse = own[0] if len(own) == 1 else (torch.cat([o for o, _ in own]), torch.cat([w for _, w in own]))
    for part in plan.shared:
        here = slice(part.first, part.last)
        merge(out[here], lse[here], *_attend_shared(query[here], part, entries, scale))
    return out


def merge(out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor) -> None:
    """Fold attention over other keys into ``out`` (N, h, G, D); ``lse`` (N, h, G) is the log-sum-exp of its scores."""
    weight = torch.sigmoid(other_lse - lse)[..., None].to(out.dtype)
    out.lerp_(other, weight)


def _attend_private(
    query: torch.Tensor, part: PrivateSegment, entries: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each span's tokens over its own keys: (N, h, G, D) and the log-sum-exp (N, h, G) of N tokens."""
    spans, n, most = part.shape
    _, _, heads, dim = entries.shape
    group = query.shape[2]
    held = entries.index_select(0, part.keys).view(spans, most, 2, heads, dim)
    k, v = held[:, :, 0].transpose(1, 2), held[:, :, 1].transpose(1, 2)  # (B, h, K, D)
    q = query[part.first : part.last] if part.tokens is None else query.index_select(0, part.tokens)
    q = q.reshape(spans, n, heads, group, dim)
    if part.mask is None:  # heads apart, as the kernel then leaves out half of the scores
        q = q.permute(0, 2, 3, 1, 4).reshape(spans, heads * group, n, dim)
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out, lse = attend(q, k, v, None, scale, causal=True)  # (B, H, n, D), (B, H, n)
        out = out.view(spans, heads, group, n, dim).permute(0, 3, 1, 2, 4)
        lse = lse.view(spans, heads, group, n).permute(0, 3, 1, 2)
    else:
        q = q.transpose(1, 2).reshape(spans, heads, n * group, dim)
        out, lse = attend(q, k, v, part.fold(group), scale)  # (B, h, n * G, D), (B, h, n * G)
        out = out.reshape(spans, heads, n, group, dim).transpose(1, 2)
        lse = lse.reshape(spans, heads, n, group).transpose(1, 2)
    out, lse = out.reshape(spans * n, heads, group, dim), lse.reshape(spans * n, heads, group)
    if part.real is None:
        return out, lse
    return out.index_select(0, part.real), lse.index_select(0, part.real)


def _attend_shared(
    query: torch.Tensor, part: SharedPrefix, entries: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``query`` (N, h, G, D) over one prefix: (N, h, G, D) and log-sum-exp (N, h, G)."""
    tokens, heads, group, dim = query.shape
    held = entries[part.keys] if isinstance(part.keys, slice) else entries.index_select(0, part.keys)  # (K, 2, h, D)
    k, v = held[:, 0].transpose(0, 1)[None], held[:, 1].transpose(0, 1)[None]  # (1, h, K, D)
    q = query.transpose(0, 1).reshape(1, heads, tokens * group, dim)
    out, lse = attend(q, k, v, None, scale)
    out = out[0].view(heads, tokens, group, dim).transpose(0, 1)
    return out, lse[0].view(heads, tokens, group).transpose(0, 1)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    *,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with its log-sum-exp: q (B, h, Q, D), k and v (B, h, K, D), additive mask (B, 1, Q or 1, K).

    With ``causal`` the first query sees one key, and each further query one more (Q = K). Returns (B, h, Q, D) and
    (B, h, Q), the latter in float32 at least. The CPU kernel of torch, where there is one.
    """
    kernel = find_kernel() if q.device.type == "cpu" else None
    if kernel is not None:
        out, lse = kernel(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
        return out, lse
    if causal:
        mask = torch.full((q.shape[2], k.shape[2]), -math.inf, dtype=q.dtype, device=q.device).triu_(1)
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
    """The CPU kernel of torch, which is private: used where it exists and gives what it should; looked for once."""
    kernel = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    if kernel is None:
        return None
    q = torch.linspace(-2, 2, 2 * 3 * 5 * 8).sin().view(2, 3, 5, 8)
    k = torch.linspace(-1, 3, 2 * 3 * 5 * 8).cos().view(2, 3, 5, 8)
    seen = torch.zeros(2, 1, 1, 5)
    triangle = torch.full((5, 5), -math.inf).triu_(1)
    try:
        made = [kernel(q, k, k, 0.0, False, attn_mask=seen, scale=0.5), kernel(q, k, k, 0.0, True, scale=0.5)]
    except (RuntimeError, TypeError):
        return None
    plain = [attend_plainly(q, k, k, mask, 0.5) for mask in (seen, triangle)]
    pairs = [(a, b) for fast, slow in zip(made, plain, strict=True) for a, b in zip(fast, slow, strict=True)]
    return kernel if all(a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in pairs) else None


AttentionInterface.register(NAME, forest_attention)
