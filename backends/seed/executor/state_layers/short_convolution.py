"""Gated short convolutions of LFM2 (Liquid AI, arXiv 2511.23404): their state is the tail of the convolution alone.

T new tokens, E hidden size.
"""

from __future__ import annotations

from typing import Any

import torch

from ..tree_attention import AttentionContext
from .base import StateLayer
from .convolution import CausalConvolution


class ShortConvolution(StateLayer):
    """A layer of transformers, run over packed segments."""

    networks = frozenset({"Lfm2ForCausalLM", "Lfm2MoeForCausalLM"})
    attribute = "conv"
    kind = "conv"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.layer = layer
        self._convolution = CausalConvolution(layer.conv)

    @staticmethod
    def matrices(_layer: Any) -> None:
        """See :class:`StateLayer`."""
        return

    def forward(self, hidden_states: torch.Tensor, *, forest: AttentionContext, **_others: Any) -> torch.Tensor:
        """``hidden_states`` (1, T, E); result (1, T, E)."""
        layer, states = self.layer, forest.states
        assert states is not None  # noqa: S101  # made for models with such layers
        before, after, new = layer.in_proj(hidden_states)[0].chunk(3, dim=-1)  # (T, E) each
        convolved = self._convolution(before * new, states, layer.layer_idx)
        result: torch.Tensor = layer.out_proj(after * convolved)[None]
        return result
