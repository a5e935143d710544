"""The patterns and checkers of the bundled tasks take time that grows with a text, and no faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest

from treeagent import InputError, Task, YamlTask
from treeagent.tasks import blocksworld, blocksworld_rules, creative_writing, gsm8k, prontoqa

NAMES = ("blocksworld", "game24", "crosswords", "gsm8k", "prontoqa", "creative_writing")
UNITS = (
    " ", "\n", " \n", "1", "1 ", "1 + ", "1,000", "(", "(1)+", "= ", "1 = ", "a", "A ", "$ ", "|", '" ', "Answer: ",
    "plan:\n ", "Passage: ", "stack ", "a on ", "####", " is", "is ", "abcde ", "Max is a cat. ",
)  # fmt: skip
EDGES = (("1", "x"), ("Answer: stack a", " ="))
SIZES = (4_000, 32_000)


def seconds(function: Callable[[str], object], text: str) -> float:
    """The computing time of a call."""
    began = time.thread_time()
    with suppress(ValueError, InputError):
        function(text)
    return time.thread_time() - began


def steepest(function: Callable[[str], object], texts: Callable[[int], str]) -> float:
    """By how much the time grows where a text is doubled; 0 where 32,000 characters take no time worth measuring."""
    for size in SIZES:
        if seconds(function, texts(size)) > 0.008:
            least = [min(seconds(function, texts(many)) for _ in range(3)) for many in (2 * size, size)]
            return least[0] / least[1]
    return 0.0


def grows(function: Callable[[str], object], texts: Callable[[int], str]) -> bool:
    """Whether the time more than triples, three times in a row: once may be the machine."""
    return all(steepest(function, texts) > 3 for _ in range(3))


def readers(task: YamlTask) -> dict[str, Callable[[str], object]]:
    """Everything of a task that reads a text of a model, of a data file or of the user."""
    input = task.read_input(task.examples[0])
    root = task.root(input)
    checker = task.checker
    return {
        "thoughts": lambda text: task.read_thoughts("propose", text, input, root, []),
        "step": lambda text: checker.transition(root.state, text) if checker.simulates else None,
        "legal": lambda text: checker.legal(root.state, text, root.state),
        "answer": task.read_answer,
        "input": task.read_input,
        "state": checker.key,
        "proof": lambda text: checker.verifies and checker.verify(input, [text], None),
        "verdict": lambda text: checker.verifies and checker.verify(input, ["a"], text),
        "grade": lambda text: checker.grade(text, text),
    }


@pytest.mark.sampled(5)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_a_doubled_text_takes_at_most_about_twice_the_time(name: str, part: int) -> None:
    """For every reader of the task and every hostile text: blanks, line breaks, digits, brackets, words, key words."""
    task = Task.load(name)
    assert isinstance(task, YamlTask)
    steep = {
        (what, head, unit)
        for what, reader in readers(task).items()
        for unit in UNITS[part::4]
        for head, tail in EDGES
        if grows(reader, lambda size: head + unit * (size // len(unit)) + tail)  # noqa: B023
    }
    assert steep == set()


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (
            blocksworld.read,
            lambda size: "".join(f"b{n} is on b{n + 1}. " for n in range(size // 16))
            + f"b{size // 16} is on the table. Goal: b0 is on b1.",
        ),
        (blocksworld.read_pddl, lambda size: "(:init " + "(on a b)" * (size // 8) + "(:goal (on a b)"),
        (blocksworld.read_pddl, lambda size: "(:init " + "(" * size + "(:goal"),
        (creative_writing.readings, lambda size: "A. B. C. " + "A " * (size // 2)),
        (creative_writing.readings, lambda size: "A. B. " + "A " * (size // 2)),
        (creative_writing.paragraphs, lambda size: "x" + "\n" * size + "y"),
        (creative_writing.paragraphs, lambda size: "x\n\n" * (size // 3)),
        (prontoqa.read, lambda size: "Max is a cat. " * (size // 14) + "True or false: Max is a cat."),
        (prontoqa.read, lambda size: "A is b. True or false: Max is a cat." + " " * size),
        (gsm8k.equations, lambda size: "1 + " * (size // 4) + "1 = 2"),
        (gsm8k.equations, lambda size: "1 + 1 = 2 " * (size // 10)),
        (gsm8k.number, lambda size: "-" + " " * size + "1"),
    ],
)  # fmt: skip
def test_long_inputs_of_the_right_form_are_read_in_linear_time(
    function: Callable[[str], object], texts: Callable[[int], str]
) -> None:
    """Texts that are nearly or wholly what a checker expects, only long."""
    assert not grows(function, texts)


def test_a_shortest_plan_is_given_up_where_there_are_too_many_states() -> None:
    """Of twelve blocks nobody can tell in time whether a plan is a shortest one: unknown, not a hang."""
    blocks = "abcdefghijkl"
    problem = (
        " ".join(f"{block} is on the table." for block in blocks)
        + " Goal: "
        + " ".join(f"{upper} is on {lower}." for upper, lower in pairwise(blocks))
    )
    began = time.thread_time()
    assert blocksworld.Blocksworld().is_promising(problem, [], problem) is None
    assert time.thread_time() - began < 10
    with pytest.raises(ValueError, match="too many states"):
        blocksworld_rules.shortest_plan(*blocksworld.read(problem))


def test_a_number_of_five_thousand_digits_is_no_number_of_an_answer() -> None:
    """Python refuses to convert it; the checkers say no, without an error."""
    assert gsm8k.number("1" * 5000) is None
    assert gsm8k.GSM8K().grade("1" * 5000, "1") is False
    assert gsm8k.equations(f"1 + 1 = {'1' * 5000}") == []
