"""Anytime curves: what a search would have answered had it been stopped at any number of tokens, from its journal.

One recorded run of a problem gives its whole curve. Tokens are those of all requests, the judge's included, in the
order of the journal; a line of a resumed run counts what its process had paid before. Attempts are asked for all at
once and read in turn: each is paid when it is read, as a search of fewer attempts would pay it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..runtime.journal import Event
from ..sums import total

JUDGING = ("value", "vote", "critique", "outcome")
"""Roles of a judge's completions; a request for log-likelihoods is a judge's, too."""
_ATTEMPTS = ("io", "cot")
_CHECKED = 5
"""Best answers of a tree that are verified, as in a search that is stopped."""


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """An answer that a search has at some time."""

    text: str
    key: str
    """Equal for answers that are one in a vote."""
    right: bool
    verified: bool
    """Whether the task itself says so, without the gold answer."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One problem: the verdict on the answer that the search has after so many tokens."""

    tokens: tuple[int, ...]
    """Where the verdict may change, ascending, from 0."""
    right: tuple[bool, ...]
    spent: int
    """Tokens of the whole run."""
    judging: int
    """Those of them that were the judge's."""

    def at(self, budget: int) -> bool:
        """The verdict under a budget of tokens."""
        return self.right[bisect_right(self.tokens, budget) - 1]


@dataclass(slots=True)
class _Progress:
    """The state of a search between two events of its journal."""

    spent: int = 0
    judging: int = 0
    attempts: dict[str, int] = field(default_factory=dict)
    """Tokens of the requests of attempts, by id; 0 once they are paid."""
    values: dict[int, float] = field(default_factory=dict)
    steps: dict[int, list[str]] = field(default_factory=lambda: {0: []})
    answers: dict[int, GradedAnswer] = field(default_factory=dict)
    votes: bool = False
    """Whether the answers are attempts, which vote unless they are judged."""

    def right(self) -> bool:
        """Whether the answer that the search has now is right; False without one."""
        if not self.answers:
            return False
        answers = list(self.answers.values())
        if self.votes and not self.values:
            winner = Counter(answer.key for answer in answers).most_common(1)[0][0]
            return next(answer.right for answer in answers if answer.key == winner)
        ranked = sorted(self.answers, key=lambda node: (node not in self.values, -self.values.get(node, 0.0)))
        best = [self.answers[node] for node in ranked]
        return next((answer.right for answer in best[:_CHECKED] if answer.verified), best[0].right)


def curve(
    events: Sequence[Event],
    read: Callable[[Sequence[str], str], GradedAnswer],
    spelled: Callable[[Sequence[str], dict[str, Any]], str | None],
    final: bool,
) -> Curve:
    """The curve of a finished run.

    Args:
        events: its journal.
        read: the verdicts on an answer, from the steps that lead to it and its text.
        spelled: the answer that a template spells at a terminal thought, from its steps and the event; None without.
        final: the verdict on the answer of the whole run.

    Raises InputError where a request's tokens are unknown.
    """
    walk = _Progress()
    points: list[tuple[int, bool]] = [(0, False)]
    for event in events:
        data = event.data
        if event.type in ("completion", "scores"):
            _pay(walk, event)
        elif event.type == "resumed":
            walk.values, walk.steps, walk.answers = {}, {0: []}, {}
        elif event.type == "thought":
            walk.steps[data["id"]] = [*walk.steps[data["parent"]], data["text"]]
            walk.votes = data["request"] in walk.attempts
            walk.spent += walk.attempts.get(data["request"], 0)
            walk.attempts |= {data["request"]: 0} if walk.votes else {}
            text = spelled(walk.steps[data["id"]], data) if data["terminal"] and not walk.votes else None
            if text is not None:
                walk.answers[data["id"]] = read(walk.steps[data["id"]], text)
        elif event.type == "judged" and data["value"] is not None:
            walk.values[data["id"]] = data["value"]
        elif event.type == "answer" and data["answer"] is not None:
            walk.answers[data["id"]] = read(walk.steps[data["id"]], data["answer"])
        if event.type in ("thought", "judged", "answer") and (walk.answers or points[-1][1]):
            _mark(points, walk.spent, walk.right())
    walk.spent += sum(walk.attempts.values())
    _mark(points, walk.spent, final)
    tokens, right = zip(*points, strict=True)
    return Curve(tokens, right, walk.spent, walk.judging)


def _pay(walk: _Progress, event: Event) -> None:
    usage = event.data["usage"]
    cost = total(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
    if cost is None:
        raise InputError("the backend does not report its tokens, so searches cannot be compared at equal tokens")
    role = event.data.get("role", "")
    if role in _ATTEMPTS:
        walk.attempts[event.data["id"]] = cost
    else:
        walk.spent += cost
    walk.judging += cost if event.type == "scores" or role in JUDGING else 0


def _mark(points: list[tuple[int, bool]], tokens: int, right: bool) -> None:
    """Add a verdict; the last one at a number of tokens counts."""
    if points[-1][0] == tokens:
        points.pop()
    if not points or points[-1][1] != right:
        points.append((tokens, right))
