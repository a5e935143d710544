"""What the engine needs of an architecture, as far as a class of networks and a configuration show it."""

from __future__ import annotations

import inspect
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import transformers

from treeagent.errors import ModelError, UnsupportedModelError

from ...models.int8_network import LLAMA_FAMILY
from ...models.sources import explained, setting, size_setting, source_of
from ...models.torch_private import supports_custom_attention
from .state_layers.registry import LAYER_TYPES, state_kind


def check_files(where: Path | str, model: str) -> None:
    """Refuse a model by its configuration alone, which spares reading its weights.

    Raises UnsupportedModelError, and ModelError where the hub cannot be reached. Files that are missing or damaged are
    left to the loader.
    """
    try:
        with explained(where, "its configuration"):
            whole = transformers.AutoConfig.from_pretrained(**source_of(where))
            config = whole.get_text_config(decoder=True)
        why = _shown_by(where, whole, config)
    except ModelError:
        if isinstance(where, Path):
            return
        raise  # the loader would wait for the network again
    if why is not None:
        raise UnsupportedModelError(f"the model {model} cannot run in the seed engine: {why}", why)


def fault_of(where: Path | str, network: Any, arguments: AbstractSet[str], config: Any) -> str | None:
    """Why a network, or a class of networks, with these arguments of its forward cannot run; None where it may."""
    own = state_kind(network)
    if not supports_custom_attention(network) and own is None:
        return "its attention cannot be replaced (it does not use transformers' attention interface)"
    if not {"logits_to_keep", "position_ids"} <= arguments:
        return "its forward takes no position_ids or no logits_to_keep"
    kinds = set(setting(where, config, "layer_types", list, tuple) or [])
    strange = kinds - {"full_attention", "sliding_attention"} - ({own.kind} if own is not None else set())
    return f"it has layers of another kind ({', '.join(sorted(strange))})" if strange else None


def windows_of(where: Path | str, config: Any, layers: int) -> list[int | None]:
    """The sliding window of each layer by the configuration; None for a layer that attends to the whole text."""
    kinds = setting(where, config, "layer_types", list, tuple)
    window: int | None = setting(where, config, "sliding_window", int)
    uses = setting(where, config, "use_sliding_window", bool)
    if window is None or (kinds is None and uses is False):
        return [None] * layers
    return [window if kinds is None or kinds[layer] == "sliding_attention" else None for layer in range(layers)]


def heads_of(where: Path | str, config: Any, layers: int) -> list[tuple[int, int]]:
    """Key-value heads and their dimension, by layer, (0, 0) where a layer has a state in their place.

    Models such as Gemma 4 have settings of their own for each layer.
    """
    several = getattr(config, "per_layer_config", None)
    kinds = setting(where, config, "layer_types", list, tuple) or ["full_attention"] * layers
    return [
        (0, 0) if kinds[layer] in LAYER_TYPES else _heads(where, several[layer] if several else config)
        for layer in range(layers)
    ]


def _heads(where: Path | str, config: Any) -> tuple[int, int]:
    heads = size_setting(where, config, "num_attention_heads")
    dim = setting(where, config, "head_dim", int) or size_setting(where, config, "hidden_size") // heads
    return setting(where, config, "num_key_value_heads", int) or heads, dim


def _shown_by(where: Path | str, config: Any, text: Any) -> str | None:
    """What :func:`fault_of` says of the class that a configuration names; None for one without a class here."""
    kinds = set(setting(where, config, "architectures", list, tuple) or [])
    if not kinds - LLAMA_FAMILY:
        return None  # the import of such a class takes longer than all of this
    from transformers.models.auto import modeling_auto  # noqa: PLC0415  takes seconds, and Llama models need none of it

    with explained(where, "the class of its network"):
        network: Any = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if not hasattr(network, "forward"):
        return None
    return fault_of(where, network, set(inspect.signature(network.forward).parameters), text)
