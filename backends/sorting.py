"""Sorted drafts: one model with several exits, each of which drafts by itself (S2D, Kavehzadeh et al., 2407.01955).

The exits stand in the model's configuration as ``exits``, numbers of layers in ascending order, the last one being all
of them. All exits share the final norm and the output head.
"""

from __future__ import annotations

from typing import Any

import torch


def exits_of(config: Any) -> tuple[int, ...]:
    """Layers after which a model can be left; all of them alone when its configuration names none."""
    return tuple(getattr(config, "exits", None) or (config.num_hidden_layers,))


def exit_logits(model: Any, inputs: dict[str, torch.Tensor], picked: torch.Tensor) -> list[torch.Tensor]:
    """Float32 logits (N, V) of every exit, for the N positions that ``picked`` (B, T) names.

    Trained on the mean of the exits' losses (SoFT, the paper's equation 2), every exit becomes a draft of its own.
    """
    exits = exits_of(model.config)
    inner = model.model
    out = inner(**inputs, output_hidden_states=len(exits) > 1)
    states = [inner.norm(out.hidden_states[layers][picked]) for layers in exits[:-1]]  # (N, D); layer 0: embeddings
    states.append(out.last_hidden_state[picked])  # has passed the norm
    return [model.lm_head(state).float() for state in states]
