"""Training material of the bundled model: Game of 24 in the words of ``prompts/game24.yaml``.

Held out, as sorted multisets, in every format: the 100 puzzles of rows 900-999 of the public list
(``prompts/data/game24_test.txt``) and a hash-chosen 20 % of all solvable hands (:func:`dev_hands`).
States of three numbers and fewer are all material: they are what the judge has to know.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from itertools import combinations_with_replacement

from treeagent import Task, Thought
from treeagent.tasks.game24_rules import ArithmeticStep, State, read, show, solvable, steps

Render = Callable[..., str]
"""``render(role, state=..., input=..., choices=...) -> prompt text``."""


def renderer(task: Task) -> Render:
    """The prompts of a task, as a search would send them."""

    def render(role: str, state: str = "", input: str = "", choices: Sequence[dict[str, str]] = ()) -> str:
        return task.prompt(role, input, Thought(0, None, "", state, state, 0), [], choices=choices)

    return render


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the completion to learn; an end-of-text token follows the completion."""

    prompt: str
    completion: str


def all_hands() -> list[State]:
    """The 1820 multisets of four numbers from 1 to 13."""
    return [tuple(map(Fraction, hand)) for hand in combinations_with_replacement(range(1, 14), 4)]


def in_dev(hand: State) -> bool:
    """The hash-chosen fifth on which settings are chosen."""
    return hashlib.sha256(show(hand).encode()).digest()[0] % 5 == 0


def test_hands() -> list[State]:
    """Rows 900-999 of the public list."""
    text = resources.files("treeagent.prompts").joinpath("data/game24_test.txt").read_text()
    return [read(line) for line in text.splitlines()]


def dev_hands() -> list[State]:
    """Solvable hands of the hash-chosen fifth that are not in the test rows, in ascending order."""
    test = set(test_hands())
    return [hand for hand in all_hands() if solvable(hand) and in_dev(hand) and hand not in test]


def training_hands() -> list[State]:
    """Every hand that is not held out; unsolvable ones included (they have steps too)."""
    held_out = set(test_hands()) | set(dev_hands())
    return [hand for hand in all_hands() if hand not in held_out]


def whole(state: State) -> bool:
    """No fraction in the state."""
    return all(number.denominator == 1 for number in state)


@cache
def winning(state: State) -> list[ArithmeticStep]:
    """The steps that keep 24 in reach."""
    return [step for step in steps(state) if solvable(step.state)]


def listed(state: State) -> list[ArithmeticStep]:
    """The steps a proposal lists: those that keep 24 in reach first, then the rest that stay whole numbers."""
    rest = [step for step in steps(state) if not solvable(step.state) and (whole(step.state) or not whole(state))]
    return winning(state) + rest


def reachable(states: Iterable[State]) -> list[State]:
    """All states one listed step away."""
    return sorted({step.state for state in states for step in listed(state)})


def propose(render: Render, states: Iterable[State]) -> list[Example]:
    """All next steps of a state, the good ones first."""
    return [
        Example(render("propose", state=show(state)), "".join(f"{step.text}\n" for step in listed(state)))
        for state in states
    ]


def value(render: Render, states: Iterable[State]) -> list[Example]:
    """A direct label for a state."""
    return [
        Example(render("value", state=show(state)), " sure" if solvable(state) else " impossible") for state in states
    ]


def vote(render: Render, states: list[State], count: int, rng: random.Random) -> list[Example]:
    """One solvable state among two to five, to be named by its number."""
    good = [state for state in states if solvable(state)]
    bad = [state for state in states if not solvable(state)]
    examples = []
    for _ in range(count):
        choices = rng.sample(bad, rng.randint(1, 4))
        place = rng.randint(0, len(choices))
        choices.insert(place, rng.choice(good))
        prompt = render("vote", choices=[{"state": show(state)} for state in choices])
        examples.append(Example(prompt, f" {place + 1}"))
    return examples


def solution(hand: State, rng: random.Random) -> tuple[list[ArithmeticStep], str]:
    """A random way to 24 and the expression it spells."""
    written: list[tuple[Fraction, str]] = [(number, str(number)) for number in hand]
    path = []
    state = hand
    while len(state) > 1:
        step = rng.choice(winning(state))
        left, right = _take(written, step.left), _take(written, step.right)
        written.append((step.result, f"({left} {step.op} {right})"))
        path.append(step)
        state = step.state
    return path, written[0][1][1:-1]


def _take(written: list[tuple[Fraction, str]], number: Fraction) -> str:
    place = next(i for i in reversed(range(len(written))) if written[i][0] == number)
    return written.pop(place)[1]


def solutions(
    hands: Iterable[State], tries: int, rng: random.Random
) -> Iterator[tuple[State, list[ArithmeticStep], str]]:
    """The distinct solutions met in ``tries`` random ones, per solvable hand."""
    for hand in hands:
        if not solvable(hand):
            continue
        seen = set()
        for _ in range(tries):
            path, expression = solution(hand, rng)
            key = tuple(step.text for step in path)
            if key not in seen:
                seen.add(key)
                yield hand, path, expression


def baselines(
    render: Render, hands: list[State], tries: int, rng: random.Random
) -> tuple[list[Example], list[Example]]:
    """The formats of io and of cot, whose last line is also how a tree search writes its answer."""
    io, cot = {}, []
    for hand, path, expression in solutions(hands, tries, rng):
        io[expression] = Example(render("io", input=show(hand)), f" {expression} = 24\n")
        lines = "".join(f"{step.text}\n" for step in path)
        cot.append(Example(render("cot", input=show(hand)), f"{lines}Answer: {expression} = 24\n"))
    return list(io.values()), cot


def material(render: Render, seed: int = 0) -> dict[str, list[Example]]:
    """Everything the model may see, by kind."""
    rng = random.Random(seed)
    hands = training_hands()
    three = reachable(all_hands())
    two = reachable(three)
    one = reachable(two)
    io, cot = baselines(render, hands, 60, rng)
    return {
        "propose-4": propose(render, hands),
        "propose-3": propose(render, three),
        "propose-2": propose(render, two),
        "value-3-good": value(render, [state for state in three if solvable(state)]),
        "value-3-bad": value(render, [state for state in three if not solvable(state)]),
        "value-2-good": value(render, [state for state in two if solvable(state)]),
        "value-2-bad": value(render, [state for state in two if not solvable(state)]),
        "value-1": value(render, [*one, *[(Fraction(24),)] * (len(one) // 2)]),
        "vote": vote(render, three, 20_000, rng),
        "io": io,
        "cot": cot,
    }
