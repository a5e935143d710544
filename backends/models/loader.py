"""Loads a causal language model and its tokenizer with transformers; an error is one paragraph with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from treeagent.errors import ModelError

from .int8 import UnsupportedLinear, quantize
from .int8_network import make_target
from .torch_private import is_stateful, supports_sdpa

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
DTYPE_NAMES = (*DTYPES, INT8)
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
"""Given to every loading function of transformers, which asks on standard input where it is left out."""

NEEDS_CODE = "trust_remote_code=True"
"""In the message of transformers about a model that brings code."""

PARAMETERS_PER_BYTE = 10
"""More than any quantisation stores."""

CACHES = ("cache", "past_key_values")
"""Names of the attention cache, that of transformers 5.24 first."""


@dataclass(frozen=True, slots=True)
class Model:
    """A causal language model ready to run."""

    network: Any
    """The transformers model, in evaluation mode."""
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
    window: int | None = None
    """The sliding window that an engine has cut the context to; None where the context is the model's own."""

    @property
    def cache(self) -> str:
        """Name of the attention cache among the forward's arguments and results."""
        return next(name for name in CACHES if name in self.arguments)


def load_model(where: Path | str, dtype: str, device: torch.device) -> Model:
    """The model of a folder, a .gguf file or a hub id, on a device. Raises ModelError."""
    source = _source(where)
    with explained(where, "its configuration"):
        config = transformers.AutoConfig.from_pretrained(**source)
        _check_causal(where, config)
        _check_size(where, config)
        attention = _attention_of(config)
    if "gguf_file" not in source:
        source["config"] = config  # with it, an attention that config.json names does not prevail over ours
    else:
        source["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with explained(where, "its weights"), no_progress_bar():
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            **source, dtype=DTYPES.get(dtype, torch.float32), attn_implementation=attention, output_loading_info=True
        )
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"the model {where} lacks {len(missing)} of its weights (such as {missing[0]}), which would run as random "
            "numbers. The checkpoint is incomplete or of another architecture than its config.json says."
        )
    arguments = frozenset(inspect.signature(network.forward).parameters)
    # A recurrent model's state takes the padding of a batch for text; it is told by having no positions.
    recurrent = is_stateful(network) and "position_ids" not in arguments
    if "attention_mask" not in arguments or arguments.isdisjoint(CACHES) or recurrent:
        raise ModelError(
            f"the model {where} ({type(network).__name__}) keeps no attention cache that can be batched here. "
            "Expected a transformer, such as Llama, Qwen, Mistral, Gemma or GPT-2."
        )
    network = network.to(device).eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    attention_dtype = network.dtype
    if dtype in (INT8, INT8_DRAFT):
        attention_dtype = _quantize(where, network, device, draft=dtype == INT8_DRAFT)
    ends: set[int] = set()
    with explained(where, "its configuration"):  # an attribute that differs between layers raises when it is read
        text_config = config.get_text_config(decoder=True)
        for holder in (network.generation_config, text_config):
            end = getattr(holder, "eos_token_id", None)
            ends.update([end] if isinstance(end, int) else end or [])
        context = getattr(text_config, "max_position_embeddings", None)
    return Model(network, device, frozenset(ends), context, arguments, parameters, attention_dtype)


def _quantize(where: Path | str, network: Any, device: torch.device, *, draft: bool) -> torch.dtype:
    """Put 8-bit layers into a network; the dtype of its attention. Raises ModelError."""
    if device.type != "cpu":
        raise ModelError(f"dtype=int8 runs on the CPU only, not on {device}. Use bfloat16 or float16 there.")
    try:
        if not draft:
            return make_target(network)
        quantize(network)
    except UnsupportedLinear as error:
        raise ModelError(
            f"the model {where} ({type(network).__name__}) cannot run in int8: {error}. Only torch.nn.Linear is "
            "replaced; use dtype=float32 or bfloat16."
        ) from error
    dtype: torch.dtype = network.dtype
    return dtype


def _source(where: Path | str) -> dict[str, Any]:
    """What transformers loads a model, its configuration and its tokenizer from; code beside them is never run."""
    if isinstance(where, Path) and where.is_file():
        return {**NO_CODE, "pretrained_model_name_or_path": str(where.parent), "gguf_file": where.name}
    if isinstance(where, Path) and not (where / "config.json").is_file():
        raise ModelError(
            f"the folder {where} is no model: it has no config.json. Expected a folder as written by transformers' "
            "save_pretrained (config.json, *.safetensors, tokenizer files), or the path of a .gguf file."
        )
    return {**NO_CODE, "pretrained_model_name_or_path": str(where)}


def _check_causal(where: Path | str, config: Any) -> None:
    """Refuse models that do not continue a text, which transformers would load with random or missing parts."""
    kinds = getattr(config, "architectures", None) or []
    said = f"its config.json says {', '.join(kinds) or config.model_type}"
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"the model {where} is an encoder-decoder model ({said}). Only decoder-only language models can run here: "
            "Llama, Qwen, Mistral, Gemma, GPT-2 and their like."
        )
    known = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    names = {name for value in known.values() for name in ([value] if isinstance(value, str) else value)}
    if config.model_type not in known or (kinds and not names.intersection(kinds)):
        raise ModelError(
            f"the model {where} is no causal language model ({said}). Expected an architecture such as "
            "LlamaForCausalLM or Qwen2ForCausalLM."
        )


def _attention_of(config: Any) -> str:
    """The attention to ask for by name: one that ``config.json`` names could be code of a hub repository."""
    network = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return "sdpa" if supports_sdpa(network) else "eager"


def _check_size(where: Path | str, config: Any) -> None:
    """Refuse a local configuration of far more parameters than there are weights: it would only fill memory."""
    text = config.get_text_config(decoder=True)
    width, layers, words, inner = (
        number if isinstance(number := getattr(text, name, 0), int) else 0
        for name in ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size")
    )
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
def explained(where: Path | str, part: str) -> Iterator[None]:
    """Turn what transformers, huggingface_hub, safetensors or gguf raise while they read a model into a ModelError.

    For a missing, damaged or foreign model they raise errors of nearly every kind.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if NEEDS_CODE in str(error):
            raise ModelError(
                f"the model {where} brings Python code of its own ('auto_map' in its config.json or "
                "tokenizer_config.json), which is not run. Expected an architecture that transformers knows by itself."
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason if len(reason) <= 300 else reason[:300] + " ..."
        if isinstance(where, Path):
            raise ModelError(f"cannot load the model {where}: {part} cannot be read ({reason})") from error
        raise ModelError(
            f"cannot load the model {where!r}: no such folder here, and {part} cannot be had from the Hugging Face hub "
            f"({reason}). Check the spelling and the network, or give a local folder; 'mini' needs neither."
        ) from error


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
