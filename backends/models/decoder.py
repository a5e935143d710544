"""Loads a model for an engine that takes the weights and computes by itself."""

from __future__ import annotations

from pathlib import Path

import torch

from .device_memory import fits_on
from .llama_checkpoint import load_plain_llama
from .model import Model


def load_decoder(where: Path | str, dtype: str, device: torch.device) -> Model:
    """The model of a folder, a .gguf file or a hub id, on a device; its forward may lack an attention cache.

    Raises ModelError.
    """
    with fits_on(where, device):
        model = load_plain_llama(where, dtype, device)
    if model is None:
        from .loader import load_model  # noqa: PLC0415  # 100 MiB and seconds that a plain Llama model does not need

        model = load_model(where, dtype, device)
    return model
