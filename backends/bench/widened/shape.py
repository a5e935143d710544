"""The shape of a Llama decoder, and whether a model fits into a larger one without a change of its function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treeagent.errors import ConfigError, UnknownNameError

FIELDS = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "inner": "intermediate_size",
}
"""The sizes of a shape, as ``config.json`` names them."""


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes of a Llama decoder, but for its vocabulary."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    tied: bool = False
    """Whether embedding and LM head are one matrix."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> DecoderShape:
        """The shape that a ``config.json`` states. Raises ConfigError."""
        sizes: dict[str, Any] = {name: config.get(field) for name, field in FIELDS.items()}
        sizes["kv_heads"] = sizes["kv_heads"] or sizes["heads"]
        if sizes["head_dim"] is None and sizes["hidden"] and sizes["heads"]:
            sizes["head_dim"] = sizes["hidden"] // sizes["heads"]
        for name, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ConfigError(f"a shape needs {FIELDS[name]} of 1 or more, not {size!r}")
        return cls(**sizes, tied=bool(config.get("tie_word_embeddings", False)))

    def fields(self) -> dict[str, Any]:
        """The sizes under their names in ``config.json``."""
        sizes = {field: getattr(self, name) for name, field in FIELDS.items()}
        return {**sizes, "tie_word_embeddings": self.tied}

    def layer_parameters(self) -> int:
        """Weights of one layer."""
        projections = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return projections + 3 * self.hidden * self.inner + 2 * self.hidden

    def parameters(self, vocabulary: int) -> int:
        """Weights of the whole network."""
        tables = vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_parameters() + tables + self.hidden


SHAPES = {
    "llama-7b": DecoderShape(4096, 32, 32, 32, 128, 11008),
    "llama-13b": DecoderShape(5120, 40, 40, 40, 128, 13824),
    "llama-3-8b": DecoderShape(4096, 32, 32, 8, 128, 14336),
    "llama-3.1-70b": DecoderShape(8192, 80, 64, 8, 128, 28672),
}
"""Shapes with a name: those of Llama and Llama 2 (7B, 13B), Llama 3 and Mistral 7B (8B), Llama 3.1 (70B)."""


def find_shape(name: str) -> DecoderShape:
    """A shape by its name, or that of a ``config.json`` or the folder it is in. Raises ConfigError."""
    if name in SHAPES:
        return SHAPES[name]
    path = Path(name).expanduser()
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise UnknownNameError("shape", name, SHAPES, " The path of a config.json will do as well.")
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"the shape in {file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"the shape in {file} is no JSON object, such as a model's config.json")
    return DecoderShape.of(config)


def kv_heads_of_each(small: DecoderShape, large: DecoderShape) -> int:
    """Key-value heads of ``large`` that one of ``small`` needs, so that all its query heads have one of their own."""
    return -(-(small.heads // small.kv_heads) // (large.heads // large.kv_heads))


def check_fit(small: DecoderShape, large: DecoderShape) -> None:
    """Refuse a shape that cannot hold the model, with the reason. Raises ConfigError."""
    if large.heads % large.kv_heads:
        raise ConfigError(
            f"impossible shape: {large.heads} attention heads do not divide into {large.kv_heads} key-value heads"
        )
    if large.hidden % large.heads:
        raise ConfigError(
            f"impossible shape: a hidden size of {large.hidden} does not divide into {large.heads} attention heads"
        )
    for name, field in FIELDS.items():
        if name != "kv_heads" and getattr(large, name) < getattr(small, name):
            raise ConfigError(
                f"the shape is too small for the model: its {field} is {getattr(large, name)}, the model's is "
                f"{getattr(small, name)}. A model can be widened, not cut."
            )
    if large.head_dim % small.head_dim:
        raise ConfigError(
            f"the shape's head_dim of {large.head_dim} is no multiple of the model's {small.head_dim}, so that its "
            "rotary positions would turn at other rates"
        )
    if large.tied and not small.tied:
        raise ConfigError("the shape has one matrix for embedding and LM head, the model has two that differ")
    needed = small.kv_heads * kv_heads_of_each(small, large)
    if large.kv_heads < needed:
        raise ConfigError(
            f"the shape is too small for the model: it has {large.kv_heads} key-value heads with "
            f"{large.heads // large.kv_heads} attention heads each, the model needs {needed} of that kind"
        )
