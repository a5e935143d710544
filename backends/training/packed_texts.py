"""Texts with a common beginning as one row of a forward, in which each text sees the beginning and itself alone.

So the loss is that of texts of their own, for less work. T tokens of the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch

Text = tuple[list[int], list[float]]
"""Token ids, and the weight of the loss of predicting the token after each."""
P = TypeVar("P", bound="PackedTexts")


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """The common beginning once, then each text's own tokens at their positions."""

    REPEATED: ClassVar[int] = 0
    """How many of the last common tokens each text has by itself."""

    tokens: torch.Tensor
    """(T,)"""
    positions: torch.Tensor
    """(T,)"""
    owner: torch.Tensor
    """(T,) the text of each token, from 1; 0 for the common beginning."""
    weights: torch.Tensor
    """(T,) of the loss of predicting the token after each."""

    @classmethod
    def of(cls: type[P], texts: Sequence[Text], device: torch.device | str = "cpu") -> P:
        """Pack texts; the beginning ends where one of them is learnt from."""
        learnt = min(next((i for i, weight in enumerate(weights) if weight), len(ids)) for ids, weights in texts)
        shared = max(0, min(_common([ids for ids, _ in texts]) - cls.REPEATED, learnt))
        tokens, positions = list(texts[0][0][:shared]), list(range(shared))
        owner, all_weights = [0] * shared, [0.0] * shared
        for number, (ids, weights) in enumerate(texts, 1):
            tokens += ids[shared:]
            positions += range(shared, len(ids))
            owner += [number] * (len(ids) - shared)
            all_weights += weights[shared:]
        whole = (torch.tensor(numbers, device=device) for numbers in (tokens, positions, owner, all_weights))
        return cls(*whole)

    @property
    def seen(self) -> torch.Tensor:
        """(T, T) whether a token attends to another: the beginning, and its own text up to itself."""
        same = (self.owner[None, :] == 0) | (self.owner[None, :] == self.owner[:, None])
        return same.tril()


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all rows share."""
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
