"""Puts 8-bit layers into a network where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from treeagent.errors import ModelError

from .int8 import UnsupportedLinear, quantize
from .int8_network import make_target
from .model import INT8, INT8_DRAFT


def network_dtype(where: Path | str, network: Any, dtype: str, device: torch.device) -> torch.dtype:
    """Replace a network's linear layers where ``dtype`` asks for 8 bits; the dtype of its attention.

    Raises ModelError.
    """
    if dtype not in (INT8, INT8_DRAFT):
        return network.dtype  # type: ignore[no-any-return]  # the network is of transformers
    if device.type != "cpu":
        raise ModelError(f"dtype=int8 runs on the CPU only, not on {device}. Use bfloat16 or float16 there.")
    try:
        if dtype == INT8:
            return make_target(network)
        quantize(network)
    except UnsupportedLinear as error:
        raise ModelError(
            f"the model {where} ({type(network).__name__}) cannot run in int8: {error}. Only torch.nn.Linear is "
            "replaced; use dtype=float32 or bfloat16."
        ) from error
    return network.dtype  # type: ignore[no-any-return]
