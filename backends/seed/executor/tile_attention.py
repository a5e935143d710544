"""Attention over the tiles of a pass in plain operations of torch, for graphs where there is no kernel in Triton.

It has the contract of :func:`..kernels.paged_attention.paged_attention`: what it computes depends on the contents of
the table alone, and sizes on its padding alone. All keys of a tile are gathered, and all of its queries computed.
C tiles of at most Q queries and K keys, T new tokens, H query heads, h key heads, G = H / h, D head size.
"""

from __future__ import annotations

import torch

from ..kernels.attention_table import FIELDS, TILES, AttentionTiles
from .attention_rule import AttentionRule


def attend_tiles(
    query: torch.Tensor, entries: torch.Tensor, tiles: AttentionTiles, rule: AttentionRule
) -> torch.Tensor:
    """Attention of ``query`` (T, H, D) over the pool's ``entries`` (slots, 2, h, D); result (T, H, D).

    A token without tiles, which pads a pass, gets zeros. Keys that a tile does not have repeat its last one.
    """
    table, device = tiles.tables.long(), query.device
    begin = table[:8]  # of the sections
    cells = torch.arange(tiles.count * FIELDS, device=device) + begin[TILES]
    first, count, key, length, key_position, new, new_token, _, word, words = table[cells].view(-1, FIELDS, 1).unbind(1)
    local = torch.arange(tiles.queries, device=device)  # (Q,)
    index = torch.arange(tiles.keys, device=device)  # (K,)
    real, held = local < count, index < length  # (C, Q), (C, K)
    token = table[(begin[0] + first + local) * real] * real  # (C, Q)
    slot = table[begin[1] + key + torch.minimum(index, (length - 1).clamp_(min=0))]  # (C, K)
    node = index - new  # (C, K) which new token a key is; below 0 for the context, which is seen by all
    drafted = held & (node >= 0)
    places = begin[3] + (word + local * words)[:, :, None] + (node // 32)[:, None]
    mask = table[places * (real[:, :, None] & drafted[:, None])]  # (C, Q, K)
    seen = (held & (node < 0))[:, None] | drafted[:, None] & ((mask >> (node & 31)[:, None]) & 1 != 0)
    if rule.window is not None:
        there = torch.where(drafted, table[(begin[2] + new_token + node) * drafted], key_position + index)
        seen &= there[:, None] > table[begin[2] + token][:, :, None] - rule.window
    seen &= real[:, :, None]
    return _merged(query, token, *_partial(query[token], entries[slot], seen, rule), rule.sinks)


def _partial(
    query: torch.Tensor, held: torch.Tensor, seen: torch.Tensor, rule: AttentionRule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each tile alone: ``query`` (C, Q, H, D) over ``held`` (C, K, 2, h, D), as far as they are ``seen`` (C, Q, K).

    Results (C, Q, H, D), and log-sum-exps (C, Q, H), minus infinity where nothing is seen.
    """
    tiles, queries, heads, dim = query.shape
    key, value = held.permute(2, 0, 3, 1, 4)  # (C, h, K, D) each
    folded = query.view(tiles, queries, key.shape[1], -1, dim).transpose(1, 2).flatten(2, 3)  # (C, h, Q * G, D)
    scores = (folded @ key.transpose(2, 3)) * rule.scale
    wide = scores if scores.dtype == torch.float64 else scores.float()
    if rule.softcap is not None:
        wide = torch.tanh(wide / rule.softcap) * rule.softcap
    wide = wide.unflatten(2, (queries, -1)).masked_fill(~seen[:, None, :, None], -torch.inf)  # (C, h, Q, G, K)
    lse = wide.logsumexp(dim=4)
    weight = (wide - lse.nan_to_num(neginf=0.0)[..., None]).exp().to(value.dtype)
    out = weight.flatten(2, 3) @ value  # (C, h, Q * G, D)
    out = out.unflatten(2, (queries, -1)).transpose(1, 2).reshape(tiles, queries, heads, dim)
    return out, lse.transpose(1, 2).reshape(tiles, queries, heads)


def _merged(
    query: torch.Tensor, token: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor | None
) -> torch.Tensor:
    """The tiles of each of the tokens of ``query`` (T, H, D), weighed by their log-sum-exps; result (T, H, D).

    In float64, as a GPU keeps no order of summands.
    """
    token, out, lse = token.flatten(), out.flatten(0, 1).double(), lse.flatten(0, 1).double()
    none = torch.full(query.shape[:2], -torch.inf, dtype=torch.float64, device=query.device)
    sink = none if sinks is None else none.copy_(sinks)
    top = sink.scatter_reduce(0, token[:, None].expand_as(lse), lse, "amax").nan_to_num(neginf=0.0)  # (T, H)
    share = (lse - top[token]).exp()
    total = (sink - top).exp().index_add_(0, token, share)
    summed = torch.zeros_like(query, dtype=torch.float64).index_add_(0, token, out * share[..., None])
    return (summed / torch.where(total > 0, total, 1.0)[..., None]).to(query.dtype)
