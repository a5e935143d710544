"""Attention calls of one pass for layers with a sliding window: keys outside the window are neither read nor seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..kv_cache.window_rows import WindowRows
from .attention_call import AttentionCall, make_call
from .segment import Segment


class WindowCalls:
    """The calls of a pass for each window that its layers have, made when the first such layer asks for them.

    A call has the segments of the pass's own call, in the same order and padded to the same number of tokens, so that
    queries are laid out once for all layers. No prefix is shared in them: a window cuts it at another place for each
    segment.
    """

    def __init__(
        self,
        buckets: Sequence[Sequence[Segment]],
        dtype: torch.dtype,
        device: torch.device,
        rows: WindowRows | None = None,
    ) -> None:
        """``buckets`` holds the segments of each call; ``rows`` has the keys, if they are not in slots."""
        self._buckets, self._dtype, self._device, self._rows = buckets, dtype, device, rows
        self._end = max(len(span.context) + max(span.depths()) + 1 for spans in buckets for span in spans)
        """Tokens of the longest text of the pass, along one path of its tree."""
        self._known: dict[int, list[AttentionCall]] = {}

    def by_row(self, windows: WindowRows) -> WindowCalls:
        """The same calls by the rows of their keys."""
        return WindowCalls(self._buckets, self._dtype, self._device, windows)

    def of(self, window: int | None) -> list[AttentionCall] | None:
        """The calls for a window; None where no text of the pass is longer, and its own calls are right."""
        if window is None or self._end <= window:
            return None
        if window not in self._known:
            calls = [
                make_call(
                    spans,
                    [max(0, len(span.context) - window + 1) for span in spans],  # what the first token does not see
                    self._dtype,
                    self._device,
                    window,
                )
                for spans in self._buckets
            ]
            rows = self._rows
            self._known[window] = calls if rows is None else [call.by_row(rows) for call in calls]
        return self._known[window]
