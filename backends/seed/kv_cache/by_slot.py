"""What is kept by slot beside keys and values, of the size of the pool."""

from __future__ import annotations

import torch


def extended(kept: torch.Tensor, slots: int) -> torch.Tensor:
    """What is kept (n, ...), with zeros for further slots, so that there are as many as in the pool."""
    missing = slots - len(kept)
    return kept if missing <= 0 else torch.cat((kept, kept.new_zeros(missing, *kept.shape[1:])))
