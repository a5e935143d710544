"""A job that scores continuations in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from treeagent.errors import BackendError

from ...sampling.sampler import NOT_FINITE
from ..executor.segment import Segment
from ..kv_cache.pool import Slots
from .jobs import CERTAIN, Committed, Job, JobOutput, Rank
from .metrics import Counters


class ScoreJob(Job):
    """Log-probabilities of continuations of one prompt: one tree, so that common beginnings are computed once."""

    def __init__(
        self,
        prompt: Sequence[int],
        continuations: Sequence[Sequence[int]],
        answer: Callable[[list[float]], None],
        failed: Callable[[BaseException], None],
        wanted: Callable[[], bool],
        rank: Rank = CERTAIN,
    ) -> None:
        """``answer`` takes the summed log-probabilities (C,) of the continuations; ``wanted`` as in :class:`Sample`,
        ``rank`` as in :class:`Job`.
        """
        super().__init__(failed, rank)
        self._prompt = list(prompt)
        self._answer, self._wanted = answer, wanted
        self._sums: list[float] = []
        self.tokens: list[int] = [self._prompt[-1]]
        """The prompt's last token, then the continuations' tokens but their last ones, as a tree."""
        self.parents: list[int] = [-1]
        nodes: dict[tuple[int, int], int] = {}
        self._paths = [self._path(continuation, nodes) for continuation in continuations]
        """For each continuation the tree's node before each of its tokens, and the token."""

    def _path(self, continuation: Sequence[int], nodes: dict[tuple[int, int], int]) -> list[tuple[int, int]]:
        """Add a continuation to the tree; ``nodes`` by parent and token."""
        node, steps = 0, []
        for place, token in enumerate(continuation):
            steps.append((node, token))
            if place == len(continuation) - 1:
                break
            if (node, token) not in nodes:
                nodes[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
            node = nodes[node, token]
        return steps

    @property
    def open(self) -> bool:
        """See :class:`Job`."""
        return self._wanted()

    @property
    def widths(self) -> list[int]:
        """The tree."""
        return [len(self.tokens)]

    @property
    def most(self) -> int:
        """Prompt and tree."""
        return len(self._prompt) - 1 + len(self.tokens)

    def prompts(self) -> list[list[int]]:
        """The prompt but its last token."""
        return [self._prompt[:-1]]

    def segments(self, slots: Sequence[Slots]) -> list[Segment]:
        """The tree."""
        [branch], wanted = self.branches, range(len(self.tokens))
        return [Segment(self.tokens, slots[0], branch.table, branch.node, self.parents, wanted, final=True)]

    def commit(self, output: JobOutput, counters: Counters) -> Committed:
        """Sum the log-probabilities; nothing of the tree stays cached."""
        self.branches[0].give_back(output.slots[0])
        self._sums = self._log_probabilities(output.logits.slice(output.rows[0]))
        if any(math.isnan(value) for value in self._sums):
            return Committed(error=BackendError(NOT_FINITE))
        return Committed(ended=True)

    def finished(self) -> None:
        """See :class:`Job`."""
        self._answer(self._sums)

    def _log_probabilities(self, logits: torch.Tensor) -> list[float]:
        """Of each continuation, from the logits (n, V) of the tree's tokens; sums in float64."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        norms = wide.logsumexp(dim=1)  # (n,)
        sums = []
        for steps in self._paths:
            at = torch.tensor([node for node, _ in steps], dtype=torch.long, device=logits.device)
            tokens = torch.tensor([token for _, token in steps], dtype=torch.long, device=logits.device)
            sums.append(float((wide[at, tokens] - norms[at]).double().sum()))
        return sums
