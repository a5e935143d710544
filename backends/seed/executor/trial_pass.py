"""Passes over made-up tokens of a given size, to be measured; their time does not depend on the values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..kv_cache.pool import Slots
from ..kv_cache.radix_node import RadixNode
from .model_runner import ModelRunner
from .pass_work import PassWork
from .segment import Segment


@dataclass(frozen=True, slots=True)
class TrialPass:
    """The size of a pass; contexts and drafts of its rows differ in length, as they do in use."""

    rows: int
    private: int = 24
    """Mean private context tokens of a row: half as many and one and a half times as many in turn."""
    nodes: int = 0
    """Mean drafted tokens of a row: none and twice as many in turn."""
    shared: int = 64
    """Context tokens that rows have in common."""
    groups: int = 1
    """Different shared contexts."""
    prompt: bool = False
    """Whether the new tokens are a prompt's, of which only the last one's logits are wanted."""

    def lengths(self, room: int) -> Iterator[tuple[int, int]]:
        """For each row its private context and new tokens, in a text of at most ``room`` tokens."""
        for row in range(self.rows):
            share = 2 if self.rows == 1 else 1 + 2 * (row // 2 % 2)
            new = 1 + (self.nodes if self.rows == 1 else 2 * self.nodes * (row % 2))
            yield min(max(1, share * self.private // 2), max(0, room - new)), new

    def tokens(self) -> int:
        """New tokens of all rows."""
        return sum(new for _, new in self.lengths(0))


def slots_of(trial: TrialPass) -> int:
    """The most slots that a pass takes."""
    return trial.groups * trial.shared + trial.rows * trial.private + 2 * trial.tokens()


def make_slots(runner: ModelRunner, trials: Iterable[TrialPass]) -> None:
    """Let the runner's pool grow to the largest of the trials, with keys and values that are no denormal numbers."""
    most = max(map(slots_of, trials))
    slots = runner.forest.allocate(most)
    for entries in runner.forest.pool.entries:
        entries.zero_()
    runner.forest.pool.free(slots)


@contextmanager
def trial_segments(runner: ModelRunner, trial: TrialPass) -> Iterator[list[Segment]]:
    """The segments of a pass, in an otherwise idle runner's cache, as far as the model's context goes."""
    forest = runner.forest
    segments: list[Segment] = []
    nodes: list[RadixNode] = []
    held: list[Slots] = []
    context = runner.context or 1 << 20
    common = max(1, min(trial.shared, context // 2))
    lengths = list(trial.lengths(context - common))
    heads = [_head(runner, number, common, nodes) for number in range(trial.groups)]
    for row, (private, new) in enumerate(lengths):
        node, table = heads[row % trial.groups]
        slots = forest.allocate(private + new)
        held.append(slots)
        deepest = max(1, context - common - private)  # of a short context the rest of a chain begins anew
        chain = new == 1 or (trial.prompt and new <= deepest)
        parents = None if chain else [i - 1 if i % deepest else -1 for i in range(new)]
        wanted = range(new - 1, new) if trial.prompt else range(new)
        before = np.concatenate((table, slots[:private]))
        segments.append(Segment([1] * new, slots[private:], before, node, parents, wanted))
    try:
        yield segments
    finally:
        for slots in held:
            forest.pool.free(slots)
        for node in nodes:
            forest.release(node, keep=False)


def _head(runner: ModelRunner, number: int, common: int, nodes: list[RadixNode]) -> tuple[RadixNode, Slots]:
    tokens = [number, *[1] * (common - 1)]
    node, _ = runner.forest.match_prefix(tokens)
    nodes.append(node)
    node.mark_computed(len(node.tokens) - node.computed)
    return node, np.concatenate([above.slots for above in node.path()])


def run_trial(runner: ModelRunner, segments: Sequence[Segment]) -> tuple[PassWork, float]:
    """Make the pass once: what it computed, and its seconds."""
    before = runner.seconds
    runner.forward(segments)
    return runner.work, runner.seconds - before
