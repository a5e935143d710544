"""AB-MCTS, adaptive branching (Inoue et al. 2025, arXiv:2503.04412, section 3: AB-MCTS-A with Beta priors).

At each thought Thompson sampling decides whether to go wider (a new sample of a next step) or deeper (into a child that
is there), and into which child: a value is drawn from the posterior of each choice, and the highest wins. The posterior
of going wider rests on the judgements of the children that it has brought so far, that of a child on its own judgement
and all below it, that of going deeper on those of all children together. Of several models (the multi-LLM variant: the
model is an action) the one that goes wider is drawn likewise, by the judgements that its samples have had anywhere in
the tree, as in the authors' library TreeQuest. Departs from the paper in three ways: a node is a step of a path and no
complete answer, so finished thoughts are not continued; judgements are scaled to [0, 1] by the worst and best seen so
far; and a sample that brings nothing new counts as the worst. AB-MCTS-M needs a sampler for mixed models at every
choice and is left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .base import SamplingSearch


@dataclass(eq=False, slots=True)
class Branch:
    """A thought with the judgements that the choices at it have brought."""

    thought: Thought
    above: tuple[Branch, ...] = ()
    """From the root to its parent."""
    wider: list[float] = field(default_factory=list)
    """Of its children."""
    below: list[float] = field(default_factory=list)
    """Of itself and all below it."""
    children: list[Branch] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ABMCTS(SamplingSearch):
    """Go wider or deeper by Thompson sampling; stop early on a thought that the task verifies."""

    mixes_models: ClassVar[bool] = True

    k: Annotated[int, Ge(1)] = 1
    """Samples each time that it goes wider."""
    simulations: Annotated[int, Ge(1)] = 64
    parallel: Annotated[int, Ge(1)] = 4
    """Choices made before the next judgements are seen."""
    candidates: Annotated[int, Ge(1)] = 5
    """Finished thoughts that are answered at most at the end of the search."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first verified answer, or that of the best finished thought."""
        role, rng, values = self.role(explorer.task), random.Random(explorer.seed), list[float]()
        root, models = Branch(explorer.root), Models(explorer.models)
        for done in range(0, self.simulations, self.parallel):
            picked = [_pick(root, values, rng) for _ in range(min(self.parallel, self.simulations - done))]
            by = [models.pick(values, rng) for _ in picked]
            grown = await explorer.grow([branch.thought for branch in picked], role=role, n=self.k, models=by)
            values += [child.value for children in grown for child in children if child.value is not None]
            for branch, children, name in zip(picked, grown, by, strict=True):
                models.rewards[name] += _add(branch, children, min(values, default=0.0))
            ends = [child for children in grown for child in children if child.terminal]
            for child in [child for child in ends if await explorer.verify(child)]:
                if (answered := await explorer.finish([child])) and await explorer.verify(answered):
                    return answered
        return await explorer.finish(ranked(each for each in explorer.tree if each.terminal)[: self.candidates])


class Models:
    """The models of a search, and the judgements that their samples have had."""

    def __init__(self, names: Sequence[str]) -> None:
        self.rewards: dict[str, list[float]] = {name: [] for name in names}

    def pick(self, values: list[float], rng: random.Random) -> str:
        """The model to ask; of one there is nothing to draw."""
        names = list(self.rewards)
        return names[0] if len(names) == 1 else max(names, key=lambda name: _draw(self.rewards[name], values, rng))


def _draw(seen: list[float], values: list[float], rng: random.Random) -> float:
    """From the posterior of a choice that these judgements followed."""
    low, spread = min(values, default=0.0), (max(values, default=1.0) - min(values, default=0.0)) or 1.0
    # a value below all that are known now stood for the worst before there was one
    good = sum(max((value - low) / spread, 0.0) for value in seen)
    return rng.betavariate(0.5 + good, 0.5 + max(len(seen) - good, 0.0))  # Jeffreys' prior, as in the paper


def _pick(branch: Branch, values: list[float], rng: random.Random) -> Branch:
    """The thought to go wider at."""
    while deeper := [child for child in branch.children if not child.thought.terminal]:
        below = [value for child in deeper for value in child.below]
        if _draw(branch.wider, values, rng) >= _draw(below, values, rng):
            break
        branch = max(deeper, key=lambda child: _draw(child.below, values, rng))
    return branch


def _add(branch: Branch, children: list[Thought], worst: float) -> list[float]:
    """Enter the children of a sample; what it was worth."""
    seen = [child.value for child in children if child.value is not None] if children else [worst]
    branch.wider += seen
    for node in (*branch.above, branch):
        node.below += seen
    for child in children:
        known = [] if child.value is None else [child.value]
        branch.children.append(Branch(child, (*branch.above, branch), below=known))
    return seen
