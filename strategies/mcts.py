"""Monte Carlo tree search with UCT (Kocsis & Szepesvari 2006; for reasoning: RAP, Hao et al. 2023, arXiv:2305.14992).

The evaluator replaces random roll-outs: the value of a simulation is the best judgement among the children it adds, and
a child's own judgement is its first sample. The exploration term is sqrt(log(N + 1) / (n + 1)), so that children
without a visit compare by their judgements. Means are scaled to [0, 1] by the worst and best value seen so far, so the
exploration constant does not depend on the evaluator's scale.
With ``widen`` each thought is expanded again, by the prompt ``sample`` where the task has it, when nothing else is left
to expand: a tree that was followed to all its ends would else end the search before its budget.
``parallel`` leaves are picked with virtual loss (Chaslot et al. 2008), grown together, and backed up in the order they
were picked: ``parallel`` may change the tree, the order in which replies arrive never does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .mcts_node import Node
from .reflection import ReflectiveSearch


@dataclass(frozen=True)
class MCTS(ReflectiveSearch):
    """Select by UCT, expand and judge, back up; stop early on a thought that the task verifies."""

    simulations: Annotated[int, Ge(1)] = 32
    c: Annotated[float, Ge(0)] = 1.0
    """Exploration constant of UCT."""
    parallel: Annotated[int, Ge(1)] = 4
    """Simulations per round; 1 is sequential."""
    output: Literal["max_value", "max_visits", "best_path"] = "max_value"
    """``max_value``: the finished thoughts of highest value. ``max_visits``: down the most visited children.
    ``best_path``: down the children of highest mean. Both fall back to ``max_value`` where the way down ends at an
    unfinished thought, or where nothing is left to expand and visits tell nothing."""
    candidates: Annotated[int, Ge(1)] = 5
    """Finished thoughts that are answered at most at the end of the search."""
    widen: bool = False
    """Whether to ask for more steps when nothing is left to expand, until all simulations are done."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first verified answer, or the one chosen by ``output``."""
        rng = random.Random(explorer.seed)
        root = Node(explorer.root, None, rng.random())
        values: list[float] = []
        done, reflected, role = 0, 0, self.by
        while done < self.simulations and (self.widen or not root.closed):
            if root.closed:
                root.reopen()
                role = self.by or ("sample" if explorer.task.has("sample") else None)
            left, parallel = self._pace(explorer, done)
            leaves = list(islice(self._picked(root, values, left), min(parallel, self.simulations - done)))
            done += len(leaves)
            later = partial(self._later, self.simulations - done, root, leaves, values, rng.getstate(), left)
            explorer.likely((), after=later)
            grown = await explorer.grow([leaf.thought for leaf in leaves], role=role, n=self.k)
            for leaf, children in zip(leaves, grown, strict=True):
                self._add(leaf, children, values, rng)
                explorer.visited((node.thought, node.visits, node.mean) for node in leaf.upwards())
            ends = [child for children in grown for child in children if child.terminal]
            for child in [child for child in ends if await explorer.verify(child)]:
                if (answered := await explorer.finish([child])) and await explorer.verify(answered):
                    return answered
            reflected = await self._reflect(explorer, ends, reflected)
        return await explorer.finish(self._best(root, explorer)[: self.candidates])

    def _pace(self, explorer: Explorer, done: int) -> tuple[float, int]:
        """How much the next round explores, 1 as UCT does and 0 not at all, and the number of its leaves."""
        return 1.0, self.parallel

    def _picked(self, root: Node, values: list[float], left: float) -> Iterator[Node]:
        """Leaves to expand together, each with a virtual loss on its way."""
        while leaf := self._select(root, values, left):
            for node in leaf.upwards():
                node.pending += 1
            yield leaf

    def _add(self, leaf: Node, children: list[Thought], values: list[float], rng: random.Random) -> None:
        leaf.expand([Node(child, leaf, rng.random(), closed=child.terminal) for child in children])
        for child in leaf.children or ():
            if not child.rated and child.thought.value is not None:
                child.rate(child.thought.value)
        values += [child.value for child in children if child.value is not None]
        self._back_up(leaf, children, min(values, default=0.0))

    def _later(
        self, more: int, root: Node, leaves: list[Node], values: list[float], state: Any, left: float,
        below: list[Thought],
    ) -> Iterator[Thought]:  # fmt: skip
        """The leaves to come if no further children came: the search itself, on a copy of its statistics."""
        root, values, rng = root.copied(), values.copy(), random.Random()
        rng.setstate(state)
        known = {child.parent for child in below}
        running = [copy for leaf in leaves if (copy := root.find(leaf.thought.id))]
        while more > 0 and running:
            for leaf in running:
                if leaf.thought.id in known:
                    self._add(leaf, [child for child in below if child.parent == leaf.thought.id], values, rng)
            running = list(islice(self._picked(root, values, left), min(self.parallel, more)))
            more -= len(running)
            yield from (leaf.thought for leaf in running)

    def _select(self, node: Node, values: list[float], left: float) -> Node | None:
        """The leaf that UCT leads to, passing over closed nodes and leaves that are being expanded already."""
        if node.due or node.children is None:
            return None if node.pending or node.closed else node
        low, high = min(values, default=0.0), max(values, default=1.0)
        above = math.log(node.visits + node.pending + 1)

        def uct(child: Node) -> tuple[float, float]:
            rated, visits = child.rated + child.pending, child.visits + child.pending
            mean = (child.total + child.pending * low) / rated if rated else (low + high) / 2
            scaled = (mean - low) / (high - low) if high > low else 0.5
            explored = left * self.c * math.sqrt(above / (visits + 1))
            return scaled + explored + (1 - left) * (child.progress() if left < 1 else 0.0), child.tie

        ordered = sorted((child for child in node.children if not child.closed), key=uct, reverse=True)
        return next((leaf for child in ordered if (leaf := self._select(child, values, left))), None)

    def _back_up(self, leaf: Node, children: list[Thought], worst: float) -> None:
        """The value of a simulation is that of its best new child, that of a dead end the worst value seen."""
        known = [child.value for child in children if child.value is not None]
        value = max(known) if known else (worst if not children else None)
        for node in leaf.upwards():
            node.pending -= 1
            node.visits += 1
            if value is not None:
                node.total, node.rated = node.total + value, node.rated + 1
            node.closed = not node.due and all(child.closed for child in node.children or ())

    def _best(self, root: Node, explorer: Explorer) -> list[Thought]:
        """Finished thoughts in the order of ``output``."""
        finished = ranked(thought for thought in explorer.tree if thought.terminal)
        if self.output == "max_value" or root.closed:  # once all is expanded, visits only tell the size of a subtree
            return finished
        node = root
        while children := node.children:
            if self.output == "max_visits":
                node = max(children, key=lambda child: (child.visits, child.mean, child.tie))
            else:
                node = max(children, key=lambda child: (child.mean, child.tie))
        return [node.thought] if node.thought.terminal else finished
