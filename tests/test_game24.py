"""The exact checker of the Game of 24 and the arithmetic below it."""

from __future__ import annotations

import re
import sys
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent import InputError, Task
from treeagent.tasks.game24 import STEP, Game24, evaluate
from treeagent.tasks.game24_rules import read, show

CHECK = Game24()
TASK = Task.load("game24")


@pytest.mark.parametrize(
    ("hand", "answer"),
    [
        ("3 3 8 8", "8 / (3 - 8 / 3)"),
        ("1 3 4 6", "6 / (1 - 3 / 4)"),
        ("1 3 4 6", "6/(1-3/4) = 24"),
        ("1 3 4 6", "6/(1-3/4) =24  "),
        ("4 9 10 13", "(13 - 9) * (10 - 4)"),
        ("4 9 10 13", "((13 - 9)) * ((10 - 4))=24"),
        ("10 10 4 4", "(10 * 10 - 4) / 4"),
        ("1 2 3 4", "4*3*2*1"),
    ],
)
def test_right_answers_verify(hand: str, answer: str) -> None:
    """Exactly, with fractions on the way, in any spacing, with or without the trailing result."""
    assert CHECK.verify(hand, [], answer)


@pytest.mark.parametrize(
    ("hand", "answer"),
    [
        ("3 3 8 8", "3 * 8"),  # numbers left over
        ("3 3 8 8", "8 * 3 * (8 / 8) / 3 * 3"),  # a number more often than given
        ("1 2 3 4", "4 * 3 * 2"),
        ("1 2 3 4", "12 * 2 * (4 - 3)"),  # digits joined
        ("1 2 3 4", "4 * 3 * 2 + 1 - 1"),
        ("4 6 1 1", "4 * 6 / (1 - 1)"),
        ("4 6 1 1", "4 * 6 + 1 / (1 - 1) * 0"),
        ("1 2 3 4", "-(-4 * 3 * 2 * 1)"),
        ("1 2 3 4", "4 * 3 * 2 * +1"),
        ("1 2 3 4", "4 * 3 * 2 ** 1"),
        ("1 2 3 4", "4 * 3 * 2 // 1"),
        ("2 2 6 6", "6 * (2 + 2) * 6 = 24"),
        ("1 2 3 4", "4 * 3 * 2 * 1 = 24 = 24"),
        ("1 2 3 4", "= 24"),
        ("1 2 3 4", "24"),
        ("1 2 3 4", ""),
        ("1 2 3 4", "()"),
        ("1 2 3 4", "4 3 * 2 * 1"),
        ("1 2 3 4", "(4 * 3) (2 * 1)"),
        ("1 2 3 4", "(4 * 3 * 2 * 1"),
        ("1 2 3 4", "4 * 3 * 2 * 1)"),
        ("1 2 3 4", "4 * 3 * 2 * 1 #"),
        ("1 2 3 4", "4.0 * 3 * 2 * 1"),
        ("1 2 3 4", "4e0 * 3 * 2 * 1"),
        ("1 2 3 4", "٤ * 3 * 2 * 1"),
        ("1 2 3 4", "4 * 3 * 2 * 1 = 25"),
        ("1 2 3 4", "__import__('os').system('true')"),
        ("1 2 3 4", "(lambda: 24)()"),
        ("1 2 3 4", "x" * 10**6),
        ("1 2 3 4", "(" * 10**6),
        ("1 2 3 4", "9" * 10**6),
        ("1 2 3 4", "=" * 10**5),
        ("1 2 3 4", "((((" * 20),
    ],
)
def test_wrong_answers_do_not(hand: str, answer: str) -> None:
    """Reused, missing, joined or invented numbers, other operators, division by zero, signs, code and rubbish."""
    began = time.monotonic()
    assert CHECK.verify(hand, [], answer) is False
    assert time.monotonic() - began < 2


