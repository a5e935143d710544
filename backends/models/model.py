"""A causal language model ready to run, and the types of numbers that it can run in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

INT8 = "int8"
"""Linear layers in 8 bits and logits that do not depend on the batch, see :mod:`.int8_network`."""
INT8_DRAFT = "int8+float32"
"""The same with the rest in float32; for draft models, whose rounding may depend on the batch."""
INT4_DRAFT = "int4"
"""Linear layers with 4-bit weights and the rest in float32; for draft models, in compiled kernels."""
DTYPE_NAMES = (*DTYPES, INT8)

CACHES = ("cache", "past_key_values")
"""Names of the attention cache, that of transformers 5.24 first."""


@dataclass(frozen=True, slots=True)
class Model:
    """A causal language model ready to run."""

    network: Any
    """The transformers model or a :class:`.llama_network.LlamaNetwork`, in evaluation mode."""
    config: Any
    """The configuration of its text decoder."""
    device: torch.device
    eos: frozenset[int]
    """Token ids that end a text."""
    context: int | None
    """The most tokens of prompt and completion together; None when its configuration has no limit."""
    arguments: frozenset[str]
    """Names of the arguments of the model's forward."""
    parameters: int
    """Number of weights, tied ones once."""
    attention_dtype: torch.dtype
    """Of queries, keys and values; with 8-bit layers another one than that of the network."""
    rewards: bool = False
    """Whether it is a process reward model: its logits (..., 2) are those of a right and of a wrong step."""

    @property
    def cache(self) -> str:
        """Name of the attention cache among the forward's arguments and results."""
        return next(name for name in CACHES if name in self.arguments)
