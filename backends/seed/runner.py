"""Runs one model over packed forests, and refuses at load what it could not run rightly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from treeagent.errors import ModelError

from ..loading import Model
from .attention import UnsupportedAttention
from .decoders import decoder_of
from .forest import Span, make_plan
from .pool import SlotPool
from .prefixes import PrefixForest

PROBE = 12
"""Tokens of each of the two texts of the trial at load, which part half-way."""


class Runner:
    """A model, its pool of keys and values, and passes over both.

    Raises ModelError at once for a model whose attention is not the standard one, or whose logits over a small tree
    differ from its own plain forward.
    """

    def __init__(self, model: Model, where: Path | str, memory: int) -> None:
        """``memory`` is the most bytes that keys and values may take."""
        self.model = model
        self.device = model.device
        self.dtype: torch.dtype = model.network.dtype
        self.seconds = 0.0
        """Time spent in passes so far."""
        self.passes = 0
        self.left: list[int] = []
        """Wanted tokens that left at each exit so far, where there are exits to leave at."""
        self._where = where
        self._network = model.network
        config = model.network.config.get_text_config(decoder=True)
        _check(where, model, config)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.layers = [(heads, dim)] * config.num_hidden_layers
        self.context = _context(model.context, config)
        """The most tokens of a text; None when the model does not say."""
        self.memory = memory
        self.forest = self.new_forest()
        self.parameters: int = sum(parameter.numel() for parameter in self._network.parameters())
        """Counted before their weights are packed."""
        plain = self._plain_logits()
        try:
            self._decoder = decoder_of(self._network)
        except ValueError as error:
            raise ModelError(self._refusal(str(error))) from error
        self._probe(*plain)

    @property
    def weight(self) -> float:
        """Parameters that a pass reads, in the mean."""
        return self.parameters

    @property
    def share(self) -> float:
        """Share of a whole pass's time that passes take, in the mean."""
        return 1.0

    @property
    def vocabulary(self) -> int:
        """Size of a row of logits."""
        return int(self._network.config.get_text_config(decoder=True).vocab_size)

    def new_forest(self) -> PrefixForest:
        """An empty forest over a pool of its own."""
        pool = SlotPool(self.layers, self.dtype, self.device, limit=1)
        pool.limit = max(0, self.memory // pool.slot_bytes)
        return PrefixForest(pool)

    @torch.inference_mode()
    def forward(self, spans: Sequence[Span]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of the wanted tokens of all spans, and for each span its rows among the R."""
        began = time.perf_counter()
        plan = make_plan(spans, self.dtype, self.device)
        logits = self._decoder(plan, self.forest.pool)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.passes += 1
        self.seconds += time.perf_counter() - began
        return logits, plan.rows

    @torch.inference_mode()
    def _plain_logits(self) -> tuple[list[int], torch.Tensor]:
        """Tokens of the trial, two texts that part half-way, and their plain logits (2, PROBE, V)."""
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocabulary, (PROBE + PROBE // 2,), generator=generator).tolist()
        half = PROBE // 2
        texts = [tokens[:PROBE], tokens[:half] + tokens[PROBE:]]
        ids = torch.tensor(texts, device=self.device)
        return tokens, self._network(input_ids=ids, use_cache=False).logits

    def _probe(self, tokens: list[int], plain: torch.Tensor) -> None:
        """The same two texts as a tree, in two passes: a prompt, and a tree after it."""
        half, forest = PROBE // 2, self.forest
        node, _ = forest.join(tokens[: half - 2])
        slots = node.slots
        nothing = np.zeros(0, dtype=np.int64)
        rest = forest.allocate(len(tokens) - half + 2)
        chain = list(range(-1, PROBE - half + 1))
        tree = [*chain, 1, *range(len(chain), len(chain) + half - 1)]  # the second branch parts after the first half
        try:
            self.forward([Span(tokens[: half - 2], slots, nothing, forest.root)])
            branches = Span(tokens[half - 2 :], rest, slots, node, parents=tree, wanted=range(len(rest)))
            logits, _ = self.forward([branches])
        except UnsupportedAttention as error:
            raise ModelError(self._refusal(str(error))) from error
        except (TypeError, RuntimeError, AttributeError, IndexError) as error:
            raise ModelError(self._refusal(f"a trial pass failed: {type(error).__name__}: {error}")) from error
        forest.pool.free(rest)
        node.computed = len(node.tokens)
        forest.leave(node, keep=False)
        expected = torch.cat((plain[0, half - 2 :], plain[1, half:])).float()
        spread = float(expected.max() - expected.min())
        worst = float((logits.float() - expected).abs().max())
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-3}.get(self.dtype, 5e-2)
        if not worst <= tolerance * max(1.0, spread):
            raise ModelError(
                self._refusal(
                    f"its logits over a small tree differ from its plain ones by {worst:.3g} (span {spread:.3g})"
                )
            )
        self.forest = self.new_forest()
        self.seconds, self.passes = 0.0, 0

    def _refusal(self, why: str) -> str:
        return refusal(self._where, self._network, why)


def refusal(where: Path | str, network: Any, why: str) -> str:
    """What is said of a model that cannot run here."""
    return (
        f"the model {where} ({type(network).__name__}) cannot run in the seed engine: {why}. Expected a decoder with "
        "standard attention, such as Llama, Qwen, Mistral or GPT-2; --backend transformers runs it plainly."
    )


def _check(where: Path | str, model: Model, config: Any) -> None:
    network = model.network
    why = None
    if not getattr(network, "_supports_attention_backend", False):
        why = "its attention cannot be replaced (it does not use transformers' attention interface)"
    elif "logits_to_keep" not in model.arguments or "position_ids" not in model.arguments:
        why = "its forward takes no position_ids or no logits_to_keep"
    else:
        strange = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
        if strange:
            why = f"it has layers of another kind ({', '.join(sorted(strange))})"
    if why is not None:
        raise ModelError(refusal(where, network, why))


def _context(stated: int | None, config: Any) -> int | None:
    """Within its window a sliding layer sees everything, so a text is kept to the shortest window."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds is not None else getattr(config, "use_sliding_window", True)
    if window is None or not slides:
        return stated
    return int(window) if stated is None else min(stated, int(window))
