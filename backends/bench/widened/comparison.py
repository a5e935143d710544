"""Compares a widened checkpoint with the model that it was made from, one layer in memory at a time.

Both compute in float32. Weights that are stored in fewer bits are rounded, so the small model with its weights rounded
alike is compared as well: the widened one may differ from the small one by that much, and not by much more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from ...models.llama_network import LlamaConfigFile, LlamaNetwork
from ...models.model import DTYPES
from .checkpoint import INDEX, SmallModel
from .label import MARK

SLACK = 1e-3
"""Largest difference of logits in float32, as a share of the largest logit."""
TIMES = 3.0
"""How many times the difference by rounding alone is allowed."""

OFF_GRID = 2**0.5
"""Weights are rounded times this, as widened ones are: many checkpoints hold numbers that bfloat16 has already."""


@dataclass(frozen=True, slots=True)
class LogitDifference:
    """How far the logits of one model are from those of another, over the same tokens."""

    tokens: int
    agreement: float
    """Share of the tokens after which both have the same likeliest token."""
    largest: float
    """Largest difference of two logits."""
    span: float
    """Largest logit, without its sign."""

    @classmethod
    def between(cls, logits: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> LogitDifference:
        """Of texts' logits (T, V) each."""
        pairs = list(zip(logits, others, strict=True))
        tokens = sum(len(one) for one, _ in pairs)
        same = sum(int((one.argmax(1) == other.argmax(1)).sum()) for one, other in pairs)
        return cls(
            tokens,
            same / tokens,
            max(float((one - other).abs().max()) for one, other in pairs),
            max(float(one.abs().max()) for one, _ in pairs),
        )


@dataclass(frozen=True, slots=True)
class FunctionCheck:
    """A widened model against the small one."""

    widened: LogitDifference
    rounded: LogitDifference
    """The small model with its weights rounded as the widened one's are, against itself."""
    dtype: str

    @property
    def passed(self) -> bool:
        """Whether the functions are the same, to rounding."""
        limit = SLACK * self.widened.span + TIMES * self.rounded.largest
        changed = SLACK + TIMES * (1 - self.rounded.agreement)
        return self.widened.largest <= limit and 1 - self.widened.agreement <= changed  # false for NaN

    def __str__(self) -> str:
        said = (
            f"over {self.widened.tokens} tokens: the same likeliest token after {self.widened.agreement:.2%}, largest "
            f"difference of logits {self.widened.largest:.3g} (largest logit {self.widened.span:.3g})"
        )
        if self.dtype == "float32":
            return said
        return (
            f"{said}; rounding the small model's weights to {self.dtype}: {self.rounded.agreement:.2%}, "
            f"{self.rounded.largest:.3g}"
        )


@torch.inference_mode()
def compare_widened(
    small: SmallModel, folder: Path, texts: Sequence[Sequence[int]], device: torch.device
) -> FunctionCheck:
    """Logits over ``texts`` in token ids, computed on ``device``."""
    config = json.loads((folder / "config.json").read_bytes())
    ids = [torch.tensor([text], device=device) for text in texts]
    wide = streamed_logits(folder, ids)
    network = small.network.to(device)
    plain = [network(text).logits[0].cpu() for text in ids]
    dtype = DTYPES[config["dtype"]]
    for parameter in network.parameters():
        parameter.copy_((parameter * OFF_GRID).to(dtype) / OFF_GRID)
    rounded = [network(text).logits[0].cpu() for text in ids]
    return FunctionCheck(
        LogitDifference.between(plain, wide), LogitDifference.between(plain, rounded), str(config["dtype"])
    )


def streamed_logits(folder: Path, texts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Logits (T, V) in float32 of texts (1, T), with the weights of one layer in memory at a time."""
    config = json.loads((folder / "config.json").read_bytes())
    config.pop(MARK, None)
    network = LlamaNetwork(LlamaConfigFile.model_validate_json(json.dumps(config)))
    places: dict[str, str] = json.loads((folder / INDEX).read_bytes())["weight_map"]
    device = texts[0].device
    decoder = network.model

    def load(part: torch.nn.Module, prefix: str) -> torch.nn.Module:
        tensors: dict[str, torch.Tensor] = {}
        names = [name for name in places if name.startswith(prefix)]
        for file in sorted({places[name] for name in names}):
            with safe_open(folder / file, "pt") as shard:
                for name in names:
                    if places[name] == file:
                        tensors[name.removeprefix(prefix)] = shard.get_tensor(name).to(device, torch.float32)
        part.load_state_dict(tensors, assign=True)
        return part

    table = load(decoder.embed_tokens, "model.embed_tokens.")
    states = [table(text) for text in texts]  # (1, T, D) each
    decoder.embed_tokens.to("meta")
    turns = [decoder.rotary_emb(state, torch.arange(state.shape[1], device=device)[None]) for state in states]
    for number, layer in enumerate(decoder.layers):
        load(layer, f"model.layers.{number}.")
        states = [layer(state, turn) for state, turn in zip(states, turns, strict=True)]
        layer.to("meta")
    load(decoder.norm, "model.norm.")
    tied = network.config.tie_word_embeddings
    head = load(network.lm_head, "model.embed_tokens." if tied else "lm_head.")
    return [head(decoder.norm(state))[0].cpu() for state in states]
