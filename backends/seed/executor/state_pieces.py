"""The pieces of a pass over layers with a state, and the cut of a tree into them.

T new tokens, B pieces of up to n tokens, K width of the convolution, which sees a token and the K - 1 before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

PIECE = 64
"""The most tokens of a piece that is no draft."""

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
    after: int
    """The token of the piece before it that it goes on from; of no meaning on the first level."""
    level: int
    awaited: bool = False
    """Whether the states after its tokens may be asked for after the pass."""
    needed: set[int] = field(default_factory=set)
    """Its tokens after which the state is needed in this pass."""

    @property
    def end(self) -> int:
        """Its last token."""
        return len(self.tokens) - 1


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
    """(M,) pieces within which a state is needed."""
    last: torch.Tensor
    """(M,) the tokens after which it is."""
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


def cut_tree(tree: Piece, number: int) -> list[Piece]:
    """A tree as pieces of at most :data:`PIECE` tokens; ``number`` is that of the first one in the pass.

    A token joins the piece of its parent while there is room, else a piece that begins after its parent.
    """
    pieces: list[Piece] = []
    members: list[list[int]] = []
    parents: list[list[int]] = []
    where: dict[int, tuple[int, int]] = {}
    begun: dict[int, int] = {}
    for token, parent in enumerate(tree.parents or ()):
        above = where.get(parent)
        mine = begun.get(parent) if above is None or len(members[above[0]]) == PIECE else above[0]
        if mine is None or len(members[mine]) == PIECE:
            mine = begun[parent] = len(members)
            members.append([])
            parents.append([])
            if above is None:
                pieces.append(Piece(tree.tokens, parents[mine], tree.base, tree.after, tree.level))
            else:
                pieces[above[0]].needed.add(above[1])
                level = pieces[above[0]].level + 1
                pieces.append(Piece(tree.tokens, parents[mine], number + above[0], above[1], level))
        where[token] = (mine, len(members[mine]))
        parents[mine].append(above[1] if above is not None and above[0] == mine else -1)
        members[mine].append(token)
    for piece, own in zip(pieces, members, strict=True):
        piece.tokens = tree.tokens[own]
    return pieces


def ancestors(parents: Sequence[int], n: int) -> NDArray[np.bool_]:
    """(n, n) True where a token of a tree sees another one: its ancestors and itself. Padding sees all before it."""
    seen = np.tri(n, dtype=np.bool_)
    for token, parent in enumerate(parents):
        seen[token] = seen[parent] if parent >= 0 else False
        seen[token, token] = True
    return seen
