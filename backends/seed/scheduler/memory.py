"""Slots of the key-value pool for the next pass of live jobs."""

from __future__ import annotations

from collections.abc import Sequence

from treeagent.errors import BackendError

from ..executor.model_runner import ModelRunner
from ..kv_cache.page_table import CHUNK, PageTable
from ..kv_cache.pool import Slots
from ..kv_cache.radix_tree import OutOfMemory, RadixCache
from .jobs import Job

HEADROOM = 128
"""Slots for drafts that cached prefixes are evicted for: the nodes of the largest pass whose time is measured."""


def make_room(cache: RadixCache, live: Sequence[Job]) -> bool:
    """Evict cached prefixes until every live branch can take its next tokens, and drafts that must not be dropped.

    Where that is not enough, slots that branches hold in reserve are freed, and the result is False.
    """
    if not short_of_memory(cache, live):
        return True
    try:
        needed = _needed(live)
        cache.make_room(needed, needed + _reading(cache, live))
    except OutOfMemory:
        _free_reserves(live)
        return False
    return True


def short_of_memory(cache: RadixCache, live: Sequence[Job]) -> bool:
    """Whether too little is free for the next tokens of all branches, and for one that is read of a prompt."""
    reserved = sum([job.reserved for job in live])
    return cache.pool.short(reserved, reserved + _reading(cache, live)) > 0


def readable(cache: RadixCache, live: Sequence[Job], chunk: int) -> int:
    """How many prompt tokens, up to ``chunk``, can be read beside the next tokens of live branches.

    Cached prefixes, and windows of texts in use, are evicted for them where layers have windows.
    """
    windows = cache.pool.windows
    if windows is None:
        return chunk
    needed = _needed(live)
    unread = {node: known for job in live for branch in job.branches for node, known in branch.missing()}
    wanted = min(chunk, sum(len(node.tokens) - known for node, known in unread.items()))
    while short := cache.pool.short(needed, needed + wanted):
        if not cache.evict(short) and not windows.drop_snapshots(short):
            break
    return cache.pool.readable(chunk, needed)


def _needed(live: Sequence[Job]) -> int:
    """Slots to allocate for the next tokens of all branches, and drafts that must not be dropped."""
    needs = [need for job in live for need in zip(job.branches, job.widths, job.bounds, strict=True)]
    return sum(branch.slots_needed(width + bound) for branch, width, bound in needs)


def _reading(cache: RadixCache, live: Sequence[Job]) -> int:
    """1 where the layers with windows need a row for a token of a prompt, whose slot there is already."""
    windows = cache.pool.windows
    return 0 if windows is None else int(any(branch.missing() for job in live for branch in job.branches))


def evict_for_drafts(cache: RadixCache, live: Sequence[Job]) -> None:
    """Evict cached prefixes for drafts, where drafts take a small part of the memory."""
    pool = cache.pool
    if pool.room >= pool.limit // 8:
        return
    wanted = sum(job.width for job in live) + HEADROOM
    if pool.room < wanted <= pool.limit // 8:
        cache.evict(wanted - pool.room)


def allocate(ready: Sequence[Job], live: Sequence[Job]) -> list[list[Slots]]:
    """For each branch of each job of ``ready`` slots (n,) for its next tokens and its draft.

    More are reserved ahead where there are many. Where there are too few, drafts are dropped; that can only befall
    chosen drafts that waited for their verification while memory filled up, never random draws, whose memory is kept.
    """
    for ahead in (CHUNK, 0):
        slots = _take(ready, ahead)
        if slots is not None:
            return slots
        _free_reserves(live)
    for job in ready:
        job.drop_drafts()
    return [
        [branch.take(width, ahead=0) for branch, width in zip(job.branches, job.widths, strict=True)] for job in ready
    ]


def _take(ready: Sequence[Job], ahead: int) -> list[list[Slots]] | None:
    """All slots or, where memory is short, none."""
    taken: list[tuple[PageTable, Slots]] = []
    slots: list[list[Slots]] = []
    try:
        for job in ready:
            own: list[Slots] = []
            slots.append(own)
            for branch, needed in zip(job.branches, job.needed, strict=True):
                own.append(branch.take(needed, ahead))
                taken.append((branch, own[-1]))
    except OutOfMemory:
        for branch, some in taken:
            branch.give_back(some)
        return None
    return slots


def _free_reserves(live: Sequence[Job]) -> None:
    for job in live:
        for branch in job.branches:
            branch.free_reserved()


def too_large(job: Job, runner: ModelRunner) -> BackendError:
    """The error of a job that does not fit into memory, even alone."""
    pool = runner.forest.pool
    most, size = pool.most_tokens(job.rows), pool.request_bytes(job.most, job.rows)
    needs = f"one request needs the keys and values of {job.most} tokens ({_mebibytes(size)})"
    if pool.fixed and (pool.limit + 1) * pool.slot_bytes <= runner.memory:  # what was free at load set the limit
        return BackendError(
            f"the device's memory is too small: {needs}, and graphs left room for {most} tokens "
            f"({_mebibytes(pool.limit * pool.slot_bytes)}). Free memory of the device, set graphs=false, or ask for "
            "fewer tokens."
        )
    return BackendError(
        f"kv_memory is too small: {needs}, the limit is {most} tokens ({_mebibytes(runner.memory)}). "
        "Raise kv_memory, or ask for fewer tokens."
    )


def too_many_branches(job: Job, runner: ModelRunner) -> BackendError:
    """The error of a job that has more branches than there are states for, even alone."""
    return BackendError(
        f"state_memory is too small: one request has up to {job.rows} beams, and there are states for "
        f"{runner.most_branches}. Raise state_memory, or ask for fewer beams."
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
