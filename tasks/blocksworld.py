"""Blocksworld in words: problems, states and actions as sentences, simulated exactly.

An input and a state are the same kind of text, so a state is itself a problem::

    a is on b. b is on the table. The hand holds c. Goal: c is on a.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from treeagent.checker import Checker
from treeagent.text import single_blanks

from .blocksworld_rules import TABLE, Action, Goal, State, apply, shortest_plan

_BLOCK = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_PLACE = re.compile(rf"({_BLOCK}) is on (the table|{_BLOCK})")
_HAND = re.compile(rf"(?i:the hand) (?:is (empty)|holds ({_BLOCK}))")
_ACTION = re.compile(
    rf"(?:[-*•]|\d+[.)])?\s*(?i:(pick\s+up|put\s+down)\s+({_BLOCK})|"
    rf"(stack)\s+({_BLOCK})\s+on\s+({_BLOCK})|(unstack)\s+({_BLOCK})\s+from\s+({_BLOCK}))\s*\.?"
)
REACHED = "The goal is reached."


class Blocksworld(Checker):
    """Registered as ``blocksworld``."""

    brief = True

    def read(self, input: str) -> str:
        """From words, or from a PDDL problem of the four-operator domain."""
        state, goal = read_pddl(input) if input.lstrip().startswith("(") else read(single_blanks(input))
        return show(state, goal)

    def transition(self, parent: str, text: str) -> str | None:
        """The state after an action in words; None where the text is no action or the action is not possible."""
        state, goal = read(parent)
        action = read_action(text)
        following = None if action is None else apply(state, action)
        return None if following is None else show(following, goal)

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Whether the plan, one action a line or between commas, is possible from start to end and meets the goal."""
        state, goal = read(input)
        plan = list(steps) if answer is None else [part for part in re.split(r"[\n,;]", answer) if part.strip()]
        for text in plan:
            action = read_action(text)
            following = None if action is None else apply(state, action)
            if following is None:
                return False
            state = following
        return state.meets(goal)

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        """Whether the steps are the beginning of a shortest plan."""
        whole, rest = _distance(input), _distance(state)
        return None if whole is None or rest is None else len(steps) + rest == whole


@lru_cache(maxsize=4096)
def _distance(problem: str) -> int | None:
    """Actions of a shortest plan; None when there is none, or where it takes too long to tell."""
    state, goal = read(problem)
    try:
        plan = shortest_plan(state, goal)
    except ValueError:
        return None
    return None if plan is None else len(plan)


def show(state: State, goal: Goal) -> str:
    """A problem in words, the same for equal states and goals."""
    places = [_place(*pair) for pair in state.on]
    hand = "The hand is empty." if state.held is None else f"The hand holds {state.held}."
    words = [*places, hand, "Goal:", *(_place(*pair) for pair in sorted(goal))]
    return " ".join([*words, REACHED] if state.meets(goal) else words)


def _place(block: str, support: str) -> str:
    return f"{block} is on {support or 'the table'}."


def read(text: str) -> tuple[State, Goal]:
    """Inverse of :func:`show`; sentences in any order. Raises ValueError saying what is wrong."""
    now, colon, wanted = text.removesuffix(REACHED).partition("Goal:")
    if not colon:
        raise ValueError("there is no 'Goal:'")
    below: dict[str, str] = {}
    held: str | None = None
    for sentence in _sentences(now):
        if match := _PLACE.fullmatch(sentence):
            if match[1] in below:
                raise ValueError(f"{match[1]!r} is in two places")
            below[match[1]] = _support(match[2])
        elif match := _HAND.fullmatch(sentence):
            held = match[2]
        else:
            raise ValueError(f"{sentence[:60]!r} is not of the form 'a is on b' or 'The hand is empty'")
    goal = set()
    for sentence in _sentences(wanted):
        match = _PLACE.fullmatch(sentence)
        if match is None:
            raise ValueError(f"{sentence[:60]!r} is not of the form 'a is on b'")
        goal.add((match[1], _support(match[2])))
    return _problem(State.of(below, held), frozenset(goal))


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"[.\n]", text) if part.strip()]


def _support(words: str) -> str:
    return TABLE if words == "the table" else words


def _problem(state: State, goal: Goal) -> tuple[State, Goal]:
    if not goal:
        raise ValueError("the goal is empty")
    for pair in goal:
        for block in pair:
            if block != TABLE and block not in state.blocks:
                raise ValueError(f"the goal names {block!r}, which is nowhere")
    return state, goal


def read_action(text: str) -> Action | None:
    """An action in words, such as ``unstack b from a``, a bullet or number before it; None where it is none."""
    match = _ACTION.fullmatch(text.strip())
    if match is None:
        return None
    if match[3]:
        return Action("stack", match[4], match[5])
    if match[6]:
        return Action("unstack", match[7], match[8])
    return Action("pick up" if match[1].lower().startswith("pick") else "put down", match[2])


def read_pddl(text: str) -> tuple[State, Goal]:
    """A PDDL problem with the predicates of the four-operator domain. Raises ValueError."""
    start, keyword, end = text.partition("(:goal")
    if "(:init" not in start or not keyword:
        raise ValueError("a PDDL problem needs (:init ...) and (:goal ...)")
    below: dict[str, str] = {}
    held = None
    for name, words in _facts(start.partition("(:init")[2]):
        if name in ("on", "ontable"):
            below[words[0]] = words[1] if name == "on" else TABLE
        elif name == "holding":
            held = words[0]
    goal = set()
    for name, words in _facts(end):
        if name not in ("on", "ontable"):
            raise ValueError(f"a goal is made of (on ...) and (ontable ...), not of ({name} ...)")
        goal.add((words[0], words[1] if name == "on" else TABLE))
    return _problem(State.of(below, held), frozenset(goal))


def _facts(text: str) -> list[tuple[str, list[str]]]:
    """The facts of a section. Raises ValueError for a predicate that is not of the domain."""
    arity = {"on": 2, "ontable": 1, "clear": 1, "holding": 1, "handempty": 0}
    atoms = []
    for body in re.findall(r"\(([^()]*)\)", text):
        name, *words = body.split()
        if len(words) != arity.get(name):
            raise ValueError(f"({body}) is not a fact of the blocks world")
        atoms.append((name, words))
    return atoms
