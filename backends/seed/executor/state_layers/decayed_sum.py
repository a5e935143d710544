"""Matrix states that decay and take up outer products of keys and values: what delta rule and state spaces share.

With c the sum of a head's decays along a token's path, the state after token i is
``exp(c_i) S + sum_j exp(c_i - c_j) k_j u_j``, j its ancestors in the piece and itself, S the state before the piece.
B pieces of n tokens, H heads, d and v the dimensions of keys and values. All of it is computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..state_pieces import PieceGroup


@dataclass(frozen=True, slots=True, eq=False)
class DecayedSum:
    """What outputs and states after the tokens of a group of pieces follow from."""

    keys: torch.Tensor
    """(B, H, n, d)"""
    values: torch.Tensor
    """(B, H, n, v) the u."""
    decays: torch.Tensor
    """(B, H, n, n) exp(c_i - c_j) where token i sees token j, else 0."""
    totals: torch.Tensor
    """(B, H, n) exp(c_i)"""

    def outputs(self, query: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """(B, n, H, v): each token's query (B, H, n, d) times the state after it."""
        out = (query * self.totals[..., None]) @ before
        out += (query @ self.keys.transpose(2, 3)).mul_(self.decays) @ self.values
        return out.transpose(1, 2)

    def states(self, before: torch.Tensor, pieces: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """See :class:`.base.PieceStates`."""
        weights = self.decays[pieces, :, tokens]  # (M, H, n)
        keys = self.keys[pieces] * weights[..., None]
        decayed = before * self.totals[pieces, :, tokens][..., None, None]
        return decayed.add_(keys.transpose(2, 3) @ self.values[pieces])


def path_decays(decay: torch.Tensor, group: PieceGroup) -> tuple[torch.Tensor, torch.Tensor]:
    """``decays`` and ``totals`` of a group from the logarithms (B, H, n) of its tokens' decays."""
    total = (group.visible.to(decay.dtype) @ decay[..., None])[..., 0]  # (B, H, n): c
    apart = (total[..., None] - total[..., None, :]).masked_fill_(~group.visible, -torch.inf).exp_()
    return apart, total.exp()


def of_group(part: torch.Tensor, group: PieceGroup) -> torch.Tensor:
    """(B, H, n, ...) of what all tokens of a pass have, (T, H, ...)."""
    own = part.index_select(0, group.tokens.flatten()).view(*group.tokens.shape, *part.shape[1:])
    return own.transpose(1, 2)
