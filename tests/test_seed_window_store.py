"""Rows of layers with windows, by slot: what is there, what is given back, and what a planned pass relies on."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from treeagent.backends.seed.executor.prefill import PrefillChunk
from treeagent.backends.seed.kv_cache.page_table import PageTable
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache
from treeagent.backends.seed.kv_cache.window_rows import WindowRows


def test_rows_are_found_by_slot_whatever_happens() -> None:
    """Against a list of sets: what is taken, held, kept, moved and dropped, and where a text can go on."""
    chance = random.Random(1)
    rows = WindowRows([(1, 1), (0, 0)], [5, None], torch.float32, torch.device("cpu"))
    rows.address(60)
    there: set[int] = set()
    kept: set[int] = set()
    for _ in range(300):
        texts = [np.array(chance.sample(range(60), chance.randint(0, 20)), dtype=np.int64) for _ in range(2)]
        one = texts[0]
        known = max(end for end in range(len(one) + 1) if there.issuperset(one[max(0, end - 4) : end].tolist()))
        assert rows.known(one) == known
        assert rows.whole(one) == (known == len(one))
        rows.take(one)
        there.update(one.tolist())
        if chance.random() < 0.3:
            rows.keep(one)
            kept.update(one[-4:].tolist())
        if chance.random() < 0.5:
            rows.drop(texts[1])
            there.difference_update(texts[1].tolist())
            kept.difference_update(texts[1].tolist())
        if chance.random() < 0.7:
            rows.sweep([one])
            there.intersection_update(kept.union(one.tolist()))
        if chance.random() < 0.1:
            rows.sweep([])
            there.intersection_update(kept)
            assert rows.drop_snapshots(100) == len(there)
            there.clear()
            kept.clear()
        rows.check()
        assert rows.used == len(there)
        assert {slot for slot in range(60) if rows.row_of[slot]} == there


@pytest.mark.parametrize("texts", [1, 2])
def test_what_a_planned_pass_reads_is_not_dropped(texts: int) -> None:
    """Rows that are left of a snapshot: those read again, and those that complete another text's window."""
    rows = WindowRows([(1, 1)], [5], torch.float32, torch.device("cpu"))
    cache = RadixCache(SlotPool([(1, 1)], torch.float32, torch.device("cpu"), 1000, windows=rows))
    first = PageTable(cache, range(12))
    PrefillChunk([first], limit=12).done()
    first.release(keep=True)
    rows.sweep([])
    assert np.flatnonzero(rows.row_of[first.table]).tolist() == [8, 9, 10, 11]
    rows.drop(first.table[9:10])
    branches = [PageTable(cache, range(12)) for _ in range(texts)]
    plan = PrefillChunk(branches, limit=10)
    assert plan.ready == branches[1:]  # the first one is to read two tokens more
    rows.drop_snapshots(100)
    assert rows.row_of[plan.spans[0].slots].all()
    assert all(rows.whole(branch.table) for branch in plan.ready)
