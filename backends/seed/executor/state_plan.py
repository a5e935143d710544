"""Which states the new tokens of a pass go on from, and which are kept.

A run of a prompt is cut into pieces of at most :data:`PIECE` tokens, each of which goes on from the state after the one
before, and so is a tree that no text goes on from, whose pieces begin after any token of a piece before: what a pass
needs grows with the number of tokens and not with its square. A draft is one piece, as the states after any of its
tokens may be asked for. Tokens of a piece see their ancestors. Pieces of one level are computed together: those of the
first go on from states of the store, those of the next from states within pieces before them in the same pass.
T new tokens, B pieces of up to n tokens, K width of the convolution, which sees a token and the K - 1 before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..kv_cache.state_store import StateStore
from .segment import Segment
from .state_pieces import PIECE, Numbers, Piece, PieceGroup, PieceLevel, Place, StatePlan, ancestors, cut_tree

SHORT = 16
"""Tokens up to which pieces are padded to one size."""


class _Planner:
    """Cuts the segments of one pass."""

    def __init__(self, store: StateStore, total: int) -> None:
        self.store, self.before, self.total = store, store.tail, total
        self.pieces: list[Piece] = []
        self.tails: dict[int, int] = {}
        self.history: Numbers = np.zeros((store.tail, total), dtype=np.int64)
        self.windows: dict[int, Numbers] = {}
        """After the last token of each segment that may be gone on from, by its slot."""
        self.last: dict[int, int] = {}
        """The piece of that token, by its slot."""
        self.followed: set[int] = set()

    def add(self, segment: Segment, start: int) -> None:
        """Cut a segment whose tokens stand from ``start`` on in the pass."""
        level, base, after, window = self._start(segment)
        count = len(segment.tokens)
        own = np.arange(start, start + count)
        if segment.parents is not None and not segment.is_chain:
            for token, parent in enumerate(segment.parents):
                above = window if parent < 0 else self._window(start + parent)
                self.history[:, start + token] = above[::-1]
            root = Piece(own, segment.parents, base, after, level, awaited=not segment.final)
            self.pieces += cut_tree(root, len(self.pieces)) if segment.final else [root]
            return
        line = np.concatenate((window, own))
        for back in range(self.before):
            self.history[back, own] = line[self.before - 1 - back : self.before - 1 - back + count]
        drafted = segment.parents is not None or (count <= PIECE and bool(segment.wanted))
        whole = drafted and not segment.final
        for first in range(0, count, count if whole else PIECE):
            if first:
                level, base, after = self._go_on(len(self.pieces) - 1)
            part = own if whole else own[first : first + PIECE]
            self.pieces.append(Piece(part, None, base, after, level, awaited=whole))
        if not whole and not segment.final:
            slot = int(segment.slots[-1])
            self.last[slot], self.windows[slot] = len(self.pieces) - 1, line[len(line) - self.before :]

    def _start(self, segment: Segment) -> tuple[int, int, int, Numbers]:
        """Level, base and token of it of a segment's first piece, and the inputs (K - 1,) before it."""
        slot = int(segment.context[-1]) if len(segment.context) else None
        row = 0 if slot is None else self.store.row(slot)
        if row is None and slot in self.last:
            self.followed.add(slot)
            return *self._go_on(self.last[slot]), self.windows[slot]
        if row is None and not self.store.assumes_zeros:
            raise RuntimeError(f"no state is kept after {len(segment.context)} tokens of a text")
        place = self.tails.setdefault(row or 0, len(self.tails))
        first = self.total + place * self.before
        return 0, row or 0, 0, np.arange(first, first + self.before)

    def _go_on(self, number: int) -> tuple[int, int, int]:
        """Level, base and token of it of a piece after the end of another one."""
        piece = self.pieces[number]
        piece.needed.add(piece.end)
        return piece.level + 1, number, piece.end

    def _window(self, token: int) -> Numbers:
        """The inputs (K - 1,) that end with a token."""
        return np.concatenate((self.history[: self.before - 1, token][::-1], [token]))

    def plan(self, segments: Sequence[Segment], starts: Sequence[int], device: torch.device) -> StatePlan:
        """The finished plan; states at the ends of runs that are read get rows."""
        # where rows are short, the ends that nothing in this pass goes on from come first
        slots = sorted(self.last, key=lambda slot: slot in self.followed)
        kept = {
            slot: row
            for slot, row in zip(slots, self.store.take(slots, set(self.tails)), strict=True)
            if row is not None
        }
        by_piece = {self.last[slot]: row for slot, row in kept.items()}
        for i in by_piece:
            self.pieces[i].needed.add(self.pieces[i].end)
        ends: dict[tuple[int, int], int] = {}
        places: dict[int, tuple[int, int, int]] = {}
        levels: list[PieceLevel] = []
        for level in range(1 + max(piece.level for piece in self.pieces)):
            groups: list[PieceGroup] = []
            mine: list[tuple[int, int]] = []
            for members in self._members(level):
                groups.append(self._group([self.pieces[i] for i in members], ends, level, device))
                places |= {i: (level, len(groups) - 1, row) for row, i in enumerate(members)}
                mine += [(i, token) for i in members for token in sorted(self.pieces[i].needed)]
            ends = {end: place for place, end in enumerate(mine)}
            recorded = [end for end in mine if end[0] in by_piece and end[1] == self.pieces[end[0]].end]
            levels.append(
                PieceLevel(
                    groups,
                    _tensor([ends[end] for end in recorded], device),
                    _tensor([by_piece[piece] for piece, _ in recorded], device),
                )
            )
        windows = [self.windows[slot] for slot in kept]
        plan = StatePlan(
            torch.from_numpy(self.history).to(device),
            _tensor(list(self.tails), device),
            levels,
            _tensor(np.concatenate(windows) if windows else [], device),
            _tensor(list(kept.values()), device),
        )
        self._await(plan, places, by_piece, segments, starts)
        return plan

    def _await(
        self,
        plan: StatePlan,
        places: dict[int, tuple[int, int, int]],
        rows: dict[int, int],
        segments: Sequence[Segment],
        starts: Sequence[int],
    ) -> None:
        """Note where the tokens of drafts stand, by slot."""
        slot_of = np.empty(self.total, dtype=np.int64)
        for segment, start in zip(segments, starts, strict=True):
            slot_of[start : start + len(segment.tokens)] = segment.slots
        slots: dict[int, int] = {}
        for i, piece in enumerate(self.pieces):
            base = piece.base if piece.level == 0 else rows.get(piece.base)
            if not piece.awaited or base is None:
                continue
            for token, place in enumerate(piece.tokens.tolist()):
                slots[int(slot_of[place])] = len(plan.places)
                plan.places.append(Place(*places[i], token, base, self._window(place)))
        self.awaited = slots

    def _members(self, level: int) -> list[list[int]]:
        """The pieces of a level by group."""
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for i, piece in enumerate(self.pieces):
            if piece.level == level:
                kinds.setdefault((piece.awaited, len(piece.tokens) <= SHORT), []).append(i)
        return list(kinds.values())

    def _group(
        self, pieces: Sequence[Piece], ends: dict[tuple[int, int], int], level: int, device: torch.device
    ) -> PieceGroup:
        sizes = np.array([len(piece.tokens) for piece in pieces])
        n = int(sizes.max())
        tokens = np.array([np.pad(piece.tokens, (0, n - len(piece.tokens)), mode="edge") for piece in pieces])
        visible = np.tri(n, dtype=np.bool_)[None]
        if any(piece.parents is not None for piece in pieces):
            visible = np.repeat(visible, len(pieces), axis=0)
            for seen, piece in zip(visible, pieces, strict=True):
                if piece.parents is not None:
                    seen[:] = ancestors(piece.parents, n)
        real = (np.arange(n) < sizes[:, None])[:, None] if (sizes < n).any() else None
        needed = [(i, token) for i, piece in enumerate(pieces) for token in sorted(piece.needed)]
        return PieceGroup(
            _tensor(tokens, device),
            None if real is None else torch.from_numpy(real).to(device),
            torch.from_numpy(visible[:, None]).to(device),
            _tensor([piece.base if level == 0 else ends[piece.base, piece.after] for piece in pieces], device),
            _tensor([i for i, _ in needed], device),
            _tensor([token for _, token in needed], device),
            any(piece.awaited for piece in pieces),
        )


def make_state_plan(
    segments: Sequence[Segment], starts: Sequence[int], store: StateStore, device: torch.device
) -> tuple[StatePlan, dict[int, int]]:
    """The plan of a pass whose segments' tokens begin at ``starts``, and the tokens of drafts by slot.

    Raises RuntimeError where a text goes on from a state that is not kept.
    """
    planner = _Planner(store, sum(len(segment.tokens) for segment in segments))
    for i in sorted(range(len(segments)), key=lambda i: len(segments[i].context)):  # what is gone on from comes first
        planner.add(segments[i], starts[i])
    plan = planner.plan(segments, starts, device)
    return plan, planner.awaited


def _tensor(numbers: Sequence[int] | Numbers, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(numbers, dtype=torch.long, device=device)
