"""Which states the new tokens of a pass go on from, and which are kept.

A run of a prompt is cut into pieces of at most :data:`PIECE` tokens, each of which goes on from the state after the one
before; a draft is one piece, whose tokens see their ancestors. Pieces of one level are computed together: those of the
first go on from states of the store, those of the next from the ends of pieces before them in the same pass.
T new tokens, B pieces of up to n tokens, K width of the convolution, which sees a token and the K - 1 before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..kv_cache.state_store import StateStore
from .segment import Segment

PIECE, SHORT = 64, 16
"""The most tokens of a piece of a prompt, and those up to which pieces are padded to one size."""

Numbers = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Piece:
    """A run or a small tree of tokens after one state."""

    tokens: Numbers
    """(n,) their places in the pass."""
    parents: Sequence[int] | None
    """As those of a segment."""
    base: int
    """Row of the state before it, or, on a later level, the piece before it."""
    level: int
    awaited: bool
    """Whether the states after its tokens may be asked for after the pass."""
    ends: bool = False
    """Whether the state after its last token is needed."""


@dataclass(slots=True, eq=False)
class PieceGroup:
    """B pieces of a level, padded to n tokens."""

    tokens: torch.Tensor
    """(B, n)"""
    real: torch.Tensor | None
    """(B, 1, n) 1 for tokens, 0 for padding; None without padding."""
    visible: torch.Tensor
    """(B or 1, 1, n, n) True where a token sees another one: its ancestors and itself."""
    base: torch.Tensor
    """(B,) rows of the store or, on a later level, places among the ends of the level before."""
    ends: torch.Tensor
    """(M,) pieces whose last states are needed."""
    last: torch.Tensor
    """(M,) their last tokens."""
    awaited: bool


@dataclass(slots=True, eq=False)
class PieceLevel:
    """Groups that are computed one after another, and the rows in which some of their ends are kept."""

    groups: list[PieceGroup]
    ends: torch.Tensor
    """(N,) places among the ends of the level."""
    rows: torch.Tensor
    """(N,)"""


@dataclass(slots=True, eq=False)
class Place:
    """Where a token stands whose state may be asked for."""

    level: int
    group: int
    piece: int
    token: int
    base: int
    """Row of the state before its piece."""
    window: Numbers
    """(K - 1,) rows of the convolution's input: the token and those before it."""


@dataclass(slots=True, eq=False)
class StatePlan:
    """The pieces of a pass."""

    history: torch.Tensor
    """(K - 1, T) for each token the one before it, the one before that ..., as rows of the convolution's input: the T
    new tokens, then K - 1 inputs of each of ``tails``."""
    tails: torch.Tensor
    """(R,) rows of the store that pieces go on from."""
    levels: list[PieceLevel]
    kept_windows: torch.Tensor
    """(N * (K - 1)) rows of the convolution's input, of all states that are kept at once."""
    kept_rows: torch.Tensor
    """(N,)"""
    places: list[Place] = field(default_factory=list)
    """Of the tokens whose states may be asked for after the pass."""


