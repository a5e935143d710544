"""A model prepared for passes over packed forests; architectures that would give wrong results are refused here.

Engines that were given one :class:`WeightCache` hold each model once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch

from treeagent.errors import ModelError, UnsupportedModelError

from ...models.device_memory import lacks_memory
from ...models.gguf_weights import GgufWeights
from ...models.int4 import Int4Linear
from ...models.int8 import Int8Linear
from ...models.llama_network import LlamaNetwork
from ...models.low_rank import linear_shapes
from ...models.model import Model
from ...models.sources import size_setting
from ..kv_cache.pool import SlotPool
from ..kv_cache.radix_tree import RadixCache
from ..kv_cache.state_store import StateStore
from ..kv_cache.window_rows import WindowRows
from .architecture import fault_of, heads_of, windows_of
from .attention_choice import choose_attention
from .compiled_decoder import CompiledDecoder
from .forward_batch import make_forward_batch
from .fused_choice import fuse_layers
from .hf_model import decoder_of
from .segment import Segment
from .state_layers.registry import state_shapes
from .token_choice import host_reason
from .tree_attention import UnsupportedAttention

PROBE = 12
"""Tokens of each of the two texts of the trial at load, which part half-way; fewer where the context is shorter."""

PROBE_STATES = 2**32
"""Bytes that the states of a trial, which are few, may take."""


class Weights:
    """A model's weights as passes read them: shared by all who run it, each with keys and values of their own.

    Raises UnsupportedModelError at once for a model whose attention is not the standard one, or whose logits over a
    small tree differ from its own plain forward.
    """

    def __init__(self, model: Model, where: Path | str) -> None:
        """The model's network is changed in place."""
        self.model = model
        self.where = where
        self.device = model.device
        config = model.config
        if not isinstance(model.network, LlamaNetwork):
            why = fault_of(where, model.network, model.arguments, config)
            if why is not None:
                raise self.refusal(why)
        count = size_setting(where, config, "num_hidden_layers")
        self.layers = heads_of(where, config, count)
        """Key-value heads and their dimension, by layer."""
        windows = windows_of(where, config, count)
        self._windows = [window if window and window < (model.context or window + 1) else None for window in windows]
        """The windows of layers, as far as texts can be longer."""
        self.state_shapes = state_shapes(model.network)
        """The parts of a state, by layer; empty for a model whose layers all attend."""
        self.context = model.context
        """The most tokens of a text; None when the model does not say."""
        if self.context is not None and self.context < 2:
            raise self.refusal(f"its context of {self.context} holds no prompt with a completion")
        self.vocabulary = size_setting(where, config, "vocab_size")
        """Size of a row of logits."""
        self._rounded = any(isinstance(module, (Int4Linear, Int8Linear)) for module in model.network.modules())
        self.parameters = model.parameters
        self.linears = linear_shapes(model.network)
        """(Outputs, inputs) of the linear layers, by the paths that an adapter names them with."""
        stack = getattr(getattr(model.network, "model", None), "layers", [])
        self.layer_parameters = _count(stack) / len(stack) if len(stack) else 0.0
        """Of one layer, in the mean; 0 where layers do not lie where they do in the Llama family."""
        with torch.inference_mode():
            plain = self._plain_logits()
            heads = size_setting(where, config, "num_attention_heads")
            stored = None
            if isinstance(where, Path) and where.suffix == ".gguf" and not self._rounded:
                stored = GgufWeights(where, heads, max((kind[0] for kind in self.layers), default=0))
            try:
                self.decoder, self.kernels = decoder_of(model.network, windows, self.context, stored)
            except ValueError as error:
                raise self.refusal(str(error)) from error
            """How passes run, and what computes them: ``compiled`` kernels, or ``torch`` with the reason.

            On a GPU also what computes attention, and where tokens are drawn."""
            if stored is not None:
                share = self.decoder.in_blocks if isinstance(self.decoder, CompiledDecoder) else 0.0
                self.kernels += f", {share:.0%} of the GGUF file's linear weights kept in 8 bits, the rest expanded"
            self.in_place = isinstance(self.decoder, CompiledDecoder)
            """Whether attention reads keys and values where they lie."""
            halves = self.in_place and model.attention_dtype == torch.bfloat16
            self.dtype = torch.float32 if halves else model.attention_dtype
            """Of attention."""
            self._integers = self.in_place and self.dtype == torch.float64
            """Whether keys and values are kept as integers, each head's numbers with a power of two."""
            attending = [kind for kind in self.layers if kind[0]]  # a layer with a recurrence has no keys
            attention = choose_attention(self.device, self.dtype, attending, heads)
            self.tile_queries = 0 if attention is None else attention.tile_queries
            """The most queries of a tile of the GPU's attention; 0 where attention is computed by calls."""
            if attention is not None:
                why = host_reason(self.device, self.dtype)
                fused = fuse_layers(self.decoder, self.device, self.dtype) if self.tile_queries else ""
                self.kernels += f"{fused}, {attention}, draws on the {'GPU' if why is None else f'host ({why})'}"
            self._probe(*plain)

    def refusal(self, why: str) -> UnsupportedModelError:
        """What is said of it where it cannot run."""
        kind = type(self.model.network).__name__
        return UnsupportedModelError(
            f"the model {self.where} ({kind}) cannot run in the seed engine: {why}. Expected a decoder with standard "
            "attention, such as Llama, Qwen, Mistral or GPT-2; --backend transformers runs it plainly.",
            why,
        )

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """The model's embeddings (T, E) of token ids (T,)."""
        network = self.model.network
        layer = network.model.embed_tokens if isinstance(network, LlamaNetwork) else network.get_input_embeddings()
        embedded: torch.Tensor = layer(tokens)
        return embedded

    def new_pool(
        self,
        memory: int,
        layers: int | None = None,
        state_memory: int = PROBE_STATES,
        *,
        rows: bool = False,
        beside: int = 0,
    ) -> SlotPool:
        """A pool for keys and values of at most so many bytes, of the first layers only if so asked.

        ``state_memory``: the most bytes of the states of layers with a recurrence. ``rows``: layers with a window keep
        the tokens inside it alone. ``beside``: bytes that a head keeps for each slot.
        """
        pool = self._pool(limit=1, layers=layers, state_memory=state_memory, rows=rows, beside=beside)
        pool.limit = max(0, memory // max(1, pool.slot_bytes))
        return pool

    def _pool(
        self,
        limit: int,
        layers: int | None = None,
        state_memory: int = PROBE_STATES,
        *,
        rows: bool = False,
        beside: int = 0,
    ) -> SlotPool:
        states = StateStore(self.state_shapes, self.device, state_memory) if self.state_shapes else None
        kinds, windows = self.layers[:layers], self._windows[:layers]
        # what is missing of states would have to be read again beside what is missing of windows
        slides = rows and states is None and any(window is not None for window in windows)
        if self._integers:
            kept = [(heads, dim + 1) for heads, dim in kinds]
            return SlotPool(kept, torch.int16, self.device, limit, states, None, beside)
        own = WindowRows(kinds, windows, self.dtype, self.device) if slides else None
        return SlotPool(kinds, self.dtype, self.device, limit, states, own, beside)

    def _plain_logits(self) -> tuple[list[int], torch.Tensor]:
        """Tokens of the trial, two texts of T tokens that part half-way, and their plain logits (2, T, V)."""
        generator = torch.Generator().manual_seed(0)
        length = PROBE if self.context is None else min(PROBE, self.context)
        half = length // 2
        tokens = torch.randint(self.vocabulary, (2 * length - half,), generator=generator).tolist()
        texts = [tokens[:length], tokens[:half] + tokens[length:]]
        ids = torch.tensor(texts, device=self.device)
        return tokens, self.model.network(input_ids=ids, use_cache=False).logits

    def _probe(self, tokens: list[int], plain: torch.Tensor) -> None:
        """The same two texts as a tree, in two passes: a prompt, and a tree after it."""
        pool = self._pool(limit=2 * len(tokens))
        length = plain.shape[1]
        half, forest = length // 2, RadixCache(pool)
        prompt = max(1, half - 2)
        node, _ = forest.match_prefix(tokens[:prompt])
        slots = node.slots
        nothing = np.zeros(0, dtype=np.int64)
        rest = forest.allocate(len(tokens) - prompt)
        chain = list(range(-1, length - prompt - 1))
        # the second branch parts after the first half
        tree = [*chain, half - prompt - 1, *range(len(chain), len(rest) - 1)]
        spans = (
            Segment(tokens[:prompt], slots, nothing, forest.root),
            Segment(tokens[prompt:], rest, slots, node, parents=tree, wanted=range(len(rest))),
        )
        try:
            for span in spans:
                plan = make_forward_batch([span], self.dtype, self.device, self.in_place, self.tile_queries)
                logits = self.decoder(plan, pool)
        except UnsupportedAttention as error:
            raise self.refusal(str(error)) from error
        except (TypeError, RuntimeError, AttributeError, IndexError) as error:
            if lacks_memory(error):
                raise ModelError(f"the model {self.where} needs more memory than there is: {error}") from error
            raise self.refusal(f"a trial pass failed: {type(error).__name__}: {error}") from error
        expected = torch.cat((plain[0, prompt:], plain[1, half:])).float()
        spread = float(expected.max() - expected.min())
        worst = float((logits.float() - expected).abs().max())
        # With layers of few bits in float32 a difference of the last bit can move an activation by a whole step.
        rough = self._rounded and self.model.attention_dtype == torch.float32
        # Transformers computes the softmax of scores with a soft cap in float32, whatever the weights are.
        capped = getattr(self.model.config, "attn_logit_softcapping", None) is not None
        capped = capped or bool(self.state_shapes)  # so are recurrences
        tolerance = (
            0.2
            if rough
            else {torch.float64: 1e-6 if capped else 1e-9, torch.float32: 1e-3}.get(self.model.attention_dtype, 5e-2)
        )
        if not worst <= tolerance * max(1.0, spread):
            raise self.refusal(
                f"its logits over a small tree differ from its plain ones by {worst:.3g} (span {spread:.3g})"
            )


class WeightCache:
    """Weights in memory, by model, type of numbers and device, as long as anybody runs them."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[tuple[str, str, torch.device], Weights] = WeakValueDictionary()

    def take(self, where: Path | str, dtype: str, device: torch.device, load: Callable[[], Model]) -> Weights:
        """Those of a model, loaded where nobody runs it yet. Raises ModelError."""
        key = (str(where), dtype, device)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = Weights(load(), where)
        return found


def _count(module: Any) -> int:
    if not isinstance(module, torch.nn.Module):
        return 0
    rounded = sum(layer.size for layer in module.modules() if isinstance(layer, (Int4Linear, Int8Linear)))
    return rounded + sum(parameter.numel() for parameter in module.parameters())
