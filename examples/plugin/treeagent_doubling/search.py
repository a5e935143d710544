"""A search that draws its beam at random, in proportion to the values."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Search, Thought


@dataclass(frozen=True)
class SampledBeam(Search):
    """Grow a level, then draw the ``b`` thoughts to keep in proportion to their values."""

    b: Annotated[int, Ge(1)] = 3
    """Thoughts kept per level."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first finished thought that the task verifies; otherwise the best of the last level."""
        chance = random.Random(explorer.seed)  # the run's seed, so that the same seed gives the same tree
        beam = [explorer.root]
        while beam:
            grown = await explorer.grow(beam)
            level = [child for children in grown for child in children]
            if finished := [thought for thought in level if thought.terminal]:
                return await explorer.finish(finished)
            beam = self._draw(level, chance)
        return None

    def _draw(self, level: list[Thought], chance: random.Random) -> list[Thought]:
        """At most ``b`` thoughts, none twice; an unknown value counts as the middle of the scale."""
        weights = {thought.id: 0.5 if thought.value is None else thought.value + 1e-6 for thought in level}
        drawn = sorted(level, key=lambda thought: chance.random() ** (1 / weights[thought.id]), reverse=True)
        return sorted(drawn[: self.b], key=lambda thought: thought.path)
