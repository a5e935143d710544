"""Greedy verification of all drafts of a pass in one call: the likeliest tokens through them, and their logarithms."""

from __future__ import annotations

import ctypes
from array import array
from typing import NamedTuple

import torch

from . import library

_POINTER, _COUNT, _SIZE = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_KERNEL = library.Signature(
    "follow_likeliest", _COUNT, (_POINTER, _SIZE, _COUNT, *(_POINTER,) * 4, _COUNT, *(_POINTER,) * 4)
)


class LikeliestPaths(NamedTuple):
    """The paths through all drafts, one after another."""

    counts: array[int]
    """For each draft how many tokens its path has: accepted ones and one more; 0 where logits are not finite."""
    rows: array[int]
    """The row of the logits of each token."""
    tokens: array[int]
    logprobs: array[float]
    """Natural-log probabilities of the tokens, untempered."""


def likeliest_paths(
    logits: torch.Tensor, first: array[int], sizes: array[int], drafted: array[int], parents: array[int]
) -> LikeliestPaths | None:
    """The paths of likeliest tokens, the lowest of equals, by ``logits`` (R, V); None where the kernels find none.

    A draft has ``sizes`` nodes (``drafted`` tokens and their ``parents``, all drafts one after another), and its rows
    of logits begin at ``first``.
    """
    if logits.dtype != torch.float32 or logits.device.type != "cpu" or not logits.is_contiguous():
        return None
    follow = library.optional(_KERNEL)
    if follow is None:
        return None
    most = len(sizes) + len(drafted)
    counts, rows, tokens = array("i", bytes(4 * len(sizes))), array("q", bytes(8 * most)), array("q", bytes(8 * most))
    logprobs = array("d", bytes(8 * most))
    follow(
        logits.data_ptr(),
        logits.shape[1],
        len(sizes),
        first.buffer_info()[0],
        sizes.buffer_info()[0],
        drafted.buffer_info()[0],
        parents.buffer_info()[0],
        torch.get_num_threads(),
        counts.buffer_info()[0],
        rows.buffer_info()[0],
        tokens.buffer_info()[0],
        logprobs.buffer_info()[0],
    )
    return LikeliestPaths(counts, rows, tokens, logprobs)
