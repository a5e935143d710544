"""A job that scores continuations in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from treeagent.errors import BackendError

from ..executor.forward_batch import Segment
from ..kv_cache.pool import Slots
from .jobs import NOT_FINITE, Job


class ScoreJob(Job):
    """Log-probabilities of continuations of one prompt: one tree, so that common beginnings are read once."""

    def __init__(
        self,
        prompt: Sequence[int],
        continuations: Sequence[Sequence[int]],
        answer: Callable[[list[float]], None],
        failed: Callable[[BaseException], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._prompt = list(prompt)
        self._continuations = continuations
        self.answer = answer
        self.failed = failed
        self._wanted = wanted
        self.branches = []
        self.served = 0
        self.tokens: list[int] = [self._prompt[-1]]
        """The prompt's last token, then the continuations' tokens but their last ones, as a tree."""
        self.parents: list[int] = [-1]
        self._asked: list[list[tuple[int, int]]] = []
        known: dict[tuple[int, int], int] = {}
        for continuation in continuations:
            node, steps = 0, []
            for place, token in enumerate(continuation):
                steps.append((node, token))
                if place == len(continuation) - 1:
                    break
                if (node, token) not in known:
                    known[node, token] = len(self.tokens)
                    self.tokens.append(token)
                    self.parents.append(node)
                node = known[node, token]
            self._asked.append(steps)

    @property
    def open(self) -> bool:
        """Whether anybody still waits for it."""
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

    def spans(self, slots: Sequence[Slots]) -> list[Segment]:
        """The tree."""
        [branch], wanted = self.branches, range(len(self.tokens))
        return [Segment(self.tokens, slots[0], branch.table, branch.node, self.parents, wanted)]

    def take(self, logits: torch.Tensor) -> None:
        """Answer from the logits (n, V) of the tree's tokens; sums in float64."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        norms = wide.logsumexp(dim=1)  # (n,)
        sums = []
        for steps in self._asked:
            at = torch.tensor([node for node, _ in steps], dtype=torch.long, device=logits.device)
            tokens = torch.tensor([token for _, token in steps], dtype=torch.long, device=logits.device)
            sums.append(float((wide[at, tokens] - norms[at]).double().sum()))
        if any(math.isnan(value) for value in sums):
            self.failed(BackendError(NOT_FINITE))
        else:
            self.answer(sums)
