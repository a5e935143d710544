"""Mamba-2 layers of Granite 4 and Bamba (Dao and Gu, arXiv 2405.21060).

A state of a head decays by ``exp(dt A)`` with each token and takes up ``dt x`` at the key B; the query C reads it. In
the terms of :mod:`.decayed_sum` the values are ``dt x``, and nothing is corrected, so there is no system to solve.
T new tokens, H heads, G groups of heads with one B and C, d the size of B and C, v the dimension of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ...kv_cache.state_store import Shape
from ..state_pieces import PieceGroup
from ..tree_attention import AttentionContext
from .base import StateLayer
from .convolution import CausalConvolution
from .decayed_sum import DecayedSum, of_group, path_decays


@dataclass(frozen=True, slots=True, eq=False)
class StateSpace:
    """What the tokens of a pass bring, in float32 as in transformers."""

    query: torch.Tensor
    """(T, H, d) C."""
    key: torch.Tensor
    """(T, H, d) B."""
    value: torch.Tensor
    """(T, H, v) dt x."""
    decay: torch.Tensor
    """(T, H) dt A."""

    def over(self, group: PieceGroup, before: torch.Tensor) -> tuple[torch.Tensor, DecayedSum]:
        """See :class:`.base.Recurrence`."""
        query, key, value, decay = (of_group(part, group) for part in (self.query, self.key, self.value, self.decay))
        result = DecayedSum(key, value, *path_decays(decay, group))
        return result.outputs(query, before), result


class Mamba2(StateLayer):
    """A layer of transformers, run over packed segments."""

    networks = frozenset({"GraniteMoeHybridForCausalLM", "BambaForCausalLM"})
    attribute = "mamba"
    kind = "linear_attention"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.layer = layer
        self._convolution = CausalConvolution(layer.conv1d)

    @staticmethod
    def matrices(layer: Any) -> Shape:
        """See :class:`StateLayer`."""
        return (layer.num_heads, layer.ssm_state_size, layer.head_dim), torch.float32

    def forward(self, hidden_states: torch.Tensor, *, forest: AttentionContext, **_others: Any) -> torch.Tensor:
        """``hidden_states`` (1, T, E); result (1, T, E)."""
        layer, states = self.layer, forest.states
        assert states is not None  # noqa: S101  # made for models with such layers
        sizes = [layer.intermediate_size, layer.conv_dim, layer.num_heads]
        gate, mixed, steps = layer.in_proj(hidden_states)[0].split(sizes, dim=-1)
        convolved = layer.act(self._convolution(mixed, states, layer.layer_idx)).float()
        shared = layer.n_groups * layer.ssm_state_size
        inputs, key, query = convolved.split([layer.intermediate_size, shared, shared], dim=-1)
        inputs = inputs.view(-1, layer.num_heads, layer.head_dim)
        key, query = (
            part.view(-1, layer.n_groups, layer.ssm_state_size).repeat_interleave(
                layer.num_heads // layer.n_groups, dim=1
            )
            for part in (key, query)
        )
        steps = F.softplus(steps + layer.dt_bias).clamp(*layer.time_step_limit).float()  # (T, H)
        rates = -layer.A_log.float().exp()
        out = states.run(layer.layer_idx, StateSpace(query, key, inputs * steps[..., None], steps * rates))
        out = (out + inputs * layer.D[:, None]).flatten(1)
        result: torch.Tensor = layer.out_proj(layer.norm(out, gate).to(hidden_states.dtype))[None]
        return result
