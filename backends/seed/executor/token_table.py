"""Attention in a fixed shape: every token of a pass has a row of slots that it attends to, padded to one length.

T tokens, K keys of each, H query heads, h key-value heads, G = H / h, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .attention_rule import AttentionRule
from .segment import Segment


@dataclass(frozen=True, slots=True, eq=False)
class TokenTable:
    """What each token attends to."""

    slots: torch.Tensor
    """(T, K)"""
    bias: torch.Tensor
    """(T, K) added to the scores: 0, or minus infinity where a slot fills the row up."""

    @classmethod
    def of(
        cls, spans: Sequence[Segment], tokens: int, keys: int, scratch: int, dtype: torch.dtype, device: torch.device
    ) -> TokenTable:
        """Rows of ``keys`` for the tokens of all segments; further tokens up to ``tokens`` attend to ``scratch``.

        A row is filled up with the token's own slot, whose numbers are finite where any are.
        """
        slots = np.full((tokens, keys), scratch, dtype=np.int64)
        counts = np.ones(tokens, dtype=np.int64)
        row = 0
        for span in spans:
            before, new = len(span.context), len(span.tokens)
            slots[row : row + new] = span.slots[:, None]
            slots[row : row + new, :before] = span.context
            for seen in span.visible():
                own = span.slots[seen]
                slots[row, before : before + len(own)] = own
                counts[row] = before + len(own)
                row += 1
        bias = np.where(np.arange(keys) < counts[:, None], np.float32(0), np.float32(-np.inf))
        return cls(torch.from_numpy(slots).to(device), torch.from_numpy(bias).to(device, dtype))

    def attend(self, query: torch.Tensor, entries: torch.Tensor, rule: AttentionRule) -> torch.Tensor:
        """Attention of ``query`` (T, H, D) over the pool's ``entries`` (slots, 2, h, D); result (T, h, G, D).

        The rule's scale alone is used: layers with windows, soft caps or sinks have no tables.
        """
        tokens, keys = self.slots.shape
        heads, dim = entries.shape[2:]
        held = entries.index_select(0, self.slots.view(-1)).view(tokens, keys, 2, heads, dim)
        key, value = held[:, :, 0].transpose(1, 2), held[:, :, 1].transpose(1, 2)  # (T, h, K, D)
        scores = query.reshape(tokens, heads, -1, dim) @ key.transpose(2, 3)  # (T, h, G, K)
        scores = scores * rule.scale + self.bias[:, None, None]
        wide = scores if scores.dtype == torch.float64 else scores.float()
        return wide.softmax(dim=3).to(scores.dtype) @ value
