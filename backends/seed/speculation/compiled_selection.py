"""The choice of nodes of :mod:`.goodput` in one call of the kernels: the same nodes, for all drafts of a round."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

from ..draft_arrays import DraftArrays
from ..drafters.base import EMPTY_LOAD, RoundLoad
from ..executor.pass_cost import PassCost
from ..kernels import library
from ..records import NO_DRAFT, Draft
from .calibration import AcceptanceEstimator

_POINTER, _COUNT, _SIZE, _REAL = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
_KERNEL = library.Signature(
    "select_nodes", _REAL, (_COUNT, *(_POINTER,) * 6, _REAL, _POINTER, *(_REAL,) * 3, _SIZE, _POINTER, _POINTER)
)


class _Cost(ctypes.Structure):
    """Seconds of a pass by its tokens and drafted nodes; the fields are those of ``selection.c``."""

    _fields_ = (
        ("knots", ctypes.c_int32),
        ("tokens", ctypes.c_void_p),
        ("seconds", ctypes.c_void_p),
        ("fixed", ctypes.c_double),
        ("each", ctypes.c_double),
        ("scale", ctypes.c_double),
        ("beside", ctypes.c_double),
    )


def select_compiled(
    drafts: Sequence[Draft],
    worths: Sequence[float],
    estimator: AcceptanceEstimator,
    cost: PassCost,
    most: int,
    others: RoundLoad = EMPTY_LOAD,
) -> tuple[list[Draft], float] | None:
    """:func:`.goodput.select` of drafts of one kind by its ``estimator``, and the summed values of their nodes.

    ``worths``: for each draft the worth of its tokens, see :mod:`.row_worth`.

    None without kernels, and where a pass of this size would be padded.
    """
    select = library.optional(_KERNEL)
    if select is None:
        return None
    arrays, each = DraftArrays.of(drafts), array("d", worths)
    estimator.settle()
    sizes, rows = arrays.sizes, len(drafts) + others.rows
    tokens, seconds = cost.knots
    addresses = tokens.buffer_info()[0], seconds.buffer_info()[0]
    line = _Cost(len(tokens), *addresses, *cost.line(rows), cost.scale, others.seconds)
    counts, nodes = array("i", bytes(4 * len(sizes))), array("i", bytes(4 * len(arrays.parents)))
    worth = select(
        len(sizes),
        sizes.buffer_info()[0],
        arrays.parents.buffer_info()[0],
        arrays.confidences.buffer_info()[0],
        each.buffer_info()[0],
        estimator.hits.buffer_info()[0],
        estimator.trials.buffer_info()[0],
        estimator.overall,
        ctypes.addressof(line),
        others.rows,
        others.tokens,
        others.nodes,
        most,
        counts.buffer_info()[0],
        nodes.buffer_info()[0],
    )
    if worth < 0:
        raise MemoryError("a selection has no memory")
    used = rows + others.nodes + sum(counts)
    if cost.padded(used) != used:
        return None
    if isinstance(drafts, DraftArrays):
        return arrays.parts(counts, nodes), worth
    kept, end = [], 0
    for draft, count in zip(drafts, counts, strict=True):
        begin, end = end, end + count
        kept.append(draft if count == len(draft) else draft.keep(nodes[begin:end].tolist()) if count else NO_DRAFT)
    return kept, worth
