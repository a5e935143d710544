"""Chain-in-Tree (Li 2025, arXiv:2509.25835): a beam that branches only where samples disagree.

Each thought is continued by ``k`` samples. Where all of them lead to one state, branching is unnecessary: the thought
is followed as a chain, without a judge. Where they differ, the different states are judged and compete in the beam.
This is the paper's BN-SC with an agreement of 1 and the task's own state key for clusters, which the paper recommends
for tasks with exact rules. Its BN-DP asks a model whether to branch, by a prompt that the tasks here do not have.
Departs from the paper in two ways: steps that are illegal or lead to a state that is in the tree already do not count,
so the samples agree where one new state is left; and thoughts of different depth compete in one beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .base import SamplingSearch


@dataclass(frozen=True, kw_only=True)
class ChainInTree(SamplingSearch):
    """Follow thoughts whose samples agree; judge where they differ, and keep the best ``b``."""

    k: Annotated[int, Ge(1)] | None = None
    """Samples per thought; the task's own number when None."""
    b: Annotated[int, Ge(1)] = 5
    """Thoughts kept, finished ones included."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the best beam in which all thoughts are finished."""
        role = self.role(explorer.task)
        beam = [explorer.root]
        while growing := [thought for thought in beam if not thought.terminal]:
            finished, branches = [thought for thought in beam if thought.terminal], list[Thought]()
            while growing:
                explorer.likely((), after=partial(_chains, growing))
                grown = await explorer.expand(growing, role=role, n=self.k)
                children = [child for siblings in grown for child in siblings]
                growing = _chains(growing, children)
                branches += [child for child in children if child not in growing]
            beam = ranked([*finished, *await explorer.evaluate(branches)])[: self.b]
            if [thought for thought in beam if thought.terminal and await explorer.verify(thought)]:
                break
        return await explorer.finish(beam)


def _chains(thoughts: Sequence[Thought], below: Sequence[Thought]) -> list[Thought]:
    """The only child of each thought that has one child, unless it is finished."""
    siblings = [[other for other in below if other.parent == thought.id] for thought in thoughts]
    return [children[0] for children in siblings if len(children) == 1 and not children[0].terminal]
