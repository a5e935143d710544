"""The prefix forest against a naive model of it: what a slot should hold is remembered as the text up to there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from treeagent.backends.seed.executor.prefill import PrefillChunk
from treeagent.backends.seed.kv_cache.page_table import PageTable
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_node import RadixNode
from treeagent.backends.seed.kv_cache.radix_tree import OutOfMemory, RadixCache

Text = tuple[int, ...]

TOKENS = st.lists(st.integers(0, 2), max_size=9)
"""Few different ones, so that texts share beginnings."""


def make_forest(limit: int = 1000) -> RadixCache:
    """An empty forest over a pool of tiny slots."""
    return RadixCache(SlotPool([(1, 1)], torch.float32, torch.device("cpu"), limit))


def texts(forest: RadixCache, *, computed: bool = False) -> dict[Text, int]:
    """Every prefix that the forest holds, with its slot; found by walking the tree in its own way."""
    found: dict[Text, int] = {}
    pending: list[tuple[RadixNode, Text]] = [(forest.root, ())]
    while pending:
        node, above = pending.pop()
        text = above
        for place, (token, slot) in enumerate(zip(node.tokens, node.slots.tolist(), strict=True)):
            text = (*text, token)
            if not computed or place < node.computed:
                assert text not in found, "two copies of one prefix"
                found[text] = slot
        pending += [(child, text) for child in node.children.values()]
    return found


@dataclass(eq=False)
class Live:
    """A branch and the text that it should hold."""

    branch: PageTable
    text: Text

    @property
    def ready(self) -> bool:
        """Whether its text has been read."""
        return not self.branch.missing()


class Forest(RuleBasedStateMachine):
    """Random joins, passes, extensions, drafts, departures and evictions; memory is short in some runs."""

    def __init__(self) -> None:
        super().__init__()
        self.live: list[Live] = []
        self.held: dict[int, Text] = {}
        """What was written to each slot in use: the text up to its token."""
        self.kept: set[Text] = set()
        """Computed texts that were left to the forest, with no reason since to give them up."""

    @initialize(limit=st.sampled_from([12, 30, 1000]))
    def start(self, limit: int) -> None:
        """An empty forest."""
        self.forest = make_forest(limit)
        evict = self.forest.evict

        def spy(count: int) -> int:
            self.kept.clear()
            return evict(count)

        self.forest.evict = spy  # type: ignore[method-assign]

    @rule(tokens=TOKENS)
    def join(self, tokens: list[int]) -> None:
        """A branch joins: what is there already is reused; without memory nothing changes but for evictions."""
        before = texts(self.forest)
        pins = self.pins()
        known = max((n for n in range(len(tokens) + 1) if not n or tuple(tokens[:n]) in before), default=0)
        try:
            branch = PageTable(self.forest, tokens)
        except OutOfMemory:
            assert self.pins() == pins
            assert len(set(texts(self.forest)) | {tuple(tokens[: n + 1]) for n in range(len(tokens))}) > (
                self.forest.pool.limit - sum(len(one.branch._reserved) for one in self.live)
            )
            return
        assert branch.reused == known
        self.live.append(Live(branch, tuple(tokens)))

    @rule(limit=st.integers(1, 12))
    def read(self, limit: int) -> None:
        """One pass computes what prompts lack, as much as fits."""
        reading = PrefillChunk([one.branch for one in self.live], limit)
        whole = texts(self.forest)
        by_slot = {slot: text for text, slot in whole.items()}
        for span in reading.spans:
            context = [self.held[slot] for slot in span.context.tolist()]  # KeyError: read before it was written
            for token, slot in zip(span.tokens, span.slots.tolist(), strict=True):
                text = (*(context[-1] if context else ()), token)
                assert by_slot[slot] == text
                self.held[slot] = text
                context.append(text)
        reading.done()
        assert sum(len(span.tokens) for span in reading.spans) == reading.tokens <= limit
        assert set(reading.ready) == {one.branch for one in self.live if one.ready}
        if any(not one.ready for one in self.live):
            assert reading.tokens == limit

    @rule(data=st.data(), drafted=TOKENS, right=st.integers(0, 9))
    def verify(self, data: Any, drafted: list[int], right: int) -> None:
        """A branch takes slots for its last token and a draft, keeps the first of them and gives the others back."""
        ready = [one for one in self.live if one.ready]
        if not ready:
            return
        one = data.draw(st.sampled_from(ready))
        tokens = [*drafted, 0][: max(1, right)]
        table = one.branch.table.tolist()
        assert [self.held[slot] for slot in table] == [one.text[: n + 1] for n in range(len(one.text))]
        try:
            slots = one.branch.take(len(drafted) + 1, ahead=data.draw(st.sampled_from([0, 4, 16])))
        except OutOfMemory:
            return
        used = {
            *texts(self.forest).values(),
            *(slot for other in self.live for slot in other.branch._reserved.tolist()),
        }
        assert used.isdisjoint(slots.tolist()), "slots in use were given away"
        shuffled = slots[data.draw(st.permutations(range(len(slots))))] if len(slots) > 1 else slots
        for n, slot in enumerate(shuffled[: len(tokens)].tolist()):
            self.held[slot] = one.text + tuple(tokens[: n + 1])
        one.branch.extend(tokens, shuffled[: len(tokens)])
        one.branch.give_back(shuffled[len(tokens) :])
        one.text += tuple(tokens)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), keep=st.booleans())
    def leave(self, data: Any, keep: bool) -> None:
        """A branch ends; its text is kept for others, or what no other branch uses is freed at once."""
        one = data.draw(st.sampled_from(self.live))
        self.live.remove(one)
        ready = one.ready
        one.branch.release(keep=keep)
        if keep and ready:
            self.kept |= {one.text[: n + 1] for n in range(len(one.text))}
        elif not keep:
            self.kept.clear()

    @rule(count=st.integers(1, 30))
    def evict(self, count: int) -> None:
        """Texts that nobody uses go, oldest first, and no more of them than needed."""
        before = texts(self.forest)
        used = {one.text[: n + 1] for one in self.live for n in range(len(one.text))}
        freed = self.forest.evict(count)
        assert len(before) - len(texts(self.forest)) == freed
        assert freed >= min(count, len(before.keys() - used))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def give_up_spare(self, data: Any) -> None:
        """A branch gives slots that it took ahead to others."""
        data.draw(st.sampled_from(self.live)).branch.free_reserved()

    @invariant()
    def sound(self) -> None:
        """The forest agrees with itself, with its pool, with what was written and with what branches hold."""
        if not hasattr(self, "forest"):
            return
        self.forest.check()
        pool = self.forest.pool
        self.held = {slot: text for slot, text in self.held.items() if not pool.is_free(np.array([slot]))}
        for one in self.live:
            for slot in one.branch._reserved.tolist():
                self.held.pop(slot, None)
        whole, computed = texts(self.forest), texts(self.forest, computed=True)
        for text, slot in computed.items():
            assert self.held[slot] == text, "a slot does not hold what the forest says"
        for one in self.live:
            prefixes = [one.text[: n + 1] for n in range(len(one.text))]
            assert [whole[text] for text in prefixes] == np.concatenate(
                [np.zeros(0, np.int64), *(node.slots for node in one.branch.node.path())]
            ).tolist()
            if one.branch._table is not None:
                assert one.branch.table.tolist() == [whole[text] for text in prefixes]
        assert self.kept <= computed.keys()
        assert pool.used == len(whole) + sum(len(one.branch._reserved) for one in self.live)
        assert pool.used <= pool.peak <= pool.limit
        assert self.pins() == sorted(one.text for one in self.live)

    def teardown(self) -> None:
        """When all have left and everything unused is evicted, nothing is in use."""
        if not hasattr(self, "forest"):
            return
        for one in self.live:
            one.branch.release(keep=False)
        self.live.clear()
        self.kept.clear()
        self.sound()
        self.forest.evict(10_000)
        assert self.forest.pool.used == 0
        assert not self.forest.root.children

    def pins(self) -> list[Text]:
        """The text at every pinned node, as often as it is pinned."""
        nodes = [self.forest.root, *self.forest.nodes()]
        return sorted(
            tuple(token for above in node.path() for token in above.tokens)
            for node in nodes
            for _ in range(node.ref_count)
        )


Forest.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestForest = Forest.TestCase


def computed(forest: RadixCache, tokens: list[int]) -> PageTable:
    """A branch whose text has been read."""
    branch = PageTable(forest, tokens)
    PrefillChunk([branch], 1000).done()
    return branch


def test_nothing_is_left_when_nobody_keeps_anything() -> None:
    """Forks of one prompt that leave without keeping free every slot, whatever the order."""
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        forest = make_forest()
        branches = [computed(forest, [1, 2, 3, 4, *tail]) for tail in ([5], [5, 6], [7])]
        for branch in branches:
            branch.extend([8, 9], branch.take(2))
        assert forest.tokens == len([1, 2, 3, 4]) + len([5, 8, 9]) + len([6, 8, 9]) + len([7, 8, 9])
        for place in order:
            branches[place].release(keep=False)
        assert forest.pool.used == 0


def test_the_least_recently_used_text_is_evicted_first() -> None:
    """Joining a text makes it and all above it fresh."""
    forest = make_forest()
    for tokens in ([1, 1], [2, 2], [3, 3]):
        computed(forest, tokens).release(keep=True)
    PageTable(forest, [1, 1]).release(keep=True)
    assert forest.evict(1) == 2
    assert set(texts(forest)) == {(1,), (1, 1), (3,), (3, 3)}


def test_of_two_that_compute_the_same_one_copy_stays() -> None:
    """The second adopts the first's slots, and its own are free again."""
    forest = make_forest()
    first, second = computed(forest, [1]), computed(forest, [1])
    for branch in (first, second):
        branch.extend([2, 3], branch.take(2, ahead=0))
    assert first.table.tolist() == second.table.tolist()
    assert forest.pool.used == 3
    second.extend([4], second.take(1, ahead=0))
    first.extend([5], first.take(1, ahead=0))
    assert first.table.tolist()[:3] == second.table.tolist()[:3]
    assert forest.pool.used == 5


