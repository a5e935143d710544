"""Loads a causal language model and its tokenizer with transformers; an error is one paragraph with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from treeagent.errors import ModelError

from .device_memory import fits_on
from .gguf_weights import check_types
from .model import CACHES, DTYPES, Model
from .precision import network_dtype
from .quantized import of_quantized, quantization_of
from .reward_head import KINDS, reward_head
from .sources import explained, setting, source_of
from .torch_private import is_stateful, supports_sdpa

PARAMETERS_PER_BYTE = 10
"""More than any quantisation stores."""


def load_model(where: Path | str, dtype: str, device: torch.device) -> Model:
    """The model of a folder, a .gguf file or a hub id, on a device. Raises ModelError."""
    source = source_of(where)
    with explained(where, "its configuration"):
        config = transformers.AutoConfig.from_pretrained(**source)
        text = config.get_text_config(decoder=True)
    _check_causal(where, config)
    _check_size(where, text)
    attention = _attention_of(where, config)
    method = quantization_of(where, config)
    head = reward_head(where, DTYPES.get(dtype, torch.float32))  # of the hub only where it is in the cache already
    source |= {"dtype": DTYPES.get(dtype, torch.float32), "attn_implementation": attention}
    if method is not None:
        source["device_map"] = {"": device}  # libraries of quantised models lay weights out for the device at load
    if "gguf_file" not in source:
        source["config"] = config  # with it, an attention that config.json names does not prevail over ours
    else:
        source["quantization_config"] = transformers.GgufConfig(dequantize=True)
    quiet = no_report() if head is not None or _is_reward_model(config) else nullcontext()
    with fits_on(where, device), of_quantized(where, method), quiet:
        network, missing = _read_network(where, source)
    head = reward_head(where, network.dtype) if head is None and isinstance(where, str) else head
    if head is not None:
        network.lm_head = head
        missing -= {"lm_head.weight"}
    elif _is_reward_model(config):
        raise ModelError(
            f"the model {where} is no process reward model ({_said(config)}): its *.safetensors have no reward head, "
            "such as score.weight or v_head.summary.weight"
        )
    if missing:
        raise ModelError(
            f"the model {where} lacks {len(missing)} of its weights (such as {min(missing)}), which would run as "
            "random numbers. The checkpoint is incomplete or of another architecture than its config.json says."
        )
    arguments = _arguments_of(where, network)
    with explained(where, "its configuration"):
        decoder = network.config.get_text_config(decoder=True)
    ends = _ends(where, network.generation_config) | _ends(where, text)
    context = setting(where, text, "max_position_embeddings", int)
    with fits_on(where, device):
        network = (network if method is not None else network.to(device)).eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    attention_dtype = network_dtype(where, network, dtype, device)
    return Model(
        network, decoder, device, ends, context, arguments, parameters, attention_dtype, rewards=head is not None
    )


def _read_network(where: Path | str, source: dict[str, Any]) -> tuple[Any, set[str]]:
    """The network, and the names of weights that the checkpoint lacks. Raises ModelError."""
    try:
        with explained(where, "its weights"), no_progress_bar():
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(**source, output_loading_info=True)
    except ModelError:
        if isinstance(where, Path) and "gguf_file" in source:
            check_types(where)
        raise
    network, report = loaded
    return network, set(report["missing_keys"])


def _arguments_of(where: Path | str, network: Any) -> frozenset[str]:
    """The arguments of the network's forward pass. Raises ModelError for one whose rows cannot be batched."""
    arguments = frozenset(inspect.signature(network.forward).parameters)
    # A recurrent model's state takes the padding of a batch for text; it is told by having no positions.
    recurrent = is_stateful(network) and "position_ids" not in arguments
    if "attention_mask" not in arguments or arguments.isdisjoint(CACHES) or recurrent:
        raise ModelError(
            f"the model {where} ({type(network).__name__}) keeps no attention cache that can be batched here. "
            "Expected a transformer, such as Llama, Qwen, Mistral, Gemma or GPT-2."
        )
    return arguments


def _ends(where: Path | str, config: Any) -> frozenset[int]:
    """The tokens that end a text by a configuration; there may be no configuration. Raises ModelError."""
    end = setting(where, config, "eos_token_id", int, list)
    tokens = [end] if isinstance(end, int) else end or []
    if not all(isinstance(token, int) for token in tokens):
        raise ModelError(f"the model {where} has eos_token_id {end!r} in its configuration, expected numbers of tokens")
    return frozenset(tokens)


def _check_causal(where: Path | str, config: Any) -> None:
    """Refuse models that do not continue a text, which transformers would load with random or missing parts."""
    kinds = [str(kind) for kind in setting(where, config, "architectures", list) or []]
    said = _said(config)
    if setting(where, config, "is_encoder_decoder", bool):
        raise ModelError(
            f"the model {where} is an encoder-decoder model ({said}). Only decoder-only language models can run here: "
            "Llama, Qwen, Mistral, Gemma, GPT-2 and their like."
        )
    known = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    seeing = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES  # of the known ones the text part is loaded
    values = [*known.values(), *seeing.values()]
    names = {name for value in values for name in ([value] if isinstance(value, str) else value)}
    if config.model_type not in known or (kinds and not names.intersection(kinds) and not _is_reward_model(config)):
        raise ModelError(
            f"the model {where} is no causal language model ({said}). Expected an architecture such as "
            "LlamaForCausalLM or Qwen2ForCausalLM."
        )


def _is_reward_model(config: Any) -> bool:
    """Whether ``config.json`` says so; others may have a head all the same."""
    return any(str(kind).endswith(KINDS) for kind in getattr(config, "architectures", None) or [])


def _said(config: Any) -> str:
    kinds = [str(kind) for kind in getattr(config, "architectures", None) or []]
    return f"its config.json says {', '.join(kinds) or config.model_type}"


def _attention_of(where: Path | str, config: Any) -> str:
    """The attention to ask for by name: one that ``config.json`` names could be code of a hub repository."""
    with explained(where, "its architecture"):  # imports the module of the network
        network = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return "sdpa" if supports_sdpa(network) else "eager"


def _check_size(where: Path | str, text: Any) -> None:
    """Refuse a local configuration of far more parameters than there are weights: it would only fill memory."""
    names = ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size")
    values = [setting(where, text, name, object) for name in names]
    width, layers, words, inner = (value if isinstance(value, int) else 0 for value in values)  # may be a list by layer
    files = [where] if isinstance(where, Path) and where.is_file() else []
    if isinstance(where, Path) and where.is_dir():
        files = [path for path in where.iterdir() if path.suffix in (".safetensors", ".bin")]
    size = sum(path.stat().st_size for path in files)
    at_least = width * (words + layers * (inner + 1))
    if files and at_least > PARAMETERS_PER_BYTE * max(size, 2**20):
        raise ModelError(
            f"the model {where} cannot be whole: its configuration says at least {at_least:,} parameters, its weights "
            f"have {size:,} bytes"
        )


@contextmanager
def no_report() -> Iterator[None]:
    """Switch off transformers' report of weights that a causal model lacks, and of those that it does not know."""
    logs: Any = transformers_logging
    before = logs.get_verbosity()
    logs.set_verbosity_error()
    try:
        yield
    finally:
        logs.set_verbosity(before)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Switch off the progress bars of transformers, which would break a live display."""
    bars: Any = transformers_logging
    if not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()
