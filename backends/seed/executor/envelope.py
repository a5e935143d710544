"""Passes of a few fixed sizes: the tokens and keys of a pass are padded to the next size, so that a graph fits.

A token of the padding belongs to no text: its keys and values go to a slot of their own that no other token sees.
T tokens of the envelope, K keys of each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .forward_batch import ForwardBatch
from .pass_work import PassWork
from .segment import Segment
from .token_table import TokenTable

TOKENS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
KEYS = (256, 1024, 4096)
MOST_PAIRS = 2**17
"""Tokens times keys of the largest envelope: every token's keys are gathered for it alone."""
FEW_WANTED = 4
"""Passes of which less than one in so many tokens has its logits wanted are prompts; they run without a graph."""


@dataclass(frozen=True, slots=True, order=True)
class Envelope:
    """The size of a padded pass."""

    tokens: int
    keys: int


class EnvelopeSizes:
    """The envelopes that there are graphs for."""

    def __init__(self, context: int | None, envelopes: Iterable[Envelope] | None = None) -> None:
        """Those for a ``context`` of so many tokens, unless others are given."""
        self.every = tuple(sorted(standard_envelopes(context) if envelopes is None else envelopes))
        self._tokens: dict[int, list[int]] = {}
        for envelope in self.every:
            self._tokens.setdefault(envelope.keys, []).append(envelope.tokens)
        self._keys = sorted(self._tokens)
        self._last = self._keys[0] if self._keys else 0
        """Keys of the last pass's envelope."""

    def find(self, spans: Sequence[Segment]) -> Envelope | None:
        """The least envelope that holds a pass; None for larger passes, and for prompts."""
        tokens = sum(len(span.tokens) for span in spans)
        keys = max(len(span.context) + len(span.tokens) for span in spans)
        wanted = sum(len(span.wanted) for span in spans)
        if wanted and tokens > FEW_WANTED * wanted:
            return None
        for size in self._keys[bisect_left(self._keys, keys) :]:
            place = bisect_left(self._tokens[size], tokens)
            if place < len(self._tokens[size]):
                self._last = size
                return Envelope(self._tokens[size][place], size)
        return None

    def padded(self, tokens: int) -> int:
        """Tokens that a pass over so many will have, with keys like those of the last one."""
        sizes = self._tokens.get(self._last, [])
        place = bisect_left(sizes, tokens)
        return sizes[place] if place < len(sizes) else tokens


def standard_envelopes(context: int | None) -> Iterator[Envelope]:
    """All sizes up to the ``context``."""
    for place, keys in enumerate(KEYS):
        if place and context is not None and KEYS[place - 1] >= context:
            return
        for tokens in TOKENS:
            if tokens * keys <= MOST_PAIRS:
                yield Envelope(tokens, keys)


def padded_batch(
    spans: Sequence[Segment], envelope: Envelope, scratch: int, dtype: torch.dtype, device: torch.device
) -> ForwardBatch:
    """A pass in an envelope that holds it; ``scratch`` is the slot of the padding."""
    size = envelope.tokens
    tokens, positions = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    slots = np.full(size, scratch, dtype=np.int64)
    wanted: list[int] = []
    rows: list[range] = []
    starts: list[int] = []
    base = 0
    for span in spans:
        end = base + len(span.tokens)
        starts.append(base)
        rows.append(range(len(wanted), len(wanted) + len(span.wanted)))
        wanted += [base + token for token in span.wanted]
        positions[base:end] = np.array(span.depths()) + len(span.context)
        tokens[base:end], slots[base:end] = span.tokens, span.slots
        base = end
    return ForwardBatch(
        torch.from_numpy(tokens)[None].to(device),
        torch.from_numpy(positions)[None].to(device),
        torch.from_numpy(slots).to(device),
        torch.tensor(wanted, dtype=torch.long, device=device),
        [],
        [],
        None,
        None,
        rows,
        PassWork.of([(0, [span.size for span in spans])]),
        segments=spans,
        starts=starts,
        table=TokenTable.of(spans, envelope.tokens, envelope.keys, scratch, dtype, device),
    )
