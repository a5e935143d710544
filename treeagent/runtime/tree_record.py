"""The tree of one search, its counts, and the events that tell of every change to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from ..proposed_step import ProposedStep
from ..thought import Judgement, Thought, Tree
from .events import AnswerEvent, DroppedEvent, Event, JudgedEvent, ThoughtEvent, VisitedEvent
from .result import Counts

_FIELDS = ("id", "parent", "text", "state", "depth", "path", "terminal", "request", "sample", "model")
Emit = Callable[[Event], None]


class TreeRecord:
    """Changes the tree; each change is counted and reported as an event."""

    def __init__(self, root: Thought, emit: Emit) -> None:
        self.tree = Tree(root)
        self.counts = Counts()
        self._emit = emit

    def add(self, thought: Thought) -> Thought:
        """A new thought."""
        self.tree.add(thought)
        self.counts.thoughts += 1
        self._emit(ThoughtEvent(**{name: getattr(thought, name) for name in _FIELDS}))
        return thought

    def count(self, *, unparsed: int = 0, illegal: int = 0) -> None:
        """Count what leaves no other trace: completions without a step, and illegal steps that are kept."""
        self.counts.unparsed += unparsed
        self.counts.illegal += illegal

    def drop(self, parent: Thought, index: int, step: ProposedStep, why: str) -> None:
        """A step that does not get into the tree: ``duplicate``, ``illegal``, ``unparsed`` or ``failed``."""
        if why == "duplicate":
            self.counts.duplicates += 1
        elif why == "illegal":
            self.counts.illegal += 1
        elif why == "failed":
            self.counts.failed += 1
        else:
            self.counts.unparsed += 1
        self._emit(DroppedEvent(id=parent.id, index=index, text=step.text, why=why, reason=step.reason))

    def judged(self, thought: Thought, judgement: Judgement, requests: Sequence[str]) -> None:
        """The judgement of a thought, with the ids of the evaluator's requests."""
        self.tree.update(thought, judgement=judgement)
        self.counts.judged += 1
        self.counts.judgements_unparsed += judgement.unparsed
        value, labels, unparsed = judgement.value, judgement.labels, judgement.unparsed
        self._emit(JudgedEvent(id=thought.id, value=value, labels=labels, unparsed=unparsed, requests=tuple(requests)))

    def answered(self, thought: Thought, answer: str | None) -> Thought:
        """The answer of a thought, which is in its record already where an attempt has it; None is no answer."""
        if answer is None:
            self.counts.unparsed += 1
            return thought
        self._emit(AnswerEvent(id=thought.id, answer=answer))
        return self.tree.update(thought, answer=answer)

    def visited(self, statistics: Iterable[tuple[Thought, int, float | None]]) -> None:
        """Visits and mean values that a search keeps of thoughts; a mean that is not finite is unknown."""
        rows = [(thought.id, visits, mean) for thought, visits, mean in statistics]
        means = [None if mean is None or not math.isfinite(mean) else round(mean, 6) for _, _, mean in rows]
        ids, visits = [id for id, _, _ in rows], [number for _, number, _ in rows]
        self._emit(VisitedEvent(ids=tuple(ids), visits=tuple(visits), means=tuple(means)))
