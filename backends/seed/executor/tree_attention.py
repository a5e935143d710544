"""Tree attention: new tokens attend to the slots of their sequences, and to their ancestors among the new tokens.

New keys and values are stored in their slots first, so that segments of one pass may build on each other. Query heads
with the same key head are folded into the token axis instead of repeating keys (GQA), except in causal prefill.
:func:`forest_attention` is called by models of transformers in place of their own attention; the batch arrives as the
keyword ``forest`` of the model's forward.
T new tokens, H query heads, h key-value heads, G = H / h, D head dimension, B segments of n tokens with K keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...models.torch_private import attention_with_lse, find_attention_kernel
from ..kernels.attention_table import AttentionTiles
from ..kv_cache.pool import SlotPool
from .attention_call import AttentionCall
from .attention_rule import AttentionRule
from .forward_batch import ForwardBatch, SharedPrefix
from .joint_batch import JointBatch
from .state_pass import StatePass
from .tile_attention import attend_tiles

NAME = "treeagent_forest"


@dataclass(frozen=True, slots=True)
class AttentionContext:
    """The batch of one pass and the pool of its keys and values."""

    plan: ForwardBatch
    pool: SlotPool
    windows: Sequence[int | None] = ()
    """The sliding window of each layer by the model's configuration."""
    states: StatePass | None = None
    """The states of layers with a recurrence; None for a model without such layers."""

    def of(self, layer: int) -> tuple[ForwardBatch, torch.Tensor]:
        """The batch by the numbers that a layer's keys and values have, and these: (slots or rows, 2, h, D)."""
        windows, by_row = self.pool.windows, self.plan.by_row
        if windows is None or layer not in windows.layers:
            return self.plan, self.pool.entries[layer]
        assert by_row is not None  # noqa: S101  # passes over a pool with rows have it
        return by_row, windows.entries[layer]


class UnsupportedAttention(Exception):
    """The model needs a kind of attention that is not implemented; the message names it."""


def register() -> None:
    """Add :func:`forest_attention` to transformers' attention interface, under :data:`NAME`."""
    from transformers import AttentionInterface  # noqa: PLC0415  # imports the networks of transformers

    AttentionInterface.register(NAME, forest_attention)


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
    """Attention of one layer of a model of transformers: ``query`` (1, H, T, D), ``key`` and ``value`` (1, h, T, D).

    Returns (1, T, H, D). Raises UnsupportedAttention.
    """
    if forest is None:
        raise UnsupportedAttention("the model does not pass keyword arguments to its attention")
    for name in ("position_bias", "head_mask"):
        if others.get(name) is not None:
            raise UnsupportedAttention(f"its attention uses {name!r}")
    stated = forest.windows[module.layer_idx]
    window = others.get("sliding_window", stated)
    if window != stated:
        raise UnsupportedAttention(
            f"its layer {module.layer_idx} has a sliding window of {window}, its configuration says {stated}"
        )
    dim = query.shape[3]
    scale = 1 / math.sqrt(dim) if scaling is None else scaling
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, D) each
    rule = AttentionRule(scale, window, others.get("softcap"), others.get("s_aux"))
    out = attend_forest(q, torch.stack((k, v), dim=1), module.layer_idx, forest, rule)
    return out.reshape(1, query.shape[2], query.shape[1], dim), None


def attend_forest(
    query: torch.Tensor, new: torch.Tensor, layer: int, forest: AttentionContext, rule: AttentionRule
) -> torch.Tensor:
    """Store ``new`` keys and values (T, 2, h, D), attend with ``query`` (T, H, D); result (T, h, G, D)."""
    if isinstance(forest.plan, JointBatch):
        each = [(part.tokens, replace(forest, plan=part.plan, pool=part.pool)) for part in forest.plan.parts]
        return torch.cat([attend_forest(query[own], new[own], layer, context, rule) for own, context in each])
    plan, entries = forest.of(layer)
    entries.index_copy_(0, plan.slots, new)
    return attend_stored(query, layer, forest, rule)


def attend_stored(query: torch.Tensor, layer: int, forest: AttentionContext, rule: AttentionRule) -> torch.Tensor:
    """Attend with ``query`` (T, H, D) where keys and values of the new tokens are stored; result (T, h, G, D)."""
    if isinstance(forest.plan, JointBatch):
        each = [(part.tokens, replace(forest, plan=part.plan, pool=part.pool)) for part in forest.plan.parts]
        return torch.cat([attend_stored(query[own], layer, context, rule) for own, context in each])
    plan, entries = forest.of(layer)
    if plan.tiles is not None:
        out = _attend_tiles(query, entries, plan.tiles, rule)
        return out.view(len(out), entries.shape[2], -1, out.shape[2])
    query = query.view(len(query), entries.shape[2], -1, query.shape[2])  # (T, h, G, D)
    padded = query if plan.padded is None else query.index_select(0, plan.padded)  # (P, h, G, D)
    inside = plan.windows.of(rule.window) if plan.windows is not None else None
    own: list[tuple[torch.Tensor, torch.Tensor]] = []
    first = 0
    for call in plan.calls if inside is None else inside:
        last = first + call.shape[0] * call.shape[1]
        own.append(_attend_private(padded[first:last], call, *call.keys(entries), rule))
        first = last
    out = own[0][0] if len(own) == 1 else torch.cat([part for part, _ in own])  # (P, h, G, D)
    if plan.real is not None:
        out = out.index_select(0, plan.real)
    shared = plan.shared if inside is None else []
    if shared or rule.sinks is not None:
        lse = own[0][1] if len(own) == 1 else torch.cat([part for _, part in own])  # (P, h, G)
        if plan.real is not None:
            lse = lse.index_select(0, plan.real)
        for part in shared:
            here = part.tokens
            if isinstance(here, slice):
                merge(out[here], lse[here], *_attend_shared(query[here], part, entries, rule))
            else:
                some, weights = out.index_select(0, here), lse.index_select(0, here)
                merge(some, weights, *_attend_shared(query.index_select(0, here), part, entries, rule))
                out.index_copy_(0, here, some)
                lse.index_copy_(0, here, weights)
        if rule.sinks is not None:
            sinks = rule.sinks.to(lse.dtype).view(lse.shape[1:])  # (h, G)
            out = out * torch.sigmoid(lse - sinks)[..., None].to(out.dtype)
    return out


