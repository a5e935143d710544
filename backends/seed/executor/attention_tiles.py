"""The tiles of a pass for attention on a GPU: which queries attend to which run of keys, as one table of integers.

A tile has a few queries and at most :data:`KEYS` keys. The keys of a stretch that several segments share
(:mod:`.shared_runs`) make tiles for the queries of all of them; the rest of a segment's context and its new tokens
make tiles for its own queries. A query sees all keys of the context in its tiles, and of its segment's new tokens
those that its bits name: its ancestors and itself.

:mod:`..kernels.attention_table` describes the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.attention_table import FIELDS, AttentionTiles
from .segment import Segment
from .shared_runs import shared_runs

KEYS = 256
"""The most keys of a tile; the same for all passes, so that a row's sums are cut alike in each of them."""
UNSEEN = 1 << 30
"""More keys than a tile has."""

Integers = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class _TileSource:
    """Queries, and a run of keys that all of them attend to."""

    tokens: NDArray[np.int64]
    keys: NDArray[np.int64]
    position: int
    """Of the first key."""
    segment: Segment | None = None
    """Whose new tokens are the queries, and the last keys."""

    def tiles(self, most: int) -> Iterator[tuple[int, int, int, int, int]]:
        """First and last query, first and last key of each tile, and the keys before the first new token."""
        count, size = len(self.tokens), len(self.keys)
        before = UNSEEN if self.segment is None else size - count
        for first in range(0, count, most):
            last = min(first + most, count)
            whole = self.segment is None or self.segment.mutual
            end = size if whole else before + last  # ancestors stand before their descendants
            for key in range(0, end, KEYS):
                yield first, last, key, min(key + KEYS, end), before - key


class TileLayout:
    """The tiles of segments whose tokens stand one segment after another, on the host."""

    def __init__(self, spans: Sequence[Segment], queries: int, window: int | None = None) -> None:
        """Tiles of at most so many ``queries``.

        ``window``: the longest of all layers, where all have one; keys that no query sees then have no tiles.
        """
        self.spans = spans
        self._queries = queries
        starts = np.cumsum([0, *(len(span.tokens) for span in spans)])
        self.tokens = int(starts[-1])
        """New tokens of all segments."""
        self._tiles: list[tuple[int, ...]] = []
        held: list[NDArray[np.int64]] = []  # tokens of the rows of each tile
        bits: list[Integers] = []
        rows = query = key = word = 0
        parts = list(_parts(spans, starts, window))
        for part in parts:
            size = len(part.tokens)
            words = 0 if part.segment is None else -(-size // 32)
            first_token = int(part.tokens[0])
            for first, last, begin, end, before in part.tiles(queries):
                record = (query + first, last - first, key + begin, end - begin, part.position + begin)
                self._tiles.append((*record, before, first_token, rows, word + first * words, words))
                held.append(part.tokens[first:last])
                rows += last - first
            if part.segment is not None:
                bits.append(_bits(part.segment, words))
                word += size * words
            query, key = query + size, key + len(part.keys)
        self._by_token = _joined(held)  # (R,)
        self._queried = _joined([part.tokens for part in parts])
        self._keys = _joined([part.keys for part in parts])
        self._positions = _joined([len(span.context) + np.array(span.depths()) for span in spans])
        self._words = _joined(bits)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self._tiles)

    def on(
        self, device: torch.device, tokens: int | None = None, count: int | None = None, *, kernel: bool = True
    ) -> AttentionTiles:
        """The table on a device; ``tokens`` and ``count`` pad the pass to a number of tokens and of tiles."""
        tokens = self.tokens if tokens is None else tokens
        rows = len(self._by_token) if count is None else most_rows(tokens, count, self._queries)
        sections: tuple[NDArray[np.integer[Any]], ...] = (
            self._queried,
            self._keys,
            np.append(self._positions, np.zeros(tokens - self.tokens, dtype=np.int64)),
            self._words,
            np.append(0, np.cumsum(np.bincount(self._by_token, minlength=tokens))),
            np.argsort(self._by_token, kind="stable"),
            np.array(self._tiles, dtype=np.int64).ravel(),
        )
        count = self.count if count is None else count
        header = np.cumsum([8, *(len(section) for section in sections[:-1])])
        table = np.zeros(int(header[-1]) + FIELDS * count, dtype=np.int32)
        table[: len(header)] = header
        for begin, section in zip(header, sections, strict=True):
            table[begin : begin + len(section)] = section
        return AttentionTiles(
            torch.from_numpy(table).to(device), count, rows, self._queries, KEYS, kernel, int(header[1]), self._keys
        )


def most_rows(tokens: int, count: int, queries: int) -> int:
    """The most rows of partial results of a pass that is padded to so many tokens and tiles."""
    return count * min(tokens, queries)


def most_integers(tokens: int, count: int, queries: int) -> int:
    """The most integers of the table of such a pass."""
    rows = most_rows(tokens, count, queries)
    return 8 + 2 * rows + KEYS * count + tokens + -(-tokens // 32) * tokens + tokens + 1 + FIELDS * count


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """One array; an empty one of none."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays])


def _parts(spans: Sequence[Segment], starts: NDArray[np.int64], window: int | None) -> Iterator[_TileSource]:
    """What segments share, then each one's own keys."""
    runs, covered = shared_runs(spans)
    own = [np.arange(starts[place], starts[place + 1]) for place in range(len(spans))]
    for run in runs:
        members = [spans[place] for place in run.members]
        skip = _unseen(members, run.start, window)
        if run.start + skip < run.end:
            keys = members[0].context[run.start + skip : run.end]
            yield _TileSource(np.concatenate([own[place] for place in run.members]), keys, run.start + skip)
    for span, tokens, depth in zip(spans, own, covered, strict=True):
        first = depth + _unseen([span], depth, window)
        yield _TileSource(tokens, np.concatenate((span.context[first:], span.slots)), first, span)


def _unseen(spans: Sequence[Segment], position: int, window: int | None) -> int:
    """How many keys from ``position`` on are before the window of every new token, in whole tiles."""
    if window is None:
        return 0
    return max(0, min(len(span.context) for span in spans) - window + 1 - position) // KEYS * KEYS


def _bits(span: Segment, words: int) -> Integers:
    """(n * words,) bits of what each new token sees of the others, the lowest bit of a word first."""
    seen = np.zeros((len(span.tokens), 32 * words), dtype=np.bool_)
    seen[:, : len(span.tokens)] = span.visible()
    return np.packbits(seen, axis=1, bitorder="little").view("<i4").ravel()
