"""Particle filtering (Puri et al. 2025, arXiv:2502.01618, algorithm 1).

The next step is drawn from the model, and its weight is the judgement: N particles take one step each, then N are drawn
anew with replacement by the softmax of their judgements. Chance keeps weak steps alive that a beam would cut off.
Departs from the paper in four ways: the judgement itself is the logit, scaled to [0, 1] by the worst and best seen so
far; steps to a state that is in the tree already are merged, so particles that took the same step are weighed once; of
a proposed list the first steps are read, one a particle; and the answer is the best of all finished thoughts, also of
those that were not drawn again.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from treeagent import Explorer, Thought, ranked

from .base import SamplingSearch


@dataclass(frozen=True, kw_only=True)
class ParticleFilter(SamplingSearch):
    """Move ``n`` particles step by step; after each step draw them anew by the softmax of their judgements."""

    n: Annotated[int, Ge(1)] = 16
    """Particles."""
    temperature: Annotated[float, Gt(0)] = 0.2
    """Of the softmax, on judgements from 0 to 1: low draws the best, high draws all alike."""
    candidates: Annotated[int, Ge(1)] = 5
    """Finished thoughts that are answered at most at the end of the search."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the best finished thought."""
        role, rng = self.role(explorer.task), random.Random(explorer.seed)
        particles = Counter({explorer.root: self.n})
        values: list[float] = []
        while moving := {thought: count for thought, count in particles.items() if not thought.terminal}:
            counts = list(moving.values())
            grown = await explorer.grow(list(moving), role=role, n=counts if role == "sample" else None, most=counts)
            children = [child for siblings in grown for child in siblings]
            values += [child.value for child in children if child.value is not None]
            arrived = [thought for thought in particles if thought.terminal]
            population = [*arrived, *children]
            if not population:
                break
            weights = self._weights(population, min(values, default=0.0), max(values, default=1.0))
            particles = Counter(rng.choices(population, weights, k=self.n))
        finished = ranked(thought for thought in explorer.tree if thought.terminal)
        return await explorer.finish(finished[: self.candidates])

    def _weights(self, thoughts: Sequence[Thought], low: float, high: float) -> list[float]:
        """The softmax of the known values; an unknown one weighs nothing unless all are unknown."""
        known = [thought.value for thought in thoughts if thought.value is not None]
        spread = self.temperature * ((high - low) or 1.0)
        return [
            float(not known) if thought.value is None else math.exp((thought.value - max(known)) / spread)
            for thought in thoughts
        ]
