"""Errors for want of memory, and what is said of a model that does not fit on its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from treeagent.errors import ModelError


def lacks_memory(error: BaseException | None) -> bool:
    """Whether memory was missing; of the host's memory torch says so in a RuntimeError that has no class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


@contextmanager
def fits_on(where: Path | str, device: torch.device) -> Iterator[None]:
    """Tell a device's lack of memory while a model is loaded as a ModelError, with what to do."""
    try:
        yield
    except (RuntimeError, MemoryError, ModelError) as error:
        if not lacks_memory(error) and not lacks_memory(error.__cause__):
            raise
        count = torch.cuda.device_count() if device.type == "cuda" else 0
        advice = "Give dtype=bfloat16, or quantised weights (AWQ, GPTQ, FP8)"
        if count > 1:
            advice += (
                f". A local backend uses one GPU: on all {count}, serve the model with vLLM or SGLang and tensor "
                "parallelism, and ask it with --backend openai"
            )
        raise ModelError(f"the model {where} does not fit into the memory of {device}. {advice}.") from error
