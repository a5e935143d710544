"""Step scores along a path, made into one number (process reward models: Lightman et al. 2023, arXiv:2305.20050)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Literal

from treeagent import Thought, Tree

PathScore = Literal["mean", "prod", "min", "last"]
"""How the judgements of a path's steps become the score of the path."""

_SCORES: dict[PathScore, Callable[[list[float]], float]] = {
    "mean": fmean,
    "prod": math.prod,
    "min": min,
    "last": lambda values: values[-1],
}


def best_paths(thoughts: Iterable[Thought], tree: Tree, score: PathScore) -> list[Thought]:
    """Highest path score first; of equal scores the higher last step, then the earlier thought.

    Steps of unknown value are left out of a path's score; a thought whose own value is unknown comes last, since
    the scores of the rest of its path do not describe it.
    """

    def key(thought: Thought) -> tuple[bool, float, float]:
        if thought.value is None:
            return True, 0.0, 0.0
        values = [step.value for step in tree.lineage(thought) if step.value is not None]
        whole = _SCORES[score](values)
        return math.isnan(whole), -whole, -thought.value  # the product of an infinite one and 0 is not a number

    return sorted(thoughts, key=key)
