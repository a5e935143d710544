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
from safetensors import SafetensorError
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from treeagent.errors import ModelError

from .torch_private import is_stateful

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

CACHES = ("cache", "past_key_values")
"""Names of the attention cache, that of transformers 5.24 first."""

# What transformers, huggingface_hub, safetensors and gguf raise for a missing, damaged or foreign model.
_LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)


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
    if "gguf_file" in source:
        source["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with explained(where, "its weights"), no_progress_bar():
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            **source, dtype=DTYPES[dtype], output_loading_info=True
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
    ends: set[int] = set()
    for holder in (network.generation_config, config.get_text_config(decoder=True)):
        end = getattr(holder, "eos_token_id", None)
        ends.update([end] if isinstance(end, int) else end or [])
    context = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return Model(network, device, frozenset(ends), context, arguments)


def _source(where: Path | str) -> dict[str, Any]:
    if isinstance(where, Path) and where.is_file():
        return {"pretrained_model_name_or_path": str(where.parent), "gguf_file": where.name}
    if isinstance(where, Path) and not (where / "config.json").is_file():
        raise ModelError(
            f"the folder {where} is no model: it has no config.json. Expected a folder as written by transformers' "
            "save_pretrained (config.json, *.safetensors, tokenizer files), or the path of a .gguf file."
        )
    return {"pretrained_model_name_or_path": str(where)}


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


@contextmanager
def explained(where: Path | str, part: str) -> Iterator[None]:
    """Convert errors of transformers while it reads a model to ModelError."""
    try:
        yield
    except _LOAD_ERRORS as error:
        reason = " ".join(str(error).split())
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
