"""One call of the attention kernel over the private keys of several segments, padded to the largest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..kv_cache.window_rows import WindowRows
from .segment import Segment


@dataclass(slots=True, eq=False)
class AttentionCall:
    """B segments of up to n tokens with up to K private keys."""

    shape: tuple[int, int, int]
    """B, n, K."""
    mask: torch.Tensor | None
    """(B, 1, n, K) added to the scores: 0 or minus infinity; None where token i sees the first i + 1 keys."""
    slots: torch.Tensor
    """(B * K) slots of the keys."""
    folded: dict[int, torch.Tensor] = field(default_factory=dict)

    def keys(self, entries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, h, K, D) each, gathered from the ``entries`` (slots, 2, h, D) of a layer."""
        count, _, most = self.shape
        held = entries.index_select(0, self.slots).view(count, most, *entries.shape[1:])
        return held[:, :, 0].transpose(1, 2), held[:, :, 1].transpose(1, 2)

    def by_row(self, windows: WindowRows) -> AttentionCall:
        """The same call for layers with windows, by the rows of its keys."""
        return replace(self, slots=windows.rows(self.slots))

    def fold(self, group: int) -> torch.Tensor | None:
        """The mask for ``group`` query heads per key head, folded into the token axis: (B, 1, n * group, K)."""
        if group == 1 or self.mask is None or self.mask.shape[2] == 1:
            return self.mask  # broadcast over the heads
        if group not in self.folded:
            self.folded[group] = self.mask.repeat_interleave(group, dim=2)
        return self.folded[group]


def make_call(
    spans: Sequence[Segment],
    depths: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    window: int | None = None,
) -> AttentionCall:
    """A call for segments; the first ``depths`` keys of each are attended to elsewhere, or outside the ``window``."""
    n = max(len(span.tokens) for span in spans)
    most = max(private_keys(span, depth) for span, depth in zip(spans, depths, strict=True))
    keys = np.empty((len(spans), most), dtype=np.int64)
    for row, (span, depth) in enumerate(zip(spans, depths, strict=True)):
        own = len(span.context) - depth
        end = own + len(span.tokens)
        keys[row, :own], keys[row, own:end], keys[row, end:] = span.context[depth:], span.slots, span.slots[0]
    causal = 1 < n <= (window or n) and all(
        len(span.context) == depth and span.parents is None and not span.mutual
        for span, depth in zip(spans, depths, strict=True)
    )
    mask = None if causal else call_mask(spans, depths, n, most, window).to(device=device, dtype=dtype)
    return AttentionCall((len(spans), n, most), mask, torch.from_numpy(keys.ravel()).to(device))


def call_mask(
    spans: Sequence[Segment], depths: Sequence[int], n: int, most: int, window: int | None = None
) -> torch.Tensor:
    """Additive mask (B, 1, n, K) over the private keys of each segment: 0 or minus infinity, in float32."""
    before = np.array([len(span.context) - depth for span, depth in zip(spans, depths, strict=True)])  # (B,)
    seen: NDArray[np.bool_] = np.arange(most) <= before[:, None]  # (B, K): the context, and the first new token
    if n > 1:
        seen = np.repeat(seen[:, None], n, axis=1)
        for row, span in enumerate(spans):
            new, start = len(span.tokens), before[row]
            if new > 1:  # padded rows see the first new token
                seen[row, :new, start : start + new] = span.visible()
            if window is not None:  # padded rows keep what they see
                levels = np.array(span.depths())  # (new,)
                ahead = np.concatenate((np.arange(-start, 0), levels))  # distance of each key from the context's end
                seen[row, :new, : start + new] &= ahead > levels[:, None] - window
    mask = np.where(seen, np.float32(0), np.float32(-np.inf))
    return torch.from_numpy(mask).view(len(spans), 1, n, most)


def private_keys(span: Segment, depth: int) -> int:
    """Keys that the segment attends to after the first ``depth``."""
    return len(span.context) - depth + len(span.tokens)
