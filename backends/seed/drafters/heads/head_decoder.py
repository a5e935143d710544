"""What computes the passes of a head, whatever its layers are made of.

T pairs of a pass, R wanted ones, N states that are read from the target, E hidden size, V vocabulary of the target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ...executor.forward_batch import ForwardBatch
from ...kv_cache.pool import SlotPool


class HeadDecoder(ABC):
    """A head's weights, as passes read them."""

    parameters: int
    kinds: Sequence[tuple[int, int]]
    """Key-value heads and their dimension, by layer."""
    width: int
    """E."""
    states = 1
    """States (E,) that are kept of a token."""
    shape: str
    """Of its weights, in words."""

    @abstractmethod
    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """The state (..., E) that is kept of a token, from the states (..., N) of the target's layers side by side."""


class PairDecoder(HeadDecoder):
    """Of a head that reads pairs."""

    in_place = False
    """Whether attention reads keys and values where they lie."""

    @abstractmethod
    def through(self, embedded: torch.Tensor, hidden: torch.Tensor, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """The output (T, E) for the pairs of a pass, embeddings and states (T, E), which may be overwritten.

        It is the next pairs' state.
        """

    @abstractmethod
    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (R, V) of an output (R, E); minus infinity where a token cannot be drafted."""
