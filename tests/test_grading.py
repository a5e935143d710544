"""Grading: which answers agree with which gold answers, kind by kind."""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec

import pytest

from treeagent import MissingExtraError, extras
from treeagent.grading.choices import read_options
from treeagent.grading.filters import Filter
from treeagent.grading.math_answers import MathComparer
from treeagent.grading.numerals import number
from treeagent.grading.rule import KINDS, GradeRule

OPTIONS = {"A": "21", "B": "42 km", "C": "None of these", "D": "A truck", "E": "B"}
VERDICTS = [
    # kind, answer, gold, verdict
    ("exact", "yes", "yes", True),
    ("exact", "  yes\n", "yes", True),
    ("exact", "Yes", "yes", False),
    ("exact", "yes.", "yes", False),
    ("ignore_case", "Yes", "yes", True),
    ("ignore_case", "YES.", "yes", True),
    ("ignore_case", " yes!\n", "Yes", True),
    ("ignore_case", '"Yes"', "yes", True),
    ("ignore_case", "**Yes**", "yes", True),
    ("ignore_case", "\u201cYes.\u201d", "yes", True),
    ("ignore_case", "New   York", "new york", True),
    ("ignore_case", "Stra\u00dfe", "STRASSE", True),
    ("ignore_case", "cafe\u0301", "Caf\u00e9", True),
    ("ignore_case", "yes, no", "yes", False),
    ("ignore_case", "yesno", "yes no", False),
    ("ignore_case", "no", "yes", False),
    ("ignore_case", "U.S.", "u.s", True),
    ("ignore_case", ".", "yes", False),
    ("number", "1,234", "1234", True),
    ("number", "1234.00", "1,234", True),
    ("number", "1 234", "1234", True),
    ("number", "1'234", "1234", True),
    ("number", "12,34", "1234", False),
    ("number", "-5", "\u22125", True),
    ("number", "5", "-5", False),
    ("number", "+5.", "5", True),
    ("number", "3/4", "0.75", True),
    ("number", "-1/2", "-0.5", True),
    ("number", "1 3/4", "1.75", True),
    ("number", "-1 3/4", "-1.75", True),
    ("number", "0.1", "1/10", True),
    ("number", "0.3333", "1/3", False),
    ("number", "1e3", "1000", True),
    ("number", "2.5E-1", "0.25", True),
    ("number", ".5", "0.5", True),
    ("number", "$1,080", "1080", True),
    ("number", "-$5", "-5", True),
    ("number", "5\u20ac", "5", True),
    ("number", "50%", "0.5", True),
    ("number", "50%", "50", False),
    ("number", "50%", "50 %", True),
    ("number", "18 apples", "18", False),
    ("number", "1 2", "12", False),
    ("number", "1/0", "1", False),
    ("number", "five", "5", False),
    ("number", "", "5", False),
    ("number", "9" * 500, "9", False),
    ("number", "1e99999999", "1", False),
    ("choice", "B", "B", True),
    ("choice", "b", "B", True),
    ("choice", "(B)", "B", True),
    ("choice", "B.", "B", True),
    ("choice", "b)", "B", True),
    ("choice", "**B**", "B", True),
    ("choice", "The answer is B", "B", True),
    ("choice", "The correct answer is: (B).", "B", True),
    ("choice", "the answer is B because 42 fits", "B", True),
    ("choice", "Answer: B) 42 km", "B", True),
    ("choice", "42 KM", "B", True),
    ("choice", "The answer is 42 km.", "B", True),
    ("choice", "none of these", "C", True),
    ("choice", "21", "A", True),
    ("choice", "B) 21", "B", False),
    ("choice", "The answer is (B) 21.", "B", False),
    ("choice", "B) about forty", "B", True),
    ("choice", "I think (C) fits best", "C", True),
    ("choice", "(A) or (B)", "B", False),
    ("choice", "The answer is a truck", "D", True),
    ("choice", "The answer is a truck", "A", False),
    ("choice", "The answer is A, as shown", "A", True),
    ("choice", "F", "B", False),
    ("choice", "a", "A", True),
    ("choice", "42 km", "42 km", True),
    ("choice", "B", "42 km", True),
    ("choice", "", "B", False),
    ("list", "3, 5, 7", "3 5 7", True),
    ("list", "[3, 5, 7]", "3, 5, 7", True),
    ("list", "3,5,7.", "3, 5, 7", True),
    ("list", "3, 7, 5", "3, 5, 7", False),
    ("list", "3, 5", "3, 5, 7", False),
    ("list", "3, 5, 7, 7", "3, 5, 7", False),
    ("list", "3.0, 5, 7", "3, 5, 7", True),
    ("list", "1,000, 2,000", "1000; 2000", True),
    ("list", "apple, banana and cherry", "apple, banana, cherry", True),
    ("list", "Apple, Banana, and Cherry.", "apple, banana, cherry", True),
    ("list", "1. apple\n2. banana", "apple, banana", True),
    ("list", "- apple\n- banana", "apple banana", True),
    ("list", '["apple", "banana"]', "apple banana", True),
    ("list", "['apple', 'banana']", "apple banana", True),
    ("list", "apple -> banana", "apple, banana", True),
    ("list", "apple; New York", "apple, new york", True),
    ("list", "", "apple", False),
]