def test_a_computed_text_serves_those_who_still_wait_for_it() -> None:
    """Where one branch's verified tokens are another's unread prompt, the prompt need not be read."""
    forest = make_forest()
    first = computed(forest, [1])
    waiting = PageTable(forest, [1, 2, 3, 4])
    assert [node.tokens for node, _ in waiting.missing()] == [[2, 3, 4]]
    first.extend([2, 3], first.take(2, ahead=0))
    assert [node.tokens for node, _ in waiting.missing()] == [[4]]
    forest.check()
    assert forest.pool.used == 4


def test_a_pool_grows_to_its_limit() -> None:
    """Slots keep their numbers; what is free is handed out side by side if possible, and never more of it."""
    pool = SlotPool([(1, 2), (2, 2)], torch.float32, torch.device("cpu"), limit=5000)
    slots = pool.allocate(500)
    more = pool.allocate(4000)
    assert not set(slots.tolist()) & set(more.tolist())
    assert pool.used == pool.peak == 4500
    assert 4500 <= pool.capacity <= 5000
    with pytest.raises(MemoryError):
        pool.allocate(501)
    pool.free(more)
    pool.free(slots[::2])
    assert (pool.used, pool.room, pool.peak) == (250, 4750, 4500)
    assert np.diff(pool.allocate(100)).tolist() == [1] * 99
