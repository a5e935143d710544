"""The network of an EAGLE-3 head (Li et al., arXiv 2503.01840), with the names of its checkpoints.

A head reads pairs: the target's states after token i and the embedding of token i + 1 give the law of token i + 2. The
states of several layers of the target are fused to one; further into a draft the head's own output takes their place.
T pairs, F features, E hidden size of the head, H query heads, h key-value heads, D head dimension, W draft vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .eagle3_config import Eagle3Config
from .head_file import LayerFile

FIXED = ("default", "linear", "yarn", "llama3")
"""Kinds of rotary positions whose frequencies do not depend on the text."""


class Eagle3Network(nn.Module):
    """One decoder layer over pairs, a fusion before it and an output head after it."""

    def __init__(self, config: Eagle3Config, features: int) -> None:
        """``features`` layers of the target are fused. The weights lie where torch's default device says."""
        super().__init__()
        layer = config.layer
        self.config = config
        self.fc = nn.Linear(features * config.target_width, layer.hidden_size, bias=False)
        self.input_norm = _input_norm(config, features)
        self.midlayer = _PairLayer(config)
        self.norm = head_norm(layer.hidden_size, layer)
        self.lm_head = nn.Linear(layer.hidden_size, config.draft_vocabulary, bias=False)
        self.rotary = HeadRotary(layer)

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., F * width) of the target's layers side by side, as one (..., E)."""
        fused: torch.Tensor = self.fc(states if self.input_norm is None else self.input_norm(states))
        return fused

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (..., W) of the head's output (..., E), which is normed already where ``norm_output`` says so."""
        return self.lm_head(x if self.config.norm_output else self.norm(x))  # type: ignore[no-any-return]


class _EachNorm(nn.ModuleList):
    """Norms of states side by side, of each by itself."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., F * width) to the same."""
        each = zip(self, states.chunk(len(self), dim=-1), strict=True)
        return torch.cat([norm(state) for norm, state in each], dim=-1)


def _input_norm(config: Eagle3Config, features: int) -> nn.Module | None:
    """What is done to the states of so many layers before they are fused. Raises ValueError."""
    if config.fc_norm and config.norm_before_fc:
        raise ValueError("norms of the target's states both together and one by one; expected one of the two")
    if config.fc_norm:
        return _EachNorm(head_norm(config.target_width, config.layer) for _ in range(features))
    return head_norm(features * config.target_width, config.layer) if config.norm_before_fc else None


class _PairLayer(nn.Module):
    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        layer = config.layer
        self.norm_before_residual = config.norm_before_residual
        self.hidden_norm = head_norm(layer.hidden_size, layer)
        self.input_layernorm = head_norm(layer.hidden_size, layer)
        self.post_attention_layernorm = head_norm(layer.hidden_size, layer)
        self.self_attn = _PairAttention(layer)
        self.mlp = HeadMlp(layer)

    def project(self, embedded: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What attention projects (..., 2E) and what it adds to (..., E), from embeddings and states (..., E)."""
        normed = self.hidden_norm(hidden)
        residual = normed if self.norm_before_residual else hidden
        return torch.cat((self.input_layernorm(embedded), normed), dim=-1), residual

    def finish(self, attended: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The output (..., E) from what the heads attended to (..., H * D)."""
        x = residual + self.self_attn.o_proj(attended)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class _PairAttention(nn.Module):
    def __init__(self, layer: LayerFile) -> None:
        super().__init__()
        queries, keys = layer.num_attention_heads * layer.head_dim, layer.num_key_value_heads * layer.head_dim
        bias = layer.attention_bias
        self.head_dim, self.scaling = layer.head_dim, 1 / math.sqrt(layer.head_dim)
        self.q_proj = nn.Linear(2 * layer.hidden_size, queries, bias=bias)
        self.k_proj = nn.Linear(2 * layer.hidden_size, keys, bias=bias)
        self.v_proj = nn.Linear(2 * layer.hidden_size, keys, bias=bias)
        self.o_proj = nn.Linear(queries, layer.hidden_size, bias=bias)


class HeadMlp(nn.Module):
    """Gated SiLU."""

    def __init__(self, layer: LayerFile) -> None:
        """The weights lie where torch's default device says."""
        super().__init__()
        self.gate_proj = nn.Linear(layer.hidden_size, layer.intermediate_size, bias=False)
        self.up_proj = nn.Linear(layer.hidden_size, layer.intermediate_size, bias=False)
        self.down_proj = nn.Linear(layer.intermediate_size, layer.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., E) to (..., E)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class HeadRotary(nn.Module):
    """Cosines and sines (B, T, D) of positions (B, T), in the dtype of ``x``."""

    rope_type = "default"
    """For :class:`treeagent.backends.seed.executor.rotation.Rotation`: the table depends on no text."""

    def __init__(self, layer: LayerFile) -> None:
        """Raises ValueError for positions that depend on the text's length."""
        super().__init__()
        kind = str(layer.rope_parameters.get("rope_type", "default"))
        if kind not in FIXED:
            raise ValueError(f"rotary positions of the kind {kind!r}; expected one of {', '.join(FIXED)}")
        self._scale = 1.0
        if kind == "default":
            exponents = torch.arange(0, layer.head_dim, 2, dtype=torch.float, device="cpu") / layer.head_dim
            frequencies: torch.Tensor = 1.0 / (float(layer.rope_parameters["rope_theta"]) ** exponents)
        else:
            frequencies, self._scale = _scaled(kind, layer)
        self._frequencies = nn.Buffer(frequencies, persistent=False)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        angles = positions[..., None].float() * self._frequencies.to(x.device, torch.float)
        both = torch.cat((angles, angles), dim=-1)
        return (both.cos() * self._scale).to(x.dtype), (both.sin() * self._scale).to(x.dtype)


def _scaled(kind: str, layer: LayerFile) -> tuple[torch.Tensor, float]:
    """Frequencies and scale of longer texts, as transformers computes them."""
    from transformers import LlamaConfig, modeling_rope_utils  # noqa: PLC0415  # for few heads only

    functions: Any = modeling_rope_utils.ROPE_INIT_FUNCTIONS
    with torch.device("cpu"):  # networks are made without memory, and these numbers are needed
        frequencies, scale = functions[kind](LlamaConfig(**layer.model_dump()), torch.device("cpu"))
    return frequencies, float(scale)


def head_norm(width: int, layer: LayerFile) -> nn.RMSNorm:
    """Of so many numbers."""
    return nn.RMSNorm(width, eps=layer.rms_norm_eps)


def original_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint under the names of this network, which ``speculators`` calls otherwise."""
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    starts = {"layers.0.": "midlayer.", "midlayer.0.": "midlayer.", "fc_norm.": "input_norm."}
    named: dict[str, torch.Tensor] = {}
    for name, tensor in bare.items():
        start = next((start for start in starts if name.startswith(start)), "")
        named[starts.get(start, "") + name.removeprefix(start)] = tensor
    return named
