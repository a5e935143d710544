"""Passes of a few fixed sizes: the tokens and tiles of a pass are padded to the next size, so that a graph fits.

A token of the padding belongs to no text: its keys and values go to a slot of their own that no other token sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from .attention_tiles import KEYS, TileLayout
from .forward_batch import ForwardBatch, as_they_come, work_of
from .segment import Segment

TOKENS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
TILES = (2, 5, 17)
"""Tiles for each token: one for every 256 keys of its text, and one more as its shared beginning ends anywhere."""
MOST_TILES = 640
"""Tiles of the largest envelope."""
FEW_WANTED = 4
"""Passes of which less than one in so many tokens has its logits wanted are prompts; they run without a graph."""


@dataclass(frozen=True, slots=True, order=True)
class Envelope:
    """The size of a padded pass."""

    tokens: int
    tiles: int


class EnvelopeSizes:
    """The envelopes that there are graphs for."""

    def __init__(self, context: int | None, envelopes: Iterable[Envelope] | None = None) -> None:
        """Those for a ``context`` of so many tokens, unless others are given."""
        self.every = tuple(sorted(standard_envelopes(context) if envelopes is None else envelopes))
        self._each = 0.0
        """Tiles of the last pass for each of its tokens."""

    def may_hold(self, spans: Sequence[Segment]) -> bool:
        """Whether a pass is no prompt, of which few logits are wanted, and has no more tokens than the largest."""
        tokens, wanted = sum(len(span.tokens) for span in spans), sum(len(span.wanted) for span in spans)
        return bool(self.every) and tokens <= self.every[-1].tokens and (not wanted or tokens <= FEW_WANTED * wanted)

    def find(self, tokens: int, tiles: int) -> Envelope | None:
        """The least envelope that holds a pass; None for larger passes."""
        found = self._least(tokens, tiles)
        if found is not None:
            self._each = tiles / tokens
        return found

    def padded(self, tokens: int) -> int:
        """Tokens that a pass over so many will have, with as many tiles for each as the last one has."""
        found = self._least(tokens, self._each * tokens)
        return tokens if found is None else found.tokens

    def _least(self, tokens: int, tiles: float) -> Envelope | None:
        return next((each for each in self.every if each.tokens >= tokens and each.tiles >= tiles), None)


def standard_envelopes(context: int | None) -> Iterator[Envelope]:
    """All sizes up to the ``context``."""
    for place, each in enumerate(TILES):
        if place and context is not None and KEYS * (TILES[place - 1] - 1) >= context:
            return
        for tokens in TOKENS:
            if tokens * each <= MOST_TILES:
                yield Envelope(tokens, tokens * each)


def padded_batch(
    layout: TileLayout, envelope: Envelope, scratch: int, device: torch.device, *, kernel: bool
) -> ForwardBatch:
    """A pass in an envelope that holds it; ``scratch`` is the slot of the padding."""
    spans = layout.spans
    tiles = layout.on(device, envelope.tokens, envelope.tiles, kernel=kernel)
    return replace(as_they_come(spans, device, work_of(spans), envelope.tokens, scratch), tiles=tiles)