def test_brackets_cannot_exhaust_the_stack() -> None:
    """The deepest text that is parsed at all fits well into the recursion limit."""
    limit = sys.getrecursionlimit()
    depth = 0
    frame: Any = sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back
    try:
        sys.setrecursionlimit(depth + 400)
        assert evaluate("(" * 100) is None
        assert evaluate("(" * 49 + "1" + ")" * 49) == (1, (1,))
    finally:
        sys.setrecursionlimit(limit)


EXPRESSIONS = st.recursive(
    st.integers(0, 13).map(str),
    lambda inner: st.tuples(
        inner, st.sampled_from(["+", " - ", "*", " / "]), inner, st.sampled_from(["{}", "({})"])
    ).map(lambda parts: parts[3].format("".join(parts[:3]))),
    max_leaves=8,
)


@settings(deadline=None)
@given(EXPRESSIONS | st.text("0123456789+-*/() =", max_size=12))
def test_the_evaluator_agrees_with_python(text: str) -> None:
    """Precedence, association and brackets are Python's, in exact fractions; what divides by zero has no value."""
    result = evaluate(text)
    body = re.sub(r"=\s*24\s*$", "", text)
    try:
        value = eval(re.sub(r"([0-9]+)", r"Fraction('\1')", body), {"Fraction": Fraction})  # noqa: S307  digits and operators only
    except (ZeroDivisionError, SyntaxError, TypeError):
        value = None
    if result is not None or (
        value is not None and text.strip("0123456789") and not re.search(r"\*\*|//|(^|[-+*/(])\s*[-+]", body)
    ):
        assert result == (value, tuple(sorted(map(Fraction, re.findall(r"[0-9]+", body)))))


# Steps


@pytest.mark.parametrize(
    ("parent", "text", "legal"),
    [
        ("4 9 10 13", "13 - 9 = 4 (left: 4 4 10)", True),
        ("4 9 10 13", "13 - 9 = 4 (left: 10 4 4)", True),
        ("4 9 10 13", "4 - 9 = -5 (left: -5 10 13)", True),
        ("3 3 8 8", "8 / 3 = 8/3 (left: 8/3 3 8)", True),
        ("8/3 3 8", "3 - 8/3 = 1/3 (left: 1/3 8)", True),
        ("4 6", "4 * 6 = 24 (left: 24)", True),
        ("4 9 10 13", "13 - 9 = 5 (left: 5 4 10)", False),  # wrong result
        ("4 9 10 13", "12 - 9 = 3 (left: 3 4 10)", False),  # a number that is not there
        ("4 9 10 13", "4 + 4 = 8 (left: 8 9 10 13)", False),  # one number used twice
        ("4 9 10 13", "13 - 9 = 4 (left: 4 4 10 13)", False),  # an operand still there
        ("4 9 10 13", "13 - 9 = 4 (left: 4 10)", False),  # a number lost
        ("4 9 10 13", "13 - 9 = 4 (left: 4 4 11)", False),  # a number changed
        ("4 9 10 13", "13 - 9 = 4 (left: )", False),
        ("0 4 9", "4 / 0 = 0 (left: 0 9)", False),  # division by zero
        ("4 9 10 13", "13 ^ 9 = 4 (left: 4 4 10)", False),
        ("4 9 10 13", "13-9=4 (left: 4 4 10)", False),
        ("4 9 10 13", "13 - 9 = 4", False),
        ("4 9 10 13", "13 - 9 = 4 (left: four 4 10)", False),
        ("4 9 10 13", "13 - 9 = 4/1 (left: 4 4 10)", True),
        ("4 9 10 13", "13 - 9 = 4/0 (left: 4 4 10)", False),
        ("3 3 8 8", "8 / 3 = 2.67 (left: 2.67 3 8)", False),  # rounded
        ("4 9 10 13", "13 - 9 = 4e0 (left: 4e0 4 10)", False),
    ],
)
def test_a_step_is_legal_only_if_all_of_it_is_true(parent: str, text: str, legal: bool) -> None:
    """Operands present, result exact, and what is said to be left is left; negative numbers are numbers."""
    match = STEP.fullmatch(text)
    assert CHECK.legal(parent, text, match[5] if match else "") is legal


