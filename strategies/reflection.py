"""Reflection on failed ends (LATS, Zhou et al. 2023, arXiv:2310.04406, after Reflexion, Shinn et al. 2023).

After a failed end one request asks what went wrong, and the prompts after it show the reply (field ``reflections``). As
in the authors' code there are three reflections at most. Of the ends below one thought, which differ in their last step
alone, only the best is reflected on. There the environment says which end has failed; here it is the task's check, or,
for a task that cannot check an end, a judgement that is not above the lowest label's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treeagent import Explorer, Task, Thought, ranked

from .base import TreeSearch

_MOST = 3
"""Reflections of one search: each makes all later prompts longer."""


@dataclass(frozen=True, kw_only=True)
class ReflectiveSearch(TreeSearch):
    """A search that can reflect on failed ends."""

    reflect: bool = False
    """Whether failed ends, the first three, are reflected on (prompt ``reflect``); of each thought the best."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt to expand with, or that to reflect with."""
        super().check(task)
        if self.reflect:
            task.require("reflect", "the option 'reflect' of the search")

    async def _reflect(self, explorer: Explorer, ends: Sequence[Thought], before: int) -> int:
        """Have reflections written on the failed ones of new ends; ``before`` and the result count reflections."""
        if not self.reflect or before == _MOST:
            return before
        best: dict[int | None, Thought] = {}
        for end in ranked(end for end in ends if _failed(end, explorer)):
            best.setdefault(end.parent, end)
        chosen = sorted(best.values(), key=lambda end: end.path)[: _MOST - before]
        await explorer.reflect(chosen)
        return before + len(chosen)


def _failed(end: Thought, explorer: Explorer) -> bool:
    """Whether a finished thought is known to be wrong; the search has had it checked where the task can check it."""
    if explorer.task.can_verify:
        return not explorer.verified(end)
    return end.value is not None and end.value <= min(explorer.task.labels.values())