@pytest.mark.parametrize(("kind", "answer", "gold", "verdict"), VERDICTS)
def test_a_kind_leaves_out_of_account_what_it_says(kind: str, answer: str, gold: str, verdict: bool) -> None:
    """The table of verdicts that docs/tasks.md describes."""
    assert GradeRule(kind).agrees(answer, gold, OPTIONS if kind == "choice" else {}) is verdict


@pytest.mark.parametrize(("kind", "answer", "gold", "verdict"), VERDICTS)
def test_answers_that_grade_alike_are_one_in_a_vote(kind: str, answer: str, gold: str, verdict: bool) -> None:
    """The key of an answer is that of the gold answer exactly where the verdict is right."""
    rule, options = GradeRule(kind), OPTIONS if kind == "choice" else {}
    assert (rule.key(answer, options) == rule.key(gold, options)) is verdict


def test_the_order_of_a_list_may_not_matter() -> None:
    """How often an item stands there does."""
    loose = GradeRule("list", ordered=False)
    assert loose.agrees("7, 3, 5", "3 5 7", {})
    assert not loose.agrees("3, 3, 5", "3, 5, 5", {})
    assert GradeRule("list", separator=r"\s*\|\s*").agrees("a, b | c", "a, b|c", {})
    assert not GradeRule("list", separator=r"\s*\|\s*").agrees("a | b, c", "a, b|c", {})


def test_a_tolerance_is_absolute_or_a_part_of_the_gold_answer() -> None:
    """The larger of the two counts, and its end belongs to it."""
    assert GradeRule("number", tolerance=0.01).agrees("3.15", "3.14", {})
    assert not GradeRule("number", tolerance=0.01).agrees("3.151", "3.14", {})
    assert GradeRule("number", relative=0.05).agrees("-105", "-100", {})
    assert not GradeRule("number", relative=0.05).agrees("94", "100", {})
    assert GradeRule("number", tolerance=10, relative=0.05).agrees("92", "100", {})


@pytest.mark.parametrize(
    ("steps", "answer", "verdict"),
    [
        ([Filter(strip=("units",))], "18 apples", True),
        ([Filter(strip=("units",))], "$18 in total", True),
        ([Filter(strip=("units",))], "18km/h.", True),
        ([Filter(strip=("units",))], "apples: 18", False),
        ([Filter(strip=("percent",))], "18%", True),
        ([Filter(strip=("percent",))], "18 percent", True),
        ([Filter(strip=("currency",))], "18 dollars", True),
        ([Filter(strip=("currency",))], "USD 18", True),
        ([Filter(first=r"\d+")], "18, then 20", True),
        ([Filter(last=r"\d+")], "18, then 20", False),
        ([Filter(last=r"is (?P<answer>\d+)")], "3 is 4, so it is 18 of 20", True),
        ([Filter(last=r"is (?P<answer>.+)"), Filter(strip=("units",))], "it is 18 apples", True),
        ([Filter(last=r"no such thing")], "18", True),
        ([Filter(last=r"(a+)+b")], "a" * 40, False),
    ],
)
def test_filters_come_before_the_comparison(steps: list[Filter], answer: str, verdict: bool) -> None:
    """In their order; a pattern without a match leaves the text as it is, one that takes too long leaves nothing."""
    assert GradeRule("number", tuple(steps)).agrees(answer, "18", {}) is verdict


