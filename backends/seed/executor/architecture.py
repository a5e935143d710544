"""What the engine needs of an architecture, as far as a class of networks and a configuration show it."""

from __future__ import annotations

import inspect
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto import modeling_auto

from treeagent.errors import ModelError, UnsupportedModelError

from ...models.int8_network import LLAMA_FAMILY
from ...models.loader import NO_CODE, explained
from ...models.torch_private import supports_custom_attention


def check_files(where: Path | str, model: str) -> None:
    """Refuse a model by its configuration alone, which spares reading its weights.

    Raises UnsupportedModelError also for a model whose texts the engine would limit to a sliding window, and ModelError
    where the hub cannot be reached. Files that are missing or damaged are left to the loader.
    """
    source = {**NO_CODE, "pretrained_model_name_or_path": str(where)}
    if isinstance(where, Path) and where.is_file():
        source |= {"pretrained_model_name_or_path": str(where.parent), "gguf_file": where.name}
    try:
        with explained(where, "its configuration"):
            whole = transformers.AutoConfig.from_pretrained(**source)
            config = whole.get_text_config(decoder=True)
            why = _shown_by(whole, config)
            context = getattr(config, "max_position_embeddings", None)
            window = window_of(context, config)
    except ModelError:
        if isinstance(where, Path):
            return
        raise  # the loader would wait for the network again
    if why is None and window is not None:
        beyond = "" if context is None else f", and its context is {context}"
        why = f"the engine limits texts to the model's sliding window of {window} tokens{beyond}"
    if why is not None:
        raise UnsupportedModelError(f"the model {model} cannot run in the seed engine: {why}", why)


def fault_of(network: Any, arguments: AbstractSet[str], config: Any) -> str | None:
    """Why a network, or a class of networks, with these arguments of its forward cannot run; None where it may."""
    if not supports_custom_attention(network):
        return "its attention cannot be replaced (it does not use transformers' attention interface)"
    if not {"logits_to_keep", "position_ids"} <= arguments:
        return "its forward takes no position_ids or no logits_to_keep"
    strange = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    return f"it has layers of another kind ({', '.join(sorted(strange))})" if strange else None


def window_of(stated: int | None, config: Any) -> int | None:
    """The window, where layers slide and it is shorter than the stated context.

    A sliding layer attends to all keys within its window, so texts are limited to the shortest window.
    """
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds is not None else getattr(config, "use_sliding_window", True)
    if window is None or not slides or (stated is not None and stated <= int(window)):
        return None
    return int(window)


def _shown_by(config: Any, text: Any) -> str | None:
    """What :func:`fault_of` says of the class that a configuration names; None for one without a class here."""
    kinds = set(getattr(config, "architectures", None) or [])
    if not kinds - LLAMA_FAMILY:
        return None  # the import of such a class takes longer than all of this
    network: Any = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if not hasattr(network, "forward"):
        return None
    return fault_of(network, set(inspect.signature(network.forward).parameters), text)
