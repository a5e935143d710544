"""Natural-log probabilities of a few tokens, without the seven small operations that torch takes for them."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Sequence
from functools import cache

import torch

from . import library


def log_probabilities(logits: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float] | None:
    """Those of ``tokens`` in ``rows`` of ``logits`` (R, V); None where the kernels do not compute them."""
    if logits.device.type != "cpu" or logits.dtype != torch.float32 or not logits.is_contiguous():
        return None
    kernels = _kernels(os.environ.get(library.SWITCH))
    if kernels is None:
        return None
    at, of, found = array("q", rows), array("q", tokens), array("d", bytes(8 * len(rows)))
    kernels.log_probabilities(
        logits.data_ptr(),
        logits.shape[1],
        at.buffer_info()[0],
        of.buffer_info()[0],
        len(rows),
        torch.get_num_threads(),
        found.buffer_info()[0],
    )
    return found.tolist()


@cache
def _kernels(_switch: str | None) -> ctypes.CDLL | None:
    """The library with the types that the function takes; looked for again where the switch has changed."""
    try:
        kernels = library.load()
    except library.NoKernels:
        return None
    pointer, count, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    kernels.log_probabilities.argtypes = (pointer, size, pointer, pointer, count, count, pointer)
    kernels.log_probabilities.restype = None
    return kernels
