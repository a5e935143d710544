"""The C library's heap: what tensors and Python have freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def trim_heap() -> None:
    """Return free pages of the heap to the system (glibc's ``malloc_trim``); does nothing with another C library.

    Passes of changing sizes leave holes of tens of MiB, which glibc keeps.
    """
    trim = _find_trim()
    if trim is not None:
        trim(0)


@cache
def _find_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # such as musl's
        return None
    return trim
