"""Rotary positions: their cosines and sines, and the rotation of queries and keys."""

from __future__ import annotations

from typing import Any

import torch


class Rotation:
    """Rotary positions, kept in a table where they do not depend on the length of the text."""

    def __init__(self, rotary: Any) -> None:
        self._rotary = rotary
        self.fixed = getattr(rotary, "rope_type", "dynamic") not in ("dynamic", "longrope")
        """Whether a position's angles do not depend on the length of the text."""
        self._table: torch.Tensor | None = None  # (positions, 2, 1, D)
        self._whole = False  # no position is beyond the table

    def fix(self, positions: int, like: torch.Tensor, dtype: torch.dtype) -> bool:
        """Compute so many positions in the dtype of ``like`` (..., E), so that none has to be looked at later.

        False where they depend on the length of the text, or have no end.
        """
        if not self.fixed or not positions:
            return False
        known = torch.arange(positions, device=like.device)[None]
        self._table, self._whole = self._compute(like[:1], known).to(dtype), True
        return True

    def __call__(
        self, x: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines (T, 1, D) for ``positions`` (1, T), computed in the dtype of ``x``."""
        if not self.fixed:
            return self._compute(x, positions).to(dtype).unbind(1)  # type: ignore[return-value]  # two
        table = self.table(0 if self._whole else int(positions.max()), x, dtype)
        return table.index_select(0, positions[0]).unbind(1)  # type: ignore[return-value]  # two

    def table(self, last: int, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Cosines and signed sines (positions, 2, 1, D) of all positions up to ``last`` and perhaps more.

        Computed in the dtype of ``x`` (..., E); they must not depend on the length of the text, see :attr:`fixed`.
        """
        if self._table is None or last >= len(self._table):
            known = torch.arange(max(256, 2 * last), device=x.device)[None]
            self._table = self._compute(x, known).to(dtype)
        return self._table

    def _compute(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = self._rotary(x[None], positions)  # (1, T, D)
        half = cos.shape[2] // 2
        signed = torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=1)
        return torch.stack((cos[0], signed), dim=1)[:, :, None]


def turn(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Turn heads (T, H, D) by their positions in place; cosines and signed sines are (T, 1, D)."""
    swapped = states.roll(cos.shape[2] // 2, dims=2)
    states.mul_(cos).addcmul_(swapped, sin)
