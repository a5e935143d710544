"""What the engine needs of an architecture, as far as a model's configuration shows it before its weights are read.

The load checks the same of the network, and tries it.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from treeagent.errors import ModelError, UnsupportedModelError

from ...models.int8_network import LLAMA_FAMILY
from ...models.torch_private import supports_custom_attention


def check_files(where: Path | str, model: str) -> None:
    """Refuse a model by its configuration alone, which spares reading its weights.

    Raises UnsupportedModelError also for a model whose texts the engine would limit to a sliding window, and ModelError
    where the hub cannot be reached. Files that are missing or damaged are left to the loader.
    """
    if _runs_plainly(where):
        return
    import transformers  # noqa: PLC0415  # most models do not come here, and the import takes seconds
    from transformers.models.auto import modeling_auto  # noqa: PLC0415

    from ...models.loader import NO_CODE, explained  # noqa: PLC0415

    source = {**NO_CODE, "pretrained_model_name_or_path": str(where)}
    if isinstance(where, Path) and where.is_file():
        source |= {"pretrained_model_name_or_path": str(where.parent), "gguf_file": where.name}
    try:
        with explained(where, "its configuration"):
            whole = transformers.AutoConfig.from_pretrained(**source)
            config = whole.get_text_config(decoder=True)
            network = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(whole), None)
            why = _fault_of(network, config) or _limit_of(config)
    except ModelError:
        if isinstance(where, Path):
            return
        raise  # the loader would wait for the network again
    if why is not None:
        raise UnsupportedModelError(f"the model {model} cannot run in the seed engine: {why}", why)


def _runs_plainly(where: Path | str) -> bool:
    """Whether a folder holds a model of the Llama family without sliding windows."""
    if not isinstance(where, Path) or not where.is_dir():
        return False
    try:
        config = json.loads((where / "config.json").read_bytes())
        return set(config["architectures"]) <= LLAMA_FAMILY and not config.get("sliding_window")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fault_of(network: Any, config: Any) -> str | None:
    """Why a class of networks with this configuration cannot run; None where it may, or where the class is unknown."""
    if not hasattr(network, "forward"):
        return None
    if not supports_custom_attention(network):
        return "its attention cannot be replaced (it does not use transformers' attention interface)"
    if not {"logits_to_keep", "position_ids"} <= set(inspect.signature(network.forward).parameters):
        return "its forward takes no position_ids or no logits_to_keep"
    strange = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    return f"it has layers of another kind ({', '.join(sorted(strange))})" if strange else None


def _limit_of(config: Any) -> str | None:
    """What the engine would limit texts to, where layers slide over a window that is shorter than the context."""
    context = getattr(config, "max_position_embeddings", None)
    kinds, window = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds is not None else getattr(config, "use_sliding_window", True)
    if window is None or not slides or (context is not None and context <= window):
        return None
    beyond = "" if context is None else f", and its context is {context}"
    return f"the engine limits texts to the model's sliding window of {window} tokens{beyond}"
