"""A tournament of pairwise comparisons, each in both orders.

Judges prefer a position, so each pair is shown in both orders (Zheng et al. 2023, arXiv:2306.05685). The knock-out is
that of Liu et al. 2025 (PairJudge RM, arXiv:2501.13007): n - 1 pairs instead of n (n - 1) / 2. Departs from it: votes
are counted over both orders, a draw goes to the thought on the lower path, and losers are valued by how far they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from treeagent import EvaluationContext, Evaluator, Judgement, Task, Thought

from .tournament import Standing, Tournament


@dataclass(frozen=True)
class Pairwise(Evaluator):
    """Thoughts compared two by two with the prompt ``vote``, in both orders; values in [0, 1], 1 for the winner.

    The labels of a judgement are the votes: ``over 7`` for a vote against thought 7, ``under 7`` for one that it lost.
    """

    together: ClassVar[bool] = True

    tournament: Literal["knock-out", "round-robin"] = "knock-out"
    """``knock-out``: the winners of a round meet in the next. ``round-robin``: all pairs; a value is the mean share."""
    samples: Annotated[int, Ge(1)] | None = None
    """Votes for each pair in each order; the task's own number when None."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``vote``."""
        task.require("vote", "the evaluator 'pairwise'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """An only thought has won. Values are unknown where no vote could be read."""
        records = [Standing() for _ in thoughts]
        played = Tournament(thoughts, records, context, self.samples)
        await (played.knock_out() if self.tournament == "knock-out" else played.round_robin())
        unknown = len(thoughts) > 1 and not any(record.votes for record in records)
        return [  # votes that could not be read belong to no thought: they are counted once, with the first
            Judgement(None if unknown else record.value, tuple(record.votes), played.unread if index == 0 else 0)
            for index, record in enumerate(records)
        ]
