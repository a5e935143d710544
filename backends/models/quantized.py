"""Checkpoints with quantised weights (AWQ, GPTQ, FP8 and others), which transformers loads with a library of each kind.

Where the library is there, the layers are its own, and nothing here takes their weights. FP8 with scales by block
needs none: without a GPU for it transformers expands the weights to the dtype that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from treeagent.errors import ModelError


def quantization_of(where: Path | str, config: Any) -> str | None:
    """The kind of a model's quantised weights by its configuration; None for plain ones.

    Raises ModelError for a kind that transformers does not know: it would read the weights as if they were plain.
    """
    said = getattr(config, "quantization_config", None)
    if said is None:
        return None
    fields: dict[str, Any] = said if isinstance(said, dict) else said.to_dict()
    method = str(getattr(fields.get("quant_method"), "value", fields.get("quant_method")))
    bits = {"load_in_8bit": "bitsandbytes_8bit", "load_in_4bit": "bitsandbytes_4bit"}
    method = next((kind for name, kind in bits.items() if fields.get(name)), method)
    if method not in AUTO_QUANTIZER_MAPPING:
        raise ModelError(
            f"the model {where} has quantised weights of the kind {method!r}, which transformers does not know. "
            "Give the model in another format, such as safetensors in bfloat16, AWQ, GPTQ, FP8 or GGUF."
        )
    return method


@contextmanager
def of_quantized(where: Path | str, method: str | None) -> Iterator[None]:
    """Say of a quantised model that fails to load that it is one, and what transformers lacks.

    ``method`` is None for a plain one, of which nothing is said. Raises ModelError.
    """
    try:
        yield
    except ModelError as error:
        cause = error.__cause__
        if method is None or not isinstance(cause, (ImportError, RuntimeError)):
            raise
        raise ModelError(
            f"the model {where} has quantised weights ({method}) that cannot be loaded here: "
            f"{' '.join(str(cause).split())[:300]}"
        ) from cause
