"""Sorted drafts: one model of several exits, each of which drafts by itself (S2D, Kavehzadeh et al., arXiv 2407.01955).

The exits stand in the model's configuration as ``exits``, numbers of layers in ascending order, the last one being all
of them. They share the final norm and the output head, and are trained on the mean of their cross-entropies (SoFT, the
paper's equation 2). ``train_sorted.py`` makes one of any Llama-style model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..seed.executor.exit_policy import exits_of
from .packed_texts import PackedTexts, Text

Batch = tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]
"""Inputs of a model, target ids (B, T), weights (B, T)."""


def exit_logits(
    model: Any,
    inputs: dict[str, torch.Tensor],
    picked: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Float32 logits (N, V) of every exit, for the N positions that ``picked`` (B, T) names.

    Another output ``head`` than the model's own may take the states (N, D).
    """
    exits = exits_of(model.config)
    inner = model.model
    out = inner(**inputs, output_hidden_states=len(exits) > 1)
    states = [inner.norm(out.hidden_states[layers][picked]) for layers in exits[:-1]]  # (N, D); layer 0: embeddings
    states.append(out.last_hidden_state[picked])  # has passed the norm
    return [(head or model.lm_head)(state).float() for state in states]


def packed(texts: Sequence[Text], device: torch.device | str = "cpu") -> Batch:
    """Texts with a common beginning as one row: inputs, target ids (1, T) and weights (1, T)."""
    row = PackedTexts.of(texts, device)
    seen, tokens = row.seen, row.tokens[None]
    mask = torch.zeros(seen.shape, device=device).masked_fill(~seen, float("-inf"))[None, None]  # (1, 1, T, T)
    inputs = {"input_ids": tokens, "position_ids": row.positions[None], "attention_mask": mask}
    return inputs, tokens.roll(-1, dims=1), row.weights[None]
