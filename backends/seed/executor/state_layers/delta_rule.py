"""The gated delta rule over pieces of text (Yang et al., arXiv 2412.06464), for chains and trees alike.

A state S (d, v) of a head decays with each token and takes up the part of its value that it does not predict already:
``S <- exp(g) S``, then ``S <- S + k u`` with ``u = beta (v - S k)``. With c the sum of g along a token's path, the
corrections u of a piece solve one triangular system over each token's ancestors, so the tokens of a tree share the
state before it and no state is copied for any of them:

    u_i + beta_i sum_j exp(c_i - c_j) (k_i k_j) u_j = beta_i (v_i - exp(c_i) S k_i),   j the ancestors of i

All of it is computed in float32, as transformers does. B pieces of n tokens, H heads, d and v their dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..state_pieces import PieceGroup
from .decayed_sum import DecayedSum, of_group, path_decays


@dataclass(frozen=True, slots=True, eq=False)
class DeltaRule:
    """What the tokens of a pass bring; T tokens."""

    query: torch.Tensor
    """(T, H, d), scaled."""
    key: torch.Tensor
    """(T, H, d)"""
    value: torch.Tensor
    """(T, H, v)"""
    decay: torch.Tensor
    """(T, H) the logarithms g."""
    beta: torch.Tensor
    """(T, H)"""

    def over(self, group: PieceGroup, before: torch.Tensor) -> tuple[torch.Tensor, DecayedSum]:
        """See :class:`.base.Recurrence`."""
        query, key, value, decay, beta = (
            of_group(part, group) for part in (self.query, self.key, self.value, self.decay, self.beta)
        )
        if group.real is not None:  # padding leaves a state as it is
            decay, beta = decay * group.real, beta * group.real
        apart, grown = path_decays(decay, group)
        keys = key * beta[..., None]
        corrections = value * beta[..., None] - (keys * grown[..., None]) @ before
        if group.tokens.shape[1] > 1:
            system = (keys @ key.transpose(2, 3)).mul_(apart)
            corrections = torch.linalg.solve_triangular(system, corrections, upper=False, unitriangular=True)
        result = DecayedSum(key, corrections, apart, grown)
        return result.outputs(query, before), result
