"""A Llama network in few lines, with the parts and numbers of that of transformers (``LlamaForCausalLM``).

The seed engine takes the weights out of a network and computes by itself. To import transformers' networks for this
costs 100 MiB of memory and seconds of start. The modules here have the names of theirs, so that 8-bit layers and the
engine's decoder find what they look for; the plain forward is what the decoder is held against at load. Only what
:class:`LlamaConfigFile` allows is computed: rotary positions of the plain kind, no biases.
B texts of T tokens, H query heads, h key-value heads, D head dimension, E hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import nn
from torch.nn import functional as F


class PlainRotary(BaseModel):
    """Rotary positions that depend on nothing but the base."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    rope_theta: float = Field(gt=0, allow_inf_nan=False)
    rope_type: Literal["default"]


class LlamaConfigFile(BaseModel):
    """The ``config.json`` of a Llama model that :class:`LlamaNetwork` computes as transformers does; no other passes.

    The fields of type Any change nothing in a text's logits.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    architectures: tuple[Literal["LlamaForCausalLM"]] = Field(strict=False)
    model_type: Literal["llama"]
    hidden_act: Literal["silu"]
    attention_bias: Literal[False]
    mlp_bias: Literal[False]
    tie_word_embeddings: bool
    rope_parameters: PlainRotary
    rms_norm_eps: float = Field(gt=0, allow_inf_nan=False)
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    max_position_embeddings: PositiveInt
    eos_token_id: int | list[int] | None
    exits: list[PositiveInt] | None = None
    """Layers after which a draft model has an exit, see :mod:`treeagent.backends.training.train_early_exit`."""

    attention_dropout: Any = None
    bos_token_id: Any = None
    dtype: Any = None
    initializer_range: Any = None
    name: Any = Field(None, alias="_name_or_path")
    pad_token_id: Any = None
    pretraining_tp: Any = None
    transformers_version: Any = None
    unk_token_id: Any = None
    use_cache: Any = None

    def to_dict(self) -> dict[str, Any]:
        """As transformers' configurations have it."""
        return self.model_dump()


class Output(NamedTuple):
    """What a forward gives."""

    logits: torch.Tensor
    """(B, T, V)."""


class LlamaNetwork(nn.Module):
    """The whole network; its weights lie on torch's ``meta`` device until they are loaded."""

    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        self.config = config
        self.model = _Decoder(config)
        self.lm_head = _linear(config.hidden_size, config.vocab_size)

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        dtype: torch.dtype = self.model.embed_tokens.weight.dtype
        return dtype

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Output:
        """The logits of texts ``input_ids`` (B, T); as in transformers, whose cache this network does not have."""
        return Output(self.lm_head(self.model(input_ids)))


class _Decoder(nn.Module):
    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        shape = (config.vocab_size, config.hidden_size)
        # nn.Embedding itself draws numbers, which imports torch's compiler (60 MiB) even on the device "meta"
        weight = torch.empty(shape, device="meta")
        self.embed_tokens = nn.Embedding(*shape, _weight=weight)
        self.layers = nn.ModuleList([_DecoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = _RmsNorm(config)
        self.rotary_emb = _Rotary(config)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.embed_tokens(input_ids)  # (B, T, E)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        rotation = self.rotary_emb(x, positions)
        for layer in self.layers:
            x = layer(x, rotation)
        return self.norm(x)  # type: ignore[no-any-return]


class _DecoderLayer(nn.Module):
    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(config)
        self.mlp = _GatedMlp(config)
        self.input_layernorm = _RmsNorm(config)
        self.post_attention_layernorm = _RmsNorm(config)

    def forward(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotation)[0]
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class _SelfAttention(nn.Module):
    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self._groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        queries, keys = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = _linear(config.hidden_size, queries)
        self.k_proj = _linear(config.hidden_size, keys)
        self.v_proj = _linear(config.hidden_size, keys)
        self.o_proj = _linear(queries, config.hidden_size)

    def forward(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, None]:
        q, k, v = (
            projected.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)  # (B, H or h, T, D)
            for projected in (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        )
        cos, sin = (part[:, None] for part in rotation)
        q, k = (states * cos + _half_turned(states) * sin for states in (q, k))
        k, v = (states.repeat_interleave(self._groups, dim=1) for states in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scaling)
        return self.o_proj(attended.transpose(1, 2).reshape(*x.shape[:2], -1)), None


class _GatedMlp(nn.Module):
    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        self.gate_proj = _linear(config.hidden_size, config.intermediate_size)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size)
        self.act_fn = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class _RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight over rows (..., E), in float32 whatever the dtype of x."""

    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size, device="meta"))
        self.variance_epsilon = config.rms_norm_eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * wide.to(x.dtype)


class _Rotary(nn.Module):
    """Cosines and sines (B, T, D) of positions (B, T), from frequencies in float32, in the dtype of ``x``."""

    rope_type = "default"

    def __init__(self, config: LlamaConfigFile) -> None:
        super().__init__()
        dim = config.head_dim
        exponents = torch.arange(0, dim, 2, dtype=torch.float, device="cpu") / dim
        self._frequencies = nn.Buffer(1.0 / (config.rope_parameters.rope_theta**exponents), persistent=False)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = positions[..., None].float() * self._frequencies.to(x.device, torch.float)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def _half_turned(states: torch.Tensor) -> torch.Tensor:
    first, second = states.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False, device="meta")
