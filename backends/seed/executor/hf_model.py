"""How a model is called for a pass: through transformers, or, for the Llama family, layer by layer in few operations.

A pass over a small model is made of thousands of small operations, and Python's share of it is as large as the
arithmetic's: SmolLM2-135M's 30 layers cost 9 to 12 ms outside products and attention when transformers calls them,
about a third of that when they are called from one loop, with query, key and value as one product, rotation as one
operation and residuals added by the product itself. Any other model runs through transformers. Both are held against
the model's plain forward at load.
T new tokens, R wanted ones, H query heads, h key-value heads, D head dimension, E hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from ...models.gguf_weights import GgufWeights
from ...models.int4 import Int4Linear
from ...models.int8_network import LLAMA_FAMILY
from ...models.low_rank import Adapter, attached
from ..kv_cache.pool import SlotPool
from .compiled_decoder import compiled
from .forward_batch import ForwardBatch
from .llama import LlamaDecoder
from .packed_linear import pack
from .state_layers.registry import replace_state_layers
from .state_pass import StatePass
from .tree_attention import NAME, AttentionContext, register


class Decoder(Protocol):
    """How a model's passes are computed."""

    def __call__(self, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """Logits (R, V) of a pass."""

    def with_states(
        self, plan: ForwardBatch, pool: SlotPool, layers: Sequence[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits (R, V), and for each of ``layers`` the states (T, E) that enter it.

        The number after the last layer's stands for what enters the output head, after the final norm.
        """

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (R, V) of what enters the output head (R, E)."""


def decoder_of(
    network: Any, windows: Sequence[int | None], context: int | None, stored: GgufWeights | None = None
) -> tuple[Decoder, str]:
    """The quickest way to run a model, which is changed in place, and what computes its passes.

    ``windows`` are the sliding windows of its layers, ``context`` the most tokens of a text, ``stored`` the weights of
    its .gguf file. What computes passes is ``compiled``, or ``torch`` and why there are no compiled kernels for the
    model. Raises ValueError when its attention is fixed, and for 4-bit weights outside of compiled kernels.
    """
    fours = any(isinstance(module, Int4Linear) for module in network.modules())
    if type(network).__name__ in LLAMA_FAMILY and LlamaDecoder.fits(network):
        short = [
            None if window is None or (context is not None and context <= window) else window for window in windows
        ]
        decoder, why = compiled(network, stored) if not any(short) else (None, "sliding windows")
        if decoder is not None:
            return decoder, decoder.kernels
        if not fours:
            return LlamaDecoder(network, short), f"torch ({why})"
    if fours:
        raise ValueError("4-bit weights need the compiled kernels for models of the Llama family")
    register()
    network.set_attn_implementation(NAME)
    pack(network)
    modules = dict(network.named_modules())  # by the paths that an adapter knows
    replace_state_layers(network)
    return TransformersDecoder(network, windows, modules), "torch (another family than Llama)"


def adapted(decoder: Decoder, adapter: Adapter) -> Decoder:
    """A decoder with an adapter, over the same weights."""
    if isinstance(decoder, LlamaDecoder):
        return decoder.adapted(adapter.layers)
    assert isinstance(decoder, TransformersDecoder)  # noqa: S101  # there is no third kind
    return decoder.adapted(adapter)


class TransformersDecoder:
    """Any decoder-only model whose attention can be replaced."""

    def __init__(
        self, network: Any, windows: Sequence[int | None], modules: Mapping[str, nn.Module] | None = None
    ) -> None:
        """``windows`` are those of its layers.

        ``modules``: those of the network by the paths that they had when it was loaded, for adapters.
        """
        self._network, self._windows, self._modules = network, windows, modules or {}
        self._adapter: Adapter | None = None

    def adapted(self, adapter: Adapter) -> TransformersDecoder:
        """The decoder with an adapter, over the same weights."""
        other = copy.copy(self)
        other._adapter = adapter
        return other

    def __call__(self, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """Logits (R, V)."""
        return self.with_states(plan, pool, ())[0]

    def with_states(
        self, plan: ForwardBatch, pool: SlotPool, layers: Sequence[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See :class:`Decoder`."""
        states = None
        if pool.states is not None:
            states = StatePass(plan.segments, plan.starts, pool.states, plan.tokens.device)
        with attached(self._modules, self._adapter):
            out = self._network(
                input_ids=plan.tokens,
                position_ids=plan.positions,
                attention_mask=None,
                use_cache=False,
                logits_to_keep=plan.wanted,
                **({"output_hidden_states": True} if layers else {}),
                forest=AttentionContext(plan, pool, self._windows, states),
            )
        logits: torch.Tensor = out.logits[0]
        return logits, [out.hidden_states[layer][0] for layer in layers]

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`Decoder`."""
        with attached(self._modules, self._adapter):
            logits: torch.Tensor = self._network.get_output_embeddings()(x)
        return logits