def test_a_gold_answer_that_cannot_be_read_is_an_error() -> None:
    """It is the data's fault and not a wrong answer."""
    with pytest.raises(ValueError, match="'many' is no number"):
        GradeRule("number").agrees("5", "many", {})
    with pytest.raises(ValueError, match="'G' is no option of its row"):
        GradeRule("choice").agrees("A", "G", OPTIONS)
    assert GradeRule("choice").agrees("the answer is g", "G", {})


@pytest.mark.parametrize(
    "value",
    [
        ["21", "42 km"],
        ["A)21", "B)42 km"],
        ["(A) 21", "(B) 42 km"],
        {"A": "21", "B": "42 km"},
        {"label": ["A", "B"], "text": ["21", "42 km"]},
        "Options:\n(A) 21\n(B) 42 km",
    ],
)
def test_options_come_in_the_shapes_of_public_data_sets(value: object) -> None:
    """AQuA, ARC, BBH, MMLU; anything else is refused by a ValueError."""
    assert read_options(value) == {"A": "21", "B": "42 km"}
    for wrong in (7, None, "no option", ["x"] * 30):
        with pytest.raises(ValueError, match="option"):
            read_options(wrong)


def test_numbers_are_exact() -> None:
    """A sum that floats get wrong."""
    assert number("0.1") + number("0.2") == number("0.3")  # type: ignore[operator]
    assert set(KINDS) >= {kind for kind, *_ in VERDICTS}


# Mathematics

MATHS = [
    (r"\frac{1}{2}", "0.5", True),
    (r"$\frac{1}{2}$", r"\dfrac12", True),
    (r"\boxed{\frac{3}{4}}", r"\frac{3}{4}", True),
    (r"x^2+2x+1", r"(x+1)^2", True),
    (r"2\sqrt{2}", r"\sqrt{8}", True),
    (r"\left(3, \frac{\pi}{2}\right)", r"(3,\pi/2)", True),
    (r"\text{Evelyn}", "Evelyn", True),
    ("evelyn", r"\text{Evelyn}", True),
    (r"p - q", r"q - p", False),
    (r"\frac{1}{3}", "0.5", False),
    ("", "0.5", False),
    ("no idea", "0.5", False),
]
needs_math = pytest.mark.skipif(find_spec("math_verify") is None, reason="needs the extra math")


@needs_math
@pytest.mark.parametrize(("answer", "gold", "verdict"), MATHS)
def test_equal_mathematics_is_equal(answer: str, gold: str, verdict: bool) -> None:
    """However it is written."""
    assert GradeRule("math").agrees(answer, gold, {}) is verdict


@needs_math
def test_an_answer_that_takes_for_ever_is_wrong_and_the_next_one_is_graded() -> None:
    """In a thread, where signals do not work; the process is replaced."""
    comparer, verdicts = MathComparer(seconds=1.5), []
    assert comparer.equal("0.5", r"\frac{1}{2}")

    def compare() -> None:
        verdicts.append(comparer.equal(r"9^{9^{9^{9^9}}}-1", "3"))
        verdicts.append(comparer.equal(r"\frac{2}{4}", r"\frac{1}{2}"))

    thread, began = threading.Thread(target=compare), time.monotonic()
    thread.start()
    thread.join(120)
    comparer.close()
    assert verdicts == [False, True]
    assert time.monotonic() - began < 120


def test_without_its_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra by name."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"answer\.grade: math needs math_verify"):
        GradeRule("math").agrees("1", "2", {})
