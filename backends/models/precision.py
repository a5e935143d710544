"""Puts layers of few bits into a network where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from treeagent.errors import ModelError

from .int4 import Int4Linear
from .int8 import Int8Linear, UnsupportedLinear, quantize
from .int8_network import make_target
from .model import INT4_DRAFT, INT8, INT8_DRAFT


def network_dtype(where: Path | str, network: Any, dtype: str, device: torch.device) -> torch.dtype:
    """Replace a network's linear layers where ``dtype`` asks for few bits; the dtype of its attention.

    Raises ModelError.
    """
    if dtype not in (INT8, INT8_DRAFT, INT4_DRAFT):
        return network.dtype  # type: ignore[no-any-return]  # the network is of transformers
    bits = INT4_DRAFT if dtype == INT4_DRAFT else INT8
    if device.type != "cpu":
        raise ModelError(f"dtype={bits} runs on the CPU only, not on {device}. Use bfloat16 or float16 there.")
    try:
        if dtype == INT8:
            return make_target(network)
        quantize(network, Int4Linear.of if dtype == INT4_DRAFT else Int8Linear.of)
    except UnsupportedLinear as error:
        raise ModelError(
            f"the model {where} ({type(network).__name__}) cannot run in {bits}: {error}. Only torch.nn.Linear is "
            "replaced; use dtype=float32 or bfloat16."
        ) from error
    return network.dtype  # type: ignore[no-any-return]