def _attend_tiles(
    query: torch.Tensor, entries: torch.Tensor, tiles: AttentionTiles, rule: AttentionRule
) -> torch.Tensor:
    """Attention over the tiles of a pass (T, H, D)."""
    if not tiles.kernel:
        return attend_tiles(query, entries, tiles, rule)
    from ..kernels.paged_attention import paged_attention  # noqa: PLC0415  # Triton is there where it is chosen

    return paged_attention(query, entries, tiles, rule.scale, rule.window, rule.softcap, rule.sinks)


def merge(out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor) -> None:
    """Merge attention over other keys into ``out`` (N, h, G, D) and ``lse`` (N, h, G), its scores' log-sum-exp."""
    weight = torch.sigmoid(other_lse - lse)[..., None].to(out.dtype)
    out.lerp_(other, weight)
    torch.logaddexp(lse, other_lse, out=lse)


def _attend_private(
    q: torch.Tensor, call: AttentionCall, k: torch.Tensor, v: torch.Tensor, rule: AttentionRule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (B * n, h, G, D) over private keys ``k``, ``v`` (B, h, K, D): (B * n, h, G, D) and log-sum-exp."""
    _, heads, group, dim = q.shape
    spans, n, _ = call.shape
    q = q.reshape(spans, n, heads, group, dim)
    if call.mask is None:  # one head at a time: the causal kernel skips half of the scores
        q = q.permute(0, 2, 3, 1, 4).reshape(spans, heads * group, n, dim)
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out, lse = attend(q, k, v, None, rule, causal=True)  # (B, H, n, D), (B, H, n)
        out = out.view(spans, heads, group, n, dim).permute(0, 3, 1, 2, 4)
        lse = lse.view(spans, heads, group, n).permute(0, 3, 1, 2)
    else:
        q = q.transpose(1, 2).reshape(spans, heads, n * group, dim)
        out, lse = attend(q, k, v, call.fold(group), rule)  # (B, h, n * G, D), (B, h, n * G)
        out = out.reshape(spans, heads, n, group, dim).transpose(1, 2)
        lse = lse.reshape(spans, heads, n, group).transpose(1, 2)
    return out.reshape(spans * n, heads, group, dim), lse.reshape(spans * n, heads, group)


def _attend_shared(
    query: torch.Tensor, part: SharedPrefix, entries: torch.Tensor, rule: AttentionRule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``query`` (N, h, G, D) over one shared prefix: (N, h, G, D) and log-sum-exp (N, h, G)."""
    tokens, heads, group, dim = query.shape
    held = entries[part.keys] if isinstance(part.keys, slice) else entries.index_select(0, part.keys)  # (K, 2, h, D)
    k, v = held[:, 0].transpose(0, 1)[None], held[:, 1].transpose(0, 1)[None]  # (1, h, K, D)
    q = query.transpose(0, 1).reshape(1, heads, tokens * group, dim)
    out, lse = attend(q, k, v, None, rule)
    out = out[0].view(heads, tokens, group, dim).transpose(0, 1)
    return out, lse[0].view(heads, tokens, group).transpose(0, 1)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    rule: AttentionRule,
    *,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with its log-sum-exp: q (B, h, Q, D), k and v (B, h, K, D), additive mask (B, 1, Q or 1, K).

    With ``causal`` the first query sees one key, and each further query one more (Q = K). Returns (B, h, Q, D) and
    (B, h, Q), the latter in float32 at least. Of ``rule`` the scale and the soft cap are applied. Uses the CPU kernel
    of torch if it is available and there is no soft cap.
    """
    kernel = find_attention_kernel() if q.device.type == "cpu" and rule.softcap is None else None
    if kernel is not None:
        out, lse = kernel(q, k, v, 0.0, causal, attn_mask=mask, scale=rule.scale)
        return out, lse
    if causal:
        mask = torch.full((q.shape[2], k.shape[2]), -math.inf, dtype=q.dtype, device=q.device).triu_(1)
    return attention_with_lse(q, k, v, mask, rule.scale, rule.softcap)
