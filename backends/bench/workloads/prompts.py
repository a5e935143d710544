"""The workloads: prompts as a tree search over a task would send them, all different, made from a seed.

``game24``        propose next steps of a Game of 24 state: few-shot, the same up to the last dozen tokens
``value``         judge a Game of 24 state: sure, likely or impossible
``gsm8k``         solve a word problem of the kind that GSM8K collects
``gsm8k-value``   judge the first step of such a solution
``writing``       creative writing: plan and write a passage whose four paragraphs end with given sentences
``writing-value`` judge the beginning of such a plan
``blocksworld``   find the moves that bring four or five blocks from a state to a goal: few-shot
``mixed``         all of the above in equal parts, one after the other
``mini``          proposals in the words of the task ``game24``, the only ones that the bundled model has learnt

A longer list of prompts begins with the shorter one of the same kind and seed.
"""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain, islice, pairwise
from pathlib import Path

from treeagent import Task, Thought
from treeagent.errors import ConfigError, UnknownNameError

from .texts import CHECK, COLOURS, OPENINGS, PEOPLE, PLAN, PROPOSE, RATE, SENTENCES, SOLVE, STACK, STORIES, VALUE

Random = random.Random

MIXED, MINI = "mixed", "mini"
PATIENCE = 1000
"""Draws without a new prompt after which a workload counts as used up."""


def builtin_prompts(kind: str, n: int, seed: int) -> list[str]:
    """``n`` different prompts of a kind. Raises UnknownNameError, or ConfigError when there are not so many."""
    if kind not in KINDS:
        raise UnknownNameError("workload", kind, KINDS, " --prompts FILE takes prompts of your own.")
    draws = _DRAWS if kind == MIXED else {kind: _mini if kind == MINI else _DRAWS[kind]}
    drawn = [_different(draw, f"{name} {seed}") for name, draw in draws.items()]
    found = list(islice(chain.from_iterable(zip(*drawn, strict=False)), n))
    if len(found) < n:
        raise ConfigError(f"the workload {kind!r} has no {n} different prompts; take fewer, or another workload")
    return found


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: a JSON list of texts, or one a line. Raises ConfigError."""
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the prompts in {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the prompts in {path} are not UTF-8 text ({error.reason} at byte {error.start})") from error
    if content.lstrip().startswith("[") or path.suffix == ".json":
        found = _listed(content, path)
    else:
        found = [line for line in content.splitlines() if line.strip()]
    if not found:
        raise ConfigError(f"there are no prompts in {path}: expected one a line, or a JSON list of texts")
    return found


def _listed(content: str, path: Path) -> list[str]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}); expected a list of texts, or one prompt a line") from error
    if not isinstance(found, list) or not all(isinstance(text, str) and text.strip() for text in found):
        raise ConfigError(f'{path} is JSON but no list of texts, such as ["first prompt", "second prompt"]')
    return found


def _different(draw: Callable[[Random], str], seed: str) -> Iterator[str]:
    """Prompts without repetition; ends when none is left."""
    rng, seen, missed = random.Random(seed), set(), 0
    while missed < PATIENCE:
        text = draw(rng)
        if text in seen:
            missed += 1
            continue
        seen.add(text)
        missed = 0
        yield text


def _game24(rng: Random) -> str:
    return f"{PROPOSE}Numbers: {_hand(rng)}\nPossible next steps:\n"


def _mini(rng: Random) -> str:
    hand = _hand(rng)
    return _task().prompt("propose", hand, Thought(0, None, "", hand, hand, 0), [])


@cache
def _task() -> Task:
    return Task.load("game24")


def _hand(rng: Random) -> str:
    return " ".join(map(str, sorted(rng.randint(1, 13) for _ in range(4))))


def _value(rng: Random) -> str:
    left = sorted(rng.randint(1, 24) for _ in range(rng.choice((2, 3, 3))))
    return f"{VALUE}Numbers: {' '.join(map(str, left))}\n"


def _gsm8k(rng: Random) -> str:
    return f"{SOLVE}Problem: {_problem(rng)[0]}\n"


def _gsm8k_value(rng: Random) -> str:
    text, step = _problem(rng)
    return f"{CHECK}Problem: {text}\n{step}\nJudgement:"


def _writing(rng: Random) -> str:
    return f"{PLAN}{_four(rng)}Plan:\n"


def _writing_value(rng: Random) -> str:
    return f"{RATE}{_four(rng)}Plan:\n1. {rng.choice(OPENINGS)}.\n2. {rng.choice(OPENINGS)}.\nScore:"


def _blocksworld(rng: Random) -> str:
    blocks = rng.sample(COLOURS, rng.choice((4, 5)))
    state = _stacks(rng, blocks)
    wanted: list[tuple[str, str]] = []
    while not wanted:  # a goal that is reached already asks for nothing
        pairs = [pair for stack in _stacks(rng, blocks) for pair in pairwise(stack)]
        wanted = pairs if not {*pairs} <= {pair for stack in state for pair in pairwise(stack)} else []
    lies = [
        f"the {block} block is on the {f'{stack[place - 1]} block' if place else 'table'}"
        for stack in state
        for place, block in enumerate(stack)
    ]
    free = [f"the {stack[-1]} block" for stack in state]
    said = f"{', '.join(free[:-1])} and {free[-1]} are" if len(free) > 1 else f"{free[0]} is"
    goal = ", ".join(f"the {upper} block is on the {lower} block" for lower, upper in wanted)
    return (
        f"{STACK}State: {', '.join(lies)}. {said[0].upper()}{said[1:]} free. The hand is empty.\nGoal: {goal}.\n"
        "My plan is as follows:\n"
    )


def _stacks(rng: Random, blocks: Sequence[str]) -> list[list[str]]:
    """The blocks in stacks at random, each from the bottom to the top."""
    stacks: list[list[str]] = []
    for block in rng.sample(blocks, len(blocks)):
        place = rng.randint(0, len(stacks))  # as often on the table as on any one stack
        if place == len(stacks):
            stacks.append([])
        stacks[place].append(block)
    return stacks


def _problem(rng: Random) -> tuple[str, str]:
    """A word problem, and the first step of a solution, wrong in every third."""
    story, sign = rng.choice(STORIES)
    a, b, c = rng.randint(6, 40), rng.randint(6, 25), rng.randint(2, 5)
    who, other = rng.sample(PEOPLE, 2)
    if rng.random() < 1 / 3:
        sign = rng.choice([wrong for wrong in _SIGNS if wrong != sign])
    return story.format(who=who, other=other, a=a, b=b, c=c), f"{a} {sign} {b} = {_SIGNS[sign](a, b)}"


def _four(rng: Random) -> str:
    return "".join(f"{number}. {text}\n" for number, text in enumerate(rng.sample(SENTENCES, 4), 1))


_SIGNS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_DRAWS: dict[str, Callable[[Random], str]] = {
    "game24": _game24,
    "value": _value,
    "gsm8k": _gsm8k,
    "gsm8k-value": _gsm8k_value,
    "writing": _writing,
    "writing-value": _writing_value,
    "blocksworld": _blocksworld,
}
KINDS = (*_DRAWS, MIXED, MINI)
"""Names of the built-in workloads."""