class _Planner:
    """Cuts the segments of one pass."""

    def __init__(self, store: StateStore, kernel: int, total: int) -> None:
        self.store, self.before, self.total = store, kernel - 1, total
        self.pieces: list[Piece] = []
        self.tails: dict[int, int] = {}
        self.history: Numbers = np.zeros((kernel - 1, total), dtype=np.int64)
        self.windows: dict[int, Numbers] = {}
        """After the last token of each segment that may be gone on from, by its slot."""
        self.last: dict[int, int] = {}
        """The piece of that token, by its slot."""
        self.followed: set[int] = set()

    def add(self, segment: Segment, start: int) -> None:
        """Cut a segment whose tokens stand from ``start`` on in the pass."""
        level, base, window = self._start(segment)
        count = len(segment.tokens)
        own = np.arange(start, start + count)
        if segment.parents is not None and not segment.is_chain:
            parents = list(segment.parents)
            for token, parent in enumerate(parents):
                above = window if parent < 0 else self._window(start + parent)
                self.history[:, start + token] = above[::-1]
            self.pieces.append(Piece(own, parents, base, level, awaited=True))
            return
        line = np.concatenate((window, own))
        for back in range(self.before):
            self.history[back, own] = line[self.before - 1 - back : self.before - 1 - back + count]
        whole = segment.parents is not None or (count <= PIECE and bool(segment.wanted))
        for first in range(0, count, count if whole else PIECE):
            if first:
                self.pieces[-1].ends = True
                level, base = level + 1, len(self.pieces) - 1
            part = own if whole else own[first : first + PIECE]
            self.pieces.append(Piece(part, None, base, level, awaited=whole))
        if not whole:
            slot = int(segment.slots[-1])
            self.last[slot], self.windows[slot] = len(self.pieces) - 1, line[len(line) - self.before :]

    def _start(self, segment: Segment) -> tuple[int, int, Numbers]:
        """Level and base of a segment's first piece, and the inputs (K - 1,) before it."""
        slot = int(segment.context[-1]) if len(segment.context) else None
        row = 0 if slot is None else self.store.row(slot)
        if row is None and slot in self.last:
            piece = self.last[slot]
            self.pieces[piece].ends = True
            self.followed.add(slot)
            return self.pieces[piece].level + 1, piece, self.windows[slot]
        if row is None and not self.store.assumes_zeros:
            raise RuntimeError(f"no state is kept after {len(segment.context)} tokens of a text")
        place = self.tails.setdefault(row or 0, len(self.tails))
        first = self.total + place * self.before
        return 0, row or 0, np.arange(first, first + self.before)

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
        for slot in kept:
            self.pieces[self.last[slot]].ends = True
        ends: dict[int, int] = {}
        places: dict[int, tuple[int, int, int]] = {}
        levels: list[PieceLevel] = []
        by_piece = {self.last[slot]: row for slot, row in kept.items()}
        for level in range(1 + max(piece.level for piece in self.pieces)):
            groups: list[PieceGroup] = []
            mine: list[int] = []
            for members in self._members(level):
                groups.append(self._group([self.pieces[i] for i in members], ends, level, device))
                places |= {i: (level, len(groups) - 1, row) for row, i in enumerate(members)}
                mine += [i for i in members if self.pieces[i].ends]
            ends = {piece: place for place, piece in enumerate(mine)}
            recorded = [piece for piece in mine if piece in by_piece]
            levels.append(
                PieceLevel(
                    groups,
                    _tensor([ends[piece] for piece in recorded], device),
                    _tensor([by_piece[piece] for piece in recorded], device),
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

    def _group(self, pieces: Sequence[Piece], ends: dict[int, int], level: int, device: torch.device) -> PieceGroup:
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
        needed = [i for i, piece in enumerate(pieces) if piece.ends]
        return PieceGroup(
            _tensor(tokens, device),
            None if real is None else torch.from_numpy(real).to(device),
            torch.from_numpy(visible[:, None]).to(device),
            _tensor([piece.base if level == 0 else ends[piece.base] for piece in pieces], device),
            _tensor(needed, device),
            _tensor([len(pieces[i].tokens) - 1 for i in needed], device),
            any(piece.awaited for piece in pieces),
        )


def make_state_plan(
    segments: Sequence[Segment], starts: Sequence[int], store: StateStore, kernel: int, device: torch.device
) -> tuple[StatePlan, dict[int, int]]:
    """The plan of a pass whose segments' tokens begin at ``starts``, and the tokens of drafts by slot.

    Raises RuntimeError where a text goes on from a state that is not kept.
    """
    planner = _Planner(store, kernel, sum(len(segment.tokens) for segment in segments))
    for i in sorted(range(len(segments)), key=lambda i: len(segments[i].context)):  # what is gone on from comes first
        planner.add(segments[i], starts[i])
    plan = planner.plan(segments, starts, device)
    return plan, planner.awaited


def ancestors(parents: Sequence[int], n: int) -> NDArray[np.bool_]:
    """(n, n) True where a token of a tree sees another one: its ancestors and itself. Padding sees all before it."""
    seen = np.tri(n, dtype=np.bool_)
    for token, parent in enumerate(parents):
        seen[token] = seen[parent] if parent >= 0 else False
        seen[token, token] = True
    return seen


def _tensor(numbers: Sequence[int] | Numbers, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(numbers, dtype=torch.long, device=device)
