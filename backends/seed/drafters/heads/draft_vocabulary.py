"""Logits of a reduced draft vocabulary among those of the target's. R rows, W draft vocabulary, V the target's."""

from __future__ import annotations

import math

import torch


class DraftVocabulary:
    """Which tokens of the target can be drafted."""

    def __init__(self, ids: torch.Tensor, vocabulary: int) -> None:
        """``ids`` (W,) of the draft tokens among the ``vocabulary`` of the target, on the head's device."""
        whole = len(ids) == vocabulary and bool((ids.cpu() == torch.arange(vocabulary)).all())
        self._ids = None if whole else ids
        self._vocabulary = vocabulary
        self._wide: torch.Tensor | None = None
        """(most R so far, V), of which other tokens are never written."""

    def widened(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (R, V) from (R, W); minus infinity where a token cannot be drafted. Valid until the next call."""
        if self._ids is None:
            return logits
        if self._wide is None or len(self._wide) < len(logits):
            self._wide = logits.new_full((len(logits), self._vocabulary), -math.inf)
        return self._wide[: len(logits)].index_copy_(1, self._ids, logits)
