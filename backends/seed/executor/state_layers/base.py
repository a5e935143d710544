"""What a kind of layer with a state says of itself.

The state after a token has two parts: the last inputs of a short convolution, its tail, which every kind has, and, of
kinds with a recurrence, one matrix per head. The store keeps both, a pass computes both for chains and trees; a kind
gives their shapes, the numbers that tokens bring, and how outputs and states follow from them.
T new tokens, B pieces of n tokens, H heads, d and v the dimensions of keys and values, C channels, K width of the
convolution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from ...kv_cache.state_store import Shape
from ..state_pieces import PieceGroup


class PieceStates(Protocol):
    """What the matrix states after the tokens of a group of pieces follow from."""

    def states(self, before: torch.Tensor, pieces: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The states (M, H, d, v) after one token each of M pieces, from those ``before`` the pieces (M, H, d, v)."""


class Recurrence(Protocol):
    """The numbers that all tokens of a pass bring to the matrix states of a layer."""

    def over(self, group: PieceGroup, before: torch.Tensor) -> tuple[torch.Tensor, PieceStates]:
        """Outputs (B, n, H, v) of the tokens of a group after the states ``before`` (B, H, d, v), and their states."""


class StateLayer(nn.Module, ABC):
    """A layer of transformers, run over packed segments: its forward takes (1, T, E) and the keyword ``forest``.

    The forward calls :class:`.convolution.CausalConvolution`, and with a recurrence ``forest.states.run``.
    """

    networks: ClassVar[frozenset[str]]
    """Classes of networks of transformers with such layers."""
    attribute: ClassVar[str]
    """What a decoder layer calls it; absent or None in those that attend."""
    kind: ClassVar[str]
    """Its name among ``layer_types`` of the configuration."""

    @abstractmethod
    def __init__(self, layer: Any) -> None:
        """``layer`` of transformers."""
        super().__init__()

    @staticmethod
    def tail(layer: Any) -> Shape:
        """The part (K - 1, C) of the state of a layer of transformers: the last inputs of its convolution."""
        weight = (layer.conv if hasattr(layer, "conv") else layer.conv1d).weight  # (C, 1, K)
        return (weight.shape[2] - 1, weight.shape[0]), weight.dtype

    @staticmethod
    @abstractmethod
    def matrices(layer: Any) -> Shape | None:
        """The part (H, d, v) of the state of a layer of transformers; None for a kind without a recurrence."""
