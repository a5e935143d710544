"""GSM8K: numbers, and the calculations in a step."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treeagent import Task
from treeagent.tasks.expressions import value
from treeagent.tasks.gsm8k import GSM8K, equations, number

CHECK = GSM8K()
TASK = Task.load("gsm8k")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("18", 18), ("1,080", 1080), ("$1,080.00", 1080), ("-5", -5), ("- $5", -5), ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)), ("36 apples", 36), ("20%", 20), ("7.", 7), ("", None), ("ten", None), ("1 2", None),
        ("1e9", None), ("1/2", None), ("3-4", None), ("10,80", None),
    ],
)  # fmt: skip
def test_numbers_are_read_or_not_at_all(text: str, meant: Fraction | None) -> None:
    """Separators, currencies and units aside; what is no single number is None, never 0."""
    assert number(text) == meant


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" 29\n", "29"),
        (" $29.50 in all", "29.50"),
        ("First 4 * 6 = 24, then 24 + 5 = 29.\nAnswer: 29", "29"),
        ("Answer: 3\nno, Answer: 4", "4"),
        ("The answer is 1,234 pens.", "1,234"),
        ("all that work\n#### 72", "72"),
        ("Answer: -3", "-3"),
        ("it costs 12 in all", None),
        ("Answer: unknown", None),
        ("", None),
    ],
)
def test_answers_are_read_from_completions(completion: str, answer: str | None) -> None:
    """At the start, or after a mark; the last one counts, and a number that merely occurs is none."""
    assert TASK.read_answer(completion) == answer


@given(st.integers(-(10**9), 10**9))
def test_a_number_grades_as_itself_in_any_spelling(whole: int) -> None:
    """With separators, currency and decimals, it is the same answer, also when votes are counted."""
    spelled = [str(whole), f"{whole:,}", f"{whole}.00"]
    assert all(CHECK.grade(text, str(whole)) for text in [*spelled, f"${whole:,}".replace("$-", "-$")])
    assert not CHECK.grade(str(whole + 1), str(whole))
    assert len({TASK.answer_key(text) for text in spelled}) == 1


def test_a_gold_answer_that_is_none_is_an_error() -> None:
    """Data with a fault is not graded as wrong answers."""
    with pytest.raises(ValueError, match="no number"):
        CHECK.grade("3", "three")
    assert CHECK.grade("three", "3") is False


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How many? 4 * 6 = 24", [True]),
        ("How many? 4 * 6 = 25", [False]),
        ("4 x 6 = 24 and 24 + 5 = 30", [True, False]),
        ("4 \u00d7 6 = 24, 24 \u00f7 5 = 4.8, 5 \u2212 3 = 2", [True, True, True]),
        ("$1,200 / 3 = $400", [True]),
        ("10 / 3 = 3.33", [True]),
        ("10 / 3 = 3.34", [False]),
        ("10 / 3 = 3", [True]),
        ("2 * (3 + 4) = 14", [True]),
        ("1 + 1 = 1 + 1 = 2", [True]),  # the first has more behind it; the second is an equation
        ("6 / 0 = 0", []),  # no value
        ("30 students * 2/3 = 20 students", []),  # the whole calculation has a unit in it
        ("1 1/2 = 1.5", []),
        ("1 and 1/2 = 1.5", []),
        ("x + 2 = 5", []),
        ("20% * 50 = 10", []),
        ("there are 24", []),
        ("9 = 9", []),
    ],
)
def test_the_calculations_of_a_step_are_found_and_checked(text: str, found: list[bool]) -> None:
    """Right to the digits written; what has units or unknowns inside is left alone."""
    assert [right for _, right in equations(text)] == found


def test_a_miscalculated_step_is_illegal() -> None:
    """It is dropped before a judge is paid."""
    input = TASK.read_input(TASK.spec.input.examples[0])
    faults = {
        "How many tulips are there? 4 * 6 = 24": None,
        "How many tulips are there? 4 * 6 = 26": "illegal",
        "Answer: 29": None,
    }
    for text, fault in faults.items():
        [piece] = TASK.read_thoughts("sample", text, input, TASK.root(input), [])
        assert piece.fault == fault
        assert piece.terminal == text.startswith("Answer")


@given(st.integers(0, 999), st.sampled_from("+-*/"), st.integers(1, 999))
def test_true_calculations_are_true_and_others_false(left: int, sign: str, right: int) -> None:
    """Against Python's own fractions."""
    exact = {"+": left + right, "-": left - right, "*": left * right, "/": Fraction(left, right)}[sign]
    shown = f"{float(exact):.4f}"
    assert equations(f"so {left} {sign} {right} = {shown}") == [(f"{left} {sign} {right} = {shown}", True)]
    wrong = f"{float(exact) + 0.01:.4f}"
    assert [truth for _, truth in equations(f"so {left} {sign} {right} = {wrong}")] == [False]


def test_rubbish_takes_no_time() -> None:
    """No pattern backtracks for ever."""
    began = time.monotonic()
    for text in ("1+" * 400, "(" * 800, "1 " * 400 + "= 1", "1,111" * 200, "-" * 800 + "=", "9" * 3000 + "*9=1"):
        equations(text)
        TASK.read_answer(text)
    assert time.monotonic() - began < 3
    assert value("(" * 101) is None


def test_the_examples_in_the_prompts_are_true() -> None:
    """Every calculation in a few-shot prompt is right, but those that are shown as bad, and there is one in each."""
    input = TASK.read_input("How many?")
    for role in ("sample", "cot", "answer"):
        found = equations(TASK.prompt(role, input, TASK.root(input), []))
        assert found, role
        assert all(right for _, right in found), role
