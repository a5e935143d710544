"""Natural-log probabilities of a few tokens, without the seven small operations that torch takes for them."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

import torch

from . import library

_POINTER, _COUNT, _SIZE = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_KERNEL = library.Signature("log_probabilities", None, (_POINTER, _SIZE, _POINTER, _POINTER, _COUNT, _COUNT, _POINTER))


def log_probabilities(logits: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float] | None:
    """Those of ``tokens`` in ``rows`` of ``logits`` (R, V); None where the kernels do not compute them.

    Raises IndexError for rows and tokens that ``logits`` do not have, and ValueError where they differ in number.
    """
    if logits.device.type != "cpu" or logits.dtype != torch.float32 or not logits.is_contiguous():
        return None
    compute = library.optional(_KERNEL)
    if compute is None:
        return None
    at, of, found = array("q", rows), array("q", tokens), array("d", bytes(8 * len(rows)))
    for name, asked, size in (("row", at, logits.shape[0]), ("token", of, logits.shape[1])):
        if asked and not 0 <= min(asked) <= max(asked) < size:
            raise IndexError(f"expected {name}s from 0 to {size - 1}, not from {min(asked)} to {max(asked)}")
    if len(at) != len(of):
        raise ValueError(f"expected a token for each of {len(at)} rows, not {len(of)} tokens")
    compute(
        logits.data_ptr(),
        logits.shape[1],
        at.buffer_info()[0],
        of.buffer_info()[0],
        len(rows),
        torch.get_num_threads(),
        found.buffer_info()[0],
    )
    return found.tolist()
