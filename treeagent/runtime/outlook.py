"""The tree as it will probably be: the real one, and below it thoughts that are read from replies ahead of time.

A thought that is read ahead is provisional: it has the path, state and key that it would get, and a negative id. Once
the reply is read for real, it becomes the real thought, or it and all below it is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeAlias

from ..proposed_step import ProposedStep
from ..thought import Judgement, Thought, Tree
from .tree_places import TreePlaces


@dataclass(slots=True, eq=False)
class Growth:
    """The expansion of a thought, as far as it is known."""

    parent: Thought
    role: str
    n: int | None
    most: int | None = None
    apart: bool = False
    judged: bool = True
    """Whether its children are judged one by one."""
    visit: int = 0
    by: int = 0
    """Place of the backend that is asked."""
    start: int = 0
    """Sibling index of its first child."""
    chance: float = 1.0
    """That the search will ask for it."""
    real: bool = False
    """Whether the search has asked for it."""
    settled: bool = False
    """Whether its reply has been read for real, or it is given up."""
    whole: bool = False
    """Whether ``texts`` holds the complete reply."""
    texts: dict[int, str] = field(default_factory=dict)
    """Of each sample the part whose steps no further text changes."""
    steps: dict[int, tuple[str, Sequence[ProposedStep]]] = field(default_factory=dict)
    """Of each sample a part that has been read, and its steps."""
    children: list[Thought] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    """Of an expansion that is asked for early."""

    def continued(self, parent: Thought, role: str | None, n: int | None, chance: float) -> Growth:
        """The expansion of another thought in the same manner, asked for early."""
        return Growth(
            parent, role or self.role, self.n if n is None else n, None, self.apart, self.judged, chance=chance
        )

    def begin(self, task: asyncio.Task[None]) -> None:
        """It is asked for early by a task."""
        self.task = task

    @property
    def guessed(self) -> bool:
        """Whether it is being asked for early and the search has not asked for it."""
        return not self.real and self.task is not None and not self.task.done()


class Outlook:
    """All that is known of the tree; looks thoughts up like a tree."""

    def __init__(self, tree: Tree, places: TreePlaces, *, legality: bool) -> None:
        self._tree, self._places, self._legality = tree, places, legality
        self._provisional: dict[int, Thought] = {}
        self._real: dict[int, int] = {}
        """Ids of thoughts that have become real, by their provisional ones."""
        self._foreseen: dict[int, Judgement] = {}
        """Judgements that are known early, by real id."""
        self.growths: dict[tuple[int, int], Growth] = {}
        """By parent and visit, in the order in which they began."""
        self._next = -1

    def __getitem__(self, id: int) -> Thought:
        id = self._real.get(id, id)
        if id < 0:
            return self._provisional[id]
        thought = self._tree[id]
        if thought.judgement is None and id in self._foreseen:
            return replace(thought, judgement=self._foreseen[id])
        return thought

    def __contains__(self, id: int) -> bool:
        return id in self._provisional or id in self._real or 0 <= id < len(self._tree)

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to this thought."""
        texts: list[str] = []
        while thought.parent is not None:
            texts.append(thought.text)
            thought = self[thought.parent]
        return texts[::-1]

    def judge(self, id: int, judgement: Judgement) -> None:
        """Note a judgement that is known early."""
        real = self._real.get(id, id)
        if real >= 0:
            self._foreseen[real] = judgement
        elif id in self._provisional:
            self._provisional[id] = replace(self._provisional[id], judgement=judgement)

    def above(self, ids: Iterable[int]) -> set[int]:
        """The ids of all thoughts that some thoughts follow."""
        above: set[int] = set()
        for id in ids:
            parent = self[id].parent
            while parent is not None and parent not in above:
                above.add(parent)
                parent = self[parent].parent
        return above

    def visits(self, thought: Thought) -> int:
        """How often the search has expanded a thought."""
        return self._places.visits(thought) if thought.id >= 0 else 0

    def chance(self, thought: Thought) -> float:
        """That the reply which a thought was read from will be read for real."""
        return next((growth.chance for growth in self.growths.values() if growth.parent.id == thought.parent), 1.0)

    def open(self, growth: Growth) -> None:
        """Enter an expansion."""
        growth.start = self._places.siblings(growth.parent) if growth.parent.id >= 0 else 0
        self.growths[growth.parent.id, growth.visit] = growth

    def close(self, growth: Growth) -> None:
        """Forget an expansion that is over."""
        if self.growths.get((growth.parent.id, growth.visit)) is growth:
            del self.growths[growth.parent.id, growth.visit]

    def number(self, growth: Growth) -> list[Lost]:
        """Make provisional thoughts of the steps that have been read, as the search would.

        Returns what was read otherwise before.
        """
        before = {child.path: child for child in growth.children}
        taken = set(self._keys_above(growth))
        children: list[Thought] = []
        index = growth.start
        for sample in range(max(growth.steps, default=-1) + 1):
            if sample not in growth.steps:
                index += 1  # most likely
                continue
            for step in growth.steps[sample][1]:
                if len(children) == growth.most:
                    break
                path = (*growth.parent.path, index)
                index += 1
                fault = None if step.fault == "illegal" and not self._legality else step.fault
                if fault or step.key in taken or self._places.is_taken(step.key, path[0] if growth.apart else None):
                    continue
                taken.add(step.key)
                old = before.get(path)
                if old is None or _content(old) != _content(step):
                    old = self._new(growth.parent, step, path)
                children.append(old)
        before_all, growth.children = growth.children, children
        gone = [child for child in before_all if child not in children]
        return [lost for child in gone for lost in self.lose(child)]

    def _new(self, parent: Thought, step: ProposedStep, path: tuple[int, ...]) -> Thought:
        id, self._next = self._next, self._next - 1
        self._provisional[id] = Thought(
            id, parent.id, step.text, step.state, step.key, parent.depth + 1, path, step.terminal
        )
        return self._provisional[id]

    def _keys_above(self, growth: Growth) -> Iterator[str]:
        """Keys of the provisional thoughts beside the ancestors."""
        parent = growth.parent
        while parent.id < 0 and parent.parent is not None:
            parent = self[parent.parent]
            for visit in range(self.visits(parent) + 1):
                if (above := self.growths.get((parent.id, visit))) is not None:
                    yield from (child.key for child in above.children)

    def settle(self, growth: Growth, children: Sequence[Thought]) -> list[Lost]:
        """The reply has been read for real; returns what can no longer become real."""
        growth.settled = True
        real = {child.path: child for child in children}
        lost: list[Lost] = []
        for child in [self[child.id] for child in growth.children]:
            same = real.get(child.path)
            if same is not None and _content(same) == _content(child):
                self._become(child, same)
            else:
                lost += self.lose(child)
        growth.children = list(children)
        return lost

    def _become(self, child: Thought, real: Thought) -> None:
        self._real[child.id] = real.id
        del self._provisional[child.id]
        if child.judgement is not None:
            self._foreseen[real.id] = child.judgement
        if (growth := self.growths.get((child.id, 0))) is not None:
            growth.parent = real
            self.growths = {(each.parent.id, each.visit): each for each in self.growths.values()}
            for grandchild in growth.children:
                self._provisional[grandchild.id] = replace(self._provisional[grandchild.id], parent=real.id)

    def lose(self, thought: Thought) -> list[Lost]:
        """Give up a provisional thought; returns it and what is below it."""
        self._provisional.pop(thought.id, None)
        growth = self.growths.get((thought.id, 0))
        return [thought, *([] if growth is None else self.drop(growth))]

    def drop(self, growth: Growth) -> list[Lost]:
        """Give up an expansion that the search has not asked for; returns it and what is below it."""
        growth.settled = True
        self.close(growth)
        return [growth, *chain.from_iterable(self.lose(child) for child in growth.children)]

    def below(self, running: Sequence[Growth]) -> list[Thought]:
        """The thoughts below running expansions, those of the latest expansion first."""
        groups = [growth.children for growth in running]
        ids = {child.id for children in groups for child in children}
        later: list[list[Thought]] = []
        for growth in self.growths.values():
            if not growth.real and growth.parent.id in ids:
                later.insert(0, growth.children)
                ids |= {child.id for child in growth.children}
        return [self[child.id] for child in chain.from_iterable([*later, *groups])]


def _content(step: Thought | ProposedStep) -> tuple[str, str, str, bool]:
    return step.text, step.state, step.key, step.terminal


Lost: TypeAlias = Thought | Growth
"""A thought that was read ahead, or an expansion that was asked for early."""
