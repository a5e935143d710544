"""The short causal convolution of layers with a state, over chains and trees: each token has its own window.

T new tokens, C channels, K width.
"""

from __future__ import annotations

from typing import Any

import torch

from ..state_pass import StatePass


class CausalConvolution:
    """A convolution of each channel with itself."""

    def __init__(self, convolution: Any) -> None:
        """``convolution`` of torch, with weights (C, 1, K) and perhaps a bias (C,)."""
        taps = convolution.weight.detach()[:, 0].t()  # (K, C), the last one for the token itself
        self._taps = taps.flip(0).contiguous()
        self._bias: torch.Tensor | None = None if convolution.bias is None else convolution.bias.detach()

    def __call__(self, new: torch.Tensor, states: StatePass, layer: int) -> torch.Tensor:
        """Outputs (T, C) of ``new`` inputs (T, C), after those before them; the tails of a pass are kept."""
        inputs = states.convolution_input(layer, new)
        out: torch.Tensor = new * self._taps[0]
        for before, taps in zip(states.plan.history, self._taps[1:], strict=True):
            out.addcmul_(inputs.index_select(0, before), taps)
        return out if self._bias is None else out.add_(self._bias)
