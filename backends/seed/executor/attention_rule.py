"""How one layer attends: the scale of its scores, and its sliding window, soft cap and sinks, if it has any."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class AttentionRule:
    """The parameters of a layer's attention; H query heads."""

    scale: float
    """Factor of the products of queries and keys."""
    window: int | None = None
    """A token attends to itself and the ``window - 1`` tokens before it; None: to all before it."""
    softcap: float | None = None
    """Scores ``s`` become ``softcap * tanh(s / softcap)``, as in Gemma 2."""
    sinks: torch.Tensor | None = None
    """(H,) a further score of each head that takes a share of its weight and has no value, as in GPT-OSS."""