def test_the_state_must_be_what_the_text_says() -> None:
    """A legal text with another state is not legal."""
    assert not CHECK.legal("4 6", "4 * 6 = 24 (left: 24)", "25")


@pytest.mark.parametrize(
    "number", ["1e999999999", "1E9", "9" * 5000, "1/0", "1_0", "+4", "0x4", "4.0", "inf", "nan", "٤", "-", ""]
)
def test_no_number_can_hang_or_crash_the_checker(number: str) -> None:
    """Whatever a model writes where a number belongs: not legal, in no time."""
    began = time.monotonic()
    assert not CHECK.legal("4 9 10 13", f"{number} - 9 = 4 (left: 4 4 10)", "4 4 10")
    assert not CHECK.legal("4 9 10 13", f"13 - 9 = {number} (left: {number} 4 10)", f"{number} 4 10")
    pieces = TASK.read_thoughts("propose", f"13 - 9 = 4 (left: {number} 4 10)", "4 9 10 13", TASK.root("4 9 10 13"), [])
    assert [piece.fault for piece in pieces] in (["illegal"], ["unparsed"], ["illegal", "unparsed"])
    for loose in TASK.read_thoughts("propose", f"13 - 9 = 4 (left: {number} 4 10)", "", TASK.root("4 9"), []):
        assert loose.fault in ("illegal", "unparsed")
    assert time.monotonic() - began < 2


@settings(deadline=None)
@given(st.lists(st.fractions(max_denominator=99, min_value=-99, max_value=99), min_size=1, max_size=4))
def test_show_and_read_are_inverse(numbers: list[Fraction]) -> None:
    """In any order of the words."""
    state = tuple(sorted(numbers))
    assert read(show(state)) == state == read(show(tuple(numbers)))


# The task file


@pytest.mark.parametrize(
    "text", ["4 9 ten", "4 9 10", "4 9 10 13 2", "0 4 9 10", "4 9 10 14", "4,9,10,13", "", "4 9 10 -13"]
)
def test_wrong_inputs_are_one_clear_error(text: str) -> None:
    """The error says what is wanted, with an example."""
    with pytest.raises(InputError, match="four whole numbers from 1 to 13, for example '4 9 10 13'"):
        TASK.read_input(text)


def test_inputs_are_shown_in_one_form() -> None:
    """Ascending, single blanks."""
    assert TASK.read_input("  13 9\t10   4 ") == "4 9 10 13"


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" (10 - 4) * (13 - 9) = 24\n", "(10 - 4) * (13 - 9)"),
        ("13 - 9 = 4 (left: 4 4 10)\nAnswer: (10 - 4) * (13 - 9) = 24\n", "(10 - 4) * (13 - 9)"),
        ("Answer: (10 - 4) * 4", "(10 - 4) * 4"),
        ("I do not know", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_answers_are_read_from_completions(completion: str, answer: str | None) -> None:
    """The last line that is an expression, without its result."""
    assert TASK.read_answer(completion) == answer


def test_reading_an_answer_takes_no_time_on_rubbish() -> None:
    """The pattern is not one that backtracks for ever."""
    began = time.monotonic()
    for text in ("1" + " " * 300 + "x", " " * 300 + "x", "1 + " * 200 + "x", "\n" * 300 + "x"):
        TASK.read_answer(text)
    assert time.monotonic() - began < 3


def test_states_are_the_same_in_any_order_and_spelling() -> None:
    """The key is the sorted multiset of exact numbers."""
    assert CHECK.key("4 8/3 6") == CHECK.key("8/3 6 4") == CHECK.key("16/6 4/1 6")
    with pytest.raises(ValueError, match="whole numbers"):
        CHECK.key("four")
