"""The keys that each token of a pass attends to, as places in the pool; attention in place reads them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .segment import Segment


@dataclass(frozen=True, slots=True, eq=False)
class TokenKeys:
    """For T tokens two runs each in one array of slots: the context, and the token with its ancestors in the pass."""

    slots: NDArray[np.int64]
    runs: NDArray[np.int32]
    """(4, T): start and length of the context, start and length of the other run."""

    @classmethod
    def of(cls, spans: Sequence[Segment]) -> TokenKeys:
        """For the tokens of all spans, one span after another."""
        parts: list[NDArray[np.int64]] = []
        runs: list[NDArray[np.int32]] = []
        end = 0
        for span in spans:
            before, new = len(span.context), len(span.tokens)
            run = np.empty((4, new), dtype=np.int32)
            run[0], run[1], run[2], run[3] = end, before, end + before, np.arange(1, new + 1)
            parts += (span.context, span.slots)
            end += before + new
            if not span.is_chain:
                seen = span.visible()  # (n, n)
                lengths = seen.sum(axis=1)
                run[2], run[3] = end + np.cumsum(lengths) - lengths, lengths
                parts.append(span.slots[np.nonzero(seen)[1]])
                end += int(lengths.sum())
            runs.append(run)
        return cls(np.concatenate(parts), np.ascontiguousarray(np.concatenate(runs, axis=1)))

    @classmethod
    def join(cls, parts: Sequence[TokenKeys]) -> TokenKeys:
        """For the tokens of several passes, one after another."""
        runs = [part.runs.copy() for part in parts]
        start = 0
        for part, own in zip(parts, runs, strict=True):
            own[0] += start
            own[2] += start
            start += len(part.slots)
        return cls(np.concatenate([part.slots for part in parts]), np.ascontiguousarray(np.concatenate(runs, axis=1)))
