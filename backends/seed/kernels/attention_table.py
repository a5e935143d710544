"""The table of a pass for attention on a GPU: integers that say which queries attend to which run of keys.

It is one array of 32-bit integers, so that a pass needs one copy to the device, and a graph that was captured over a
larger table needs its contents changed alone: what follows the last tile is zeros, which are tiles without queries.
The first integers say where each section begins:

0. ``queries``: tokens of the pass, in the order of the tiles' queries
1. ``keys``: slots of the pool, in the order of the tiles' keys
2. ``positions``: of each token of the pass in its text
3. ``bits``: for each query of a segment of n tokens ``ceil(n / 32)`` words, whose bit i is 1 where it sees the token i
4. ``starts``: for each token of the pass the first place of its own in ``rows``, and one more, the end
5. ``rows``: rows of partial results, those of one token after another
6. ``tiles``: :data:`FIELDS` integers each

The integers of a tile: first query, and their number; first key, their number, and the position of the first; number
of keys before the segment's first new token, and that token; first row of partial results; first word of bits, and
words of a query. A query's row is the first one plus the query's place in the tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

FIELDS = 10
"""Integers of a tile."""
TILES = 6
"""Where the table says where its tiles begin."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionTiles:
    """The tiles of a pass."""

    tables: torch.Tensor
    """Integers on the device, as the module describes them."""
    count: int
    """Tiles, those without queries included."""
    rows: int
    """Rows of partial results: one for each query of each tile."""
    queries: int
    """The most queries of a tile."""
    keys: int
    """The most keys of a tile."""
    kernel: bool = True
    """Whether the kernel in Triton computes them; if not, plain operations of torch do."""
    keys_at: int = 0
    """Where the section ``keys`` begins."""
    slots: NDArray[np.int64] | None = None
    """What stands in it, on the host."""

    def over(self, keys: NDArray[np.int64]) -> AttentionTiles:
        """The same tiles over other memory, where the tokens in :attr:`slots` (n,) are stored under ``keys`` (n,)."""
        tables = self.tables.clone()
        tables[self.keys_at : self.keys_at + len(keys)] = torch.from_numpy(keys).to(tables)
        return replace(self, tables=tables, slots=keys)
