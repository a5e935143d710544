"""A job that reads the rewards of steps at their marks, over the prefix forest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from treeagent.errors import BackendError

from ...local.reward_tokens import RewardTokens
from ...sampling.sampler import NOT_FINITE
from ..executor.segment import Segment
from ..kv_cache.pool import Slots
from .jobs import CERTAIN, Committed, Job, JobOutput, Rank
from .metrics import Counters


class RewardJob(Job):
    """Rewards from the first one on that is not known: what stands before its mark is a prompt, the rest one pass.

    All tokens stay cached, so that a text that goes on costs its new tokens alone.
    """

    def __init__(
        self,
        text: RewardTokens,
        known: int,
        answer: Callable[[list[float]], None],
        failed: Callable[[BaseException], None],
        wanted: Callable[[], bool],
        rank: Rank = CERTAIN,
    ) -> None:
        """``known`` first rewards need not be read, and one at least is left; ``answer`` takes the others."""
        super().__init__(failed, rank)
        self._text, self._answer, self._wanted = text, answer, wanted
        first = text.marks[known]
        self._before, self._rest = list(text.tokens[:first]), list(text.tokens[first:])
        self._places = [mark - first for mark in text.marks[known:]]
        self._rewards: list[float] = []

    @property
    def open(self) -> bool:
        """See :class:`Job`."""
        return self._wanted()

    @property
    def widths(self) -> list[int]:
        """From the first mark to the last."""
        return [len(self._rest)]

    @property
    def most(self) -> int:
        """The whole text."""
        return len(self._text.tokens)

    def prompts(self) -> list[list[int]]:
        """All before the first mark."""
        return [self._before]

    def segments(self, slots: Sequence[Slots]) -> list[Segment]:
        """The rest, as a chain."""
        [branch] = self.branches
        return [Segment(self._rest, slots[0], branch.table, branch.node, None, self._places)]

    def commit(self, output: JobOutput, counters: Counters) -> Committed:
        """Keep the tokens, and take the rewards."""
        [branch] = self.branches
        self._rewards = self._text.rewards(output.logits.slice(output.rows[0]))
        if any(math.isnan(value) for value in self._rewards):
            branch.give_back(output.slots[0])
            return Committed(error=BackendError(NOT_FINITE))
        counters.add_judgement(branch.length - branch.reused + len(self._rest))
        branch.extend(self._rest, output.slots[0])
        return Committed(ended=True)

    def finished(self) -> None:
        """See :class:`Job`."""
        self._answer(self._rewards)
