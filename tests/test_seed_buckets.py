"""Segments of similar size share an attention call: each once, and with little padding."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from treeagent.backends.seed.executor.buckets import CALL, PER_QUERY
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.kv_cache.radix_node import RadixNode

ROOT = RadixNode([], np.zeros(0, dtype=np.int64), None, 0)


def segments(sizes: list[tuple[int, int]]) -> list[Segment]:
    """Chains of (keys before, new tokens)."""
    slots = np.arange(10_000, dtype=np.int64)
    return [Segment([7] * new, slots[:new], slots[:keys], ROOT, wanted=[new - 1]) for keys, new in sizes]


def shapes(sizes: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    plan = make_forward_batch(segments(sizes), torch.float32, torch.device("cpu"))
    assert sorted(row for rows in plan.rows for row in rows) == list(range(len(sizes)))
    return [call.shape for call in plan.calls]


def cost(calls: list[tuple[int, int, int]]) -> float:
    return sum(CALL + count * keys * (1 + PER_QUERY * new) for count, new, keys in calls)


@pytest.mark.parametrize("how", [{}, {"in_place": True}, {"tile_queries": 4}], ids=["calls", "in place", "tiles"])
def test_every_batch_tells_where_its_segments_begin(how: dict[str, Any]) -> None:
    """Layers with a recurrence read it, whatever computes attention."""
    given = segments([(3, 2), (90, 1), (0, 5)])
    plan = make_forward_batch(given, torch.float32, torch.device("cpu"), **how)
    assert list(plan.segments) == given
    for segment, start in zip(given, plan.starts, strict=True):
        positions = plan.positions[0, start : start + len(segment.tokens)].tolist()
        assert positions == [len(segment.context) + i for i in range(len(segment.tokens))]


@pytest.mark.sampled(20)
@pytest.mark.parametrize("seed", range(20))
def test_buckets_cost_little_more_than_the_best_of_them(seed: int) -> None:
    """Hardly more than one call for all, than a call for each, or than calls for lengths of one power of two.

    Lengths are looked at in classes, of which the largest counts for all: that may cost a few percent.
    """
    chance = random.Random(seed)
    most = chance.choice([60, 400, 3000])
    sizes = [(chance.randint(1, most), chance.choice([1, 1, 2, 4, 9])) for _ in range(chance.randint(1, 70))]
    alone = [(1, new, keys + new) for keys, new in sizes]
    powers = [
        [size for size in alone if size[2].bit_length() == bits] for bits in {size[2].bit_length() for size in alone}
    ]
    rivals = [alone, *([(len(part), max(n for _, n, _ in part), max(k for *_, k in part)) for part in parts]
                       for parts in ([alone], powers))]  # fmt: skip
    assert cost(shapes(sizes)) <= 1.1 * min(map(cost, rivals))


def test_short_branches_of_many_lengths_are_hardly_padded() -> None:
    """At most by a quarter or so, with contexts of 50 to 400 tokens, as searches over short prompts have them."""
    chance = random.Random(1)
    sizes = [(chance.randint(50, 400), chance.choice([1, 1, 2, 4])) for _ in range(40)]
    calls = shapes(sizes)
    assert sum(count * keys for count, _, keys in calls) < 1.3 * sum(keys + new for keys, new in sizes)
    assert len(calls) <= 10


def test_prompts_do_not_widen_the_calls_of_drafts() -> None:
    """A draft's queries are not padded to a prompt's."""
    calls = shapes([(0, 200), *[(200, 2)] * 20])
    assert sorted(calls) == [(1, 200, 200), (20, 2, 202)]
