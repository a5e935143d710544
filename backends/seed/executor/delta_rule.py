"""The gated delta rule over pieces of text (Yang et al., arXiv 2412.06464), for chains and trees alike.

A state S (d, v) of a head decays with each token and takes up the part of its value that it does not predict already:
``S <- exp(g) S``, then ``S <- S + k u`` with ``u = beta (v - S k)``. With c the sum of g along a token's path, the
corrections u of a piece solve one triangular system over each token's ancestors, so the tokens of a tree share the
state before it and no state is copied for any of them:

    u_i + beta_i sum_j exp(c_i - c_j) (k_i k_j) u_j = beta_i (v_i - exp(c_i) S k_i),   j the ancestors of i

The state after a token is ``exp(c_i) S + sum_j exp(c_i - c_j) k_j u_j``, j its ancestors and itself. All of it is
computed in float32, as transformers does. B pieces of n tokens, H heads, d and v their dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .state_plan import PieceGroup


@dataclass(frozen=True, slots=True, eq=False)
class DeltaInputs:
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


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """What the states after the tokens of a group of pieces follow from."""

    keys: torch.Tensor
    """(B, H, n, d)"""
    values: torch.Tensor
    """(B, H, n, v) the u."""
    decays: torch.Tensor
    """(B, H, n, n) exp(c_i - c_j) where token i sees token j, else 0."""
    totals: torch.Tensor
    """(B, H, n) exp(c_i)"""

    def states(self, before: torch.Tensor, pieces: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The states (M, H, d, v) after one token each of M pieces, from those ``before`` the pieces (M, H, d, v)."""
        weights = self.decays[pieces, :, tokens]  # (M, H, n)
        keys = self.keys[pieces] * weights[..., None]
        decayed = before * self.totals[pieces, :, tokens][..., None, None]
        return decayed.add_(keys.transpose(2, 3) @ self.values[pieces])


def delta_rule(inputs: DeltaInputs, group: PieceGroup, before: torch.Tensor) -> tuple[torch.Tensor, Corrections]:
    """Outputs (B, n, H, v) of a group's tokens, and what their states follow from, after the states ``before`` it."""
    shape = group.tokens.shape

    def own(part: torch.Tensor) -> torch.Tensor:
        """(B, H, n, ...) of (T, H, ...)."""
        return part.index_select(0, group.tokens.flatten()).view(*shape, *part.shape[1:]).transpose(1, 2)

    query, key, value = own(inputs.query), own(inputs.key), own(inputs.value)
    decay, beta = own(inputs.decay), own(inputs.beta)  # (B, H, n)
    if group.real is not None:  # padding leaves a state as it is
        decay, beta = decay * group.real, beta * group.real
    total = (group.visible.to(decay.dtype) @ decay[..., None])[..., 0]  # (B, H, n): c
    apart = (total[..., None] - total[..., None, :]).masked_fill_(~group.visible, -torch.inf).exp_()
    grown = total.exp()
    keys = key * beta[..., None]
    corrections = value * beta[..., None] - (keys * grown[..., None]) @ before
    if shape[1] > 1:
        system = (keys @ key.transpose(2, 3)).mul_(apart)
        corrections = torch.linalg.solve_triangular(system, corrections, upper=False, unitriangular=True)
    out = (query * grown[..., None]) @ before
    out += (query @ key.transpose(2, 3)).mul_(apart) @ corrections
    return out.transpose(1, 2), Corrections(key, corrections, apart, grown)
