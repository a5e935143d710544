"""The result of a search, and its cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..reply import Usage
from ..thought import Thought, Tree
from .early_figures import Speculated
from .tree_html import tree_html


@dataclass(slots=True)
class Counts:
    """Numbers of thoughts, of steps that were dropped, and of judgements."""

    thoughts: int = 0
    """Legal, new, in the tree."""
    unparsed: int = 0
    """Parts of completions that are no step, and completions without an answer."""
    illegal: int = 0
    """Dropped, or only counted where the legality filter is off."""
    duplicates: int = 0
    """Steps to a state that is in the tree already."""
    judged: int = 0
    judgements_unparsed: int = 0
    """Completions of the evaluator that no label could be read from, and values that are not finite."""
    truncated: int = 0
    """Completions that ended at ``max_tokens``."""
    empty: int = 0
    """Those of them that ended before any text."""
    refused: int = 0
    """Requests and completions that the backend refused (content filter, context length)."""
    missing: int = 0
    """Completions that were asked for and did not come."""
    failed: int = 0
    """Steps that were dropped because a tool or an environment had no observation for them."""

    def add(self, *, truncated: int = 0, empty: int = 0, refused: int = 0, missing: int = 0) -> None:
        """Count what replies lack."""
        self.truncated += truncated
        self.empty += empty
        self.refused += refused
        self.missing += missing


@dataclass(frozen=True, slots=True)
class CutOff:
    """Completions of one role that ended at the ``max_tokens`` of the task."""

    truncated: int = 0
    empty: int = 0
    """Those of them that ended before any text."""
    thinking: int = 0
    """Those of the empty ones that have reasoning."""

    def plus(self, *, empty: bool, thinking: bool) -> CutOff:
        """One more."""
        return CutOff(self.truncated + 1, self.empty + empty, self.thinking + thinking)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a search, and its cost."""

    input: str
    answer: str | None
    """None when there is no answer; ``path`` then holds the best attempt."""
    solved: bool | None
    """Whether the task verifies the answer; None when it cannot verify."""
    path: tuple[str, ...]
    """The steps that lead to the answer."""
    ended: str
    """``finished``, ``refused`` (the backend refused every request), or why the search stopped early: ``calls``,
    ``tokens``, ``nodes``, ``dollars``, ``seconds``, ``interrupted`` or ``failed``."""
    usage: Usage
    seconds: float
    seed: int
    counts: Counts
    tree: Tree = field(repr=False)
    thought: Thought | None = field(default=None, repr=False)
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    """Task, search, evaluator, backend and their options."""
    engine: dict[str, Any] = field(default_factory=dict, repr=False)
    """The backend's own figures for this search (:meth:`Backend.meter`); empty when it keeps none."""
    cut_off: dict[str, CutOff] = field(default_factory=dict, repr=False)
    """Completions that ended at the task's ``max_tokens``, by role; those that a budget shortened are not in it."""
    refusal: str | None = field(default=None, repr=False)
    """The message of the first refused request."""
    judging: Usage = field(default=Usage(), repr=False)
    """The part of ``usage`` that the evaluator's requests cost."""
    speculated: Speculated | None = field(default=None, repr=False)
    """Requests that were sent before the search asked for them; None where none are. ``usage`` is without them."""
    models: dict[str, Usage] = field(default_factory=dict, repr=False)
    """The part of ``usage`` that each of several models cost as a generator, by name; empty where there is one."""

    def _repr_html_(self) -> str:
        """What a notebook shows: the answer, the cost, and the tree, at most some tens of kilobytes."""
        verdict = {True: "solved", False: "not solved", None: "not verified"}[self.solved]
        tokens = "unknown" if self.usage.tokens is None else f"{self.usage.tokens:,}"
        heading = [
            f"{self.input} → {'no answer' if self.answer is None else self.answer}",
            f"{verdict}, {self.ended}; {self.usage.calls:,} requests, {tokens} tokens, {self.seconds:.1f} s, "
            f"seed {self.seed}",
        ]
        return tree_html(heading, self.tree, self.thought)

    def to_json(self) -> dict[str, Any]:
        """The object that ``treeagent solve --json`` prints."""
        return {
            "input": self.input,
            "answer": self.answer,
            "solved": self.solved,
            "path": list(self.path),
            "thought": None if self.thought is None else self.thought.id,
            "ended": self.ended,
            "usage": {**self.usage.to_json(), "tokens": self.usage.tokens},
            "judging": {**self.judging.to_json(), "tokens": self.judging.tokens},
            "models": self.models_json(),
            "seconds": round(self.seconds, 3),
            "seed": self.seed,
            "counts": asdict(self.counts),
            "cut_off": {role: asdict(number) for role, number in self.cut_off.items()},
            "speculated": None if self.speculated is None else self.speculated.to_json(),
            "settings": self.settings,
            "engine": self.engine,
        }

    def models_json(self) -> dict[str, Any]:
        """Costs and thoughts of several models, by name; empty where there is one."""
        return {name: self._of_model(name, usage) for name, usage in self.models.items()}

    def _of_model(self, name: str, usage: Usage) -> dict[str, Any]:
        written = sum(thought.model == name for thought in self.tree)
        return {**usage.to_json(), "tokens": usage.tokens, "thoughts": written}
