"""Several decoding steps in one call of a kernel (multi-step scheduling, as in vLLM): what Python does for a pass is
done once for several.

Rows are those whose tokens nothing decides on but the model, the temperature and the keyed noise. R rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..kernels.structures import CSteps
from ..kv_cache.pool import Slots
from .pass_work import PassWork


class EndTokens:
    """Sequences of tokens after which a text most likely takes no more; steps stop there."""

    def __init__(self, single: Iterable[int], longer: Iterable[Sequence[int]] = ()) -> None:
        self.flat = array("q")
        """One after another, each with its length before it."""
        self.longest = 1
        """Tokens of the longest one."""
        for tokens in (*((token,) for token in single), *longer):
            if tokens:
                self.flat.extend((len(tokens), *tokens))
                self.longest = max(self.longest, len(tokens))


@dataclass(frozen=True, slots=True, eq=False)
class StepRow:
    """A text that takes several tokens."""

    tokens: Sequence[int]
    """So far; the last one is computed in the first step."""
    context: Slots
    """Slots of all but the last one."""
    slots: Slots
    """For the last one and those that follow, as many as it takes tokens."""
    temperature: float
    """0 or above; nothing is cut."""
    stream: int
    position: int
    """Of the noise of the next token."""
    ends: EndTokens


class StepTokens(NamedTuple):
    """What a row drew."""

    tokens: list[int]
    """Fewer than it has slots where it ended, or the last draw is left to the host."""
    logprobs: list[float]
    """Their natural-log probabilities, untempered."""


@dataclass(frozen=True, slots=True, eq=False)
class StepOutput:
    """What the steps gave."""

    rows: list[StepTokens]
    passes: int
    work: PassWork
    """Of a pass, in the mean."""
    settled: bool
    """Whether no draw is left to the host, as the logits are not finite or two sums too close."""


class StepArrays:
    """Rows as the kernel reads them, and what it writes."""

    def __init__(self, rows: Sequence[StepRow]) -> None:
        count, self._most = len(rows), max([len(row.slots) for row in rows])
        self._lengths, limits = [len(row.context) for row in rows], [len(row.slots) for row in rows]
        self.positions = max([before + new for before, new in zip(self._lengths, limits, strict=True)])
        """One more than the last position of a token."""
        self.keys = np.concatenate([part for row in rows for part in (row.context, row.slots)])
        """The slots of all rows."""
        self._integers = np.array((limits, self._lengths, limits, [row.position for row in rows]), dtype=np.int32)
        sizes = self._integers[1] + self._integers[2]
        self._integers[0] = np.cumsum(sizes) - sizes
        self._tail = max(1, *[row.ends.longest - 1 for row in rows])
        self._tokens = np.full((count, self._tail + self._most), -1, dtype=np.int64)
        self._ends, self._end_at = array("q"), array("i", [0])
        for place, row in enumerate(rows):
            known = row.tokens[-self._tail :]
            self._tokens[place, self._tail - len(known) : self._tail] = known
            self._ends.extend(row.ends.flat)
            self._end_at.append(len(self._ends))
        self._temperatures = array("d", [row.temperature for row in rows])
        self._streams = array("Q", [row.stream for row in rows])
        self._logarithms, self._counts = np.empty((count, self._most)), np.zeros(count, dtype=np.int32)

    def steps(self, embeddings: torch.Tensor, angles: torch.Tensor) -> CSteps:
        """With embeddings (V, E), and cosines and sines (P, 2, 1, D). Valid as long as these and the arrays."""
        integers, stride = self._integers.ctypes.data, self._integers.strides[0]
        return CSteps(
            rows=len(self._counts),
            most=self._most,
            tail=self._tail,
            angle_bytes=angles.stride(1) * angles.element_size(),
            embeddings=embeddings.data_ptr(),
            angles=angles.data_ptr(),
            **{name: integers + i * stride for i, name in enumerate(("start", "context", "limit", "position"))},
            temperature=self._temperatures.buffer_info()[0],
            stream=self._streams.buffer_info()[0],
            ends=self._ends.buffer_info()[0],
            end_at=self._end_at.buffer_info()[0],
            tokens=self._tokens.ctypes.data,
            logarithms=self._logarithms.ctypes.data,
            counts=self._counts.ctypes.data,
        )

    def output(self, *, settled: bool) -> StepOutput:
        """What the kernel has written; ``settled`` as in :class:`StepOutput`."""
        counts: list[int] = self._counts.tolist()
        parts = zip(self._tokens[:, self._tail :].tolist(), self._logarithms.tolist(), counts, strict=True)
        rows = [StepTokens(tokens[:count], logprobs[:count]) for tokens, logprobs, count in parts]
        passes = max(1, *counts)
        return StepOutput(rows, passes, _mean_work(self._lengths, counts, passes), settled)


def _mean_work(lengths: Sequence[int], taken: Sequence[int], passes: int) -> PassWork:
    """The mean of the passes in which rows with so many tokens before took so many."""
    tokens = sum(taken) / passes
    keys = sum([n * (length + (n + 1) / 2) for length, n in zip(lengths, taken, strict=True)]) / passes
    return PassWork(tokens, tokens, tokens, private=keys, pairs=keys)
