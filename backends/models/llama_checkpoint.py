"""Reads the folder of a plain Llama model without transformers, for engines that compute by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from .llama_network import LlamaConfigFile, LlamaNetwork
from .model import DTYPES, Model
from .precision import network_dtype

WEIGHTS = "model.safetensors"
"""The one file of weights; larger models have several, and an index."""
OTHER_PARTS = ("model.safetensors.index.json", "adapter_config.json")
"""Files that say that there is more to a model."""
_TENSORS = 9
"""Weights of a layer."""


class _GenerationFile(BaseModel):
    """What is read of ``generation_config.json``."""

    model_config = ConfigDict(extra="ignore", strict=True)

    eos_token_id: int | list[int] | None = None


def load_plain_llama(where: Path | str, dtype: str, device: torch.device) -> Model | None:
    """The model of a folder in transformers' format; None for any other source and any other or damaged model.

    Its forward has no attention cache. Raises ModelError where ``dtype`` does not run on the device.
    """
    config = None if isinstance(where, str) else plain_config(where)
    if config is None or not isinstance(where, Path):
        return None
    try:
        generation = where / "generation_config.json"
        more = _GenerationFile.model_validate_json(generation.read_bytes()) if generation.exists() else None
        network = _network(where / WEIGHTS, config, DTYPES.get(dtype, torch.float32), device)
    except (OSError, ValidationError, SafetensorError):
        return None
    if network is None:
        return None
    ends = _tokens(config.eos_token_id) | _tokens(None if more is None else more.eos_token_id)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    attention_dtype = network_dtype(where, network, dtype, device)
    arguments = frozenset({"input_ids", "use_cache"})
    return Model(network, config, device, ends, config.max_position_embeddings, arguments, parameters, attention_dtype)


def plain_config(folder: Path) -> LlamaConfigFile | None:
    """The configuration of a folder with a plain Llama model in one file of weights; None for every other."""
    if not (folder / WEIGHTS).is_file() or any((folder / name).exists() for name in OTHER_PARTS):
        return None
    try:
        config = LlamaConfigFile.model_validate_json((folder / "config.json").read_bytes())
    except (OSError, ValidationError):
        return None
    fits = config.num_attention_heads % config.num_key_value_heads == 0 and config.head_dim % 2 == 0
    # transformers refuses this one
    return config if fits and config.hidden_size % config.num_attention_heads == 0 else None


def _network(path: Path, config: LlamaConfigFile, dtype: torch.dtype, device: torch.device) -> LlamaNetwork | None:
    """The network with the weights of a file; None where they are others than the configuration says."""
    with safe_open(path, "pt") as file:
        names = frozenset(file.keys())
        if len(names) != config.num_hidden_layers * _TENSORS + (2 if config.tie_word_embeddings else 3):
            return None  # before that many layers are made
        network = LlamaNetwork(config)
        shapes: dict[str, Any] = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        if config.tie_word_embeddings:
            del shapes["lm_head.weight"]
        if shapes != {name: file.get_slice(name).get_shape() for name in names}:
            return None
        tensors = {name: nn.Parameter(file.get_tensor(name).to(device, dtype, copy=True)) for name in names}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]  # one parameter in two places
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _tokens(ends: int | list[int] | None) -> frozenset[int]:
    return frozenset([ends] if isinstance(ends, int) else ends or [])
