"""Thinking is separated from what a model says, in each form in which models write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treeagent.errors import ConfigError
from treeagent.reasoning import DEFAULT_MARKS, Thinking

MARKS = Thinking("<think>", "</think>")


@pytest.mark.parametrize(
    ("whole", "text", "reasoning"),
    [
        ("4 + 9 = 13", "4 + 9 = 13", None),
        ("<think>\nPerhaps 4 * 9.\n\nNo.\n</think>\n\n4 + 9 = 13", "4 + 9 = 13", "Perhaps 4 * 9.\n\nNo."),
        ("<think>a</think>4 + 9 = 13", "4 + 9 = 13", "a"),
        ("\n<think>a</think>\n  indented", "  indented", "a"),
        ("Perhaps.\n</think>\n\nsure", "sure", "Perhaps."),
        ("<think>\nPerhaps 4 *", "", "Perhaps 4 *"),
        ("<think>\n\n</think>\n\nsure", "sure", ""),
        ("<think>", "", ""),
        ("<think>a</think>\n<think>b</think>\nsure", "sure", "a\nb"),
        ("<think>a</think>sure\n<think>b</think>", "sure\n", "a\nb"),
        ("<think>a</think>sure\n<think>b", "sure\n", "a\nb"),
        ("The tag <think> opens thinking.", "The tag <think> opens thinking.", None),
        ("<think>It ends with </think> as usual</think>sure", "sure",
         "It ends with \n as usual"),
        ("", "", None),
    ],
)  # fmt: skip
def test_thinking_is_separated(whole: str, text: str, reasoning: str | None) -> None:
    """A pair, a closing mark alone, an opening one that nothing closes; a mark within a sentence is text."""
    split = MARKS.split(whole)
    assert (split.text, split.reasoning) == (text, reasoning)


def test_a_prompt_that_opens_thinking_is_recognised() -> None:
    """Templates of reasoning models end so; what is never closed is thinking to its end."""
    opened = MARKS.after("<|assistant|><think>\n")
    assert opened.split("Let me see").reasoning == "Let me see"
    assert opened.split("Let me see").text == ""
    assert opened.split("so\n</think>\n\nsure") == MARKS.split("so\n</think>\n\nsure")
    assert MARKS.after("<|assistant|>").split("sure").text == "sure"


def test_offsets_follow_the_text() -> None:
    """Of a place in the whole text its place in what is said; thinking has no width."""
    whole = "<think>ab</think>\n\n4 + 9"
    split = MARKS.split(whole)
    assert [split.offset(at) for at in (0, 9, 19, 20, len(whole))] == [0, 0, 0, 1, 5]


@pytest.mark.parametrize(
    ("text", "start"),
    [("", 0), ("\n\n", 0), ("4 +", 0), ("<thi", None), ("<think>a\n\nb", None), ("<think>a</think>\n\n4", 18),
     ("<think>a</think>\n\n", 18), ("<think>a</think>\n<think>b", None), ("<this", 0)],
)  # fmt: skip
def test_stop_strings_are_looked_for_after_thinking(text: str, start: int | None) -> None:
    """While a text grows: nowhere in thinking, nor in the beginning of its mark."""
    assert MARKS.answer_start(text) == start
    opened = MARKS.after("<think>")
    assert opened.answer_start("a\n\nb") is None
    assert opened.answer_start("a</think>sure") == 9


@given(st.lists(st.sampled_from(["<think>", "</think>", "a", "\n", " ", "<", "sure"]), max_size=12).map("".join))
def test_no_text_is_too_odd(whole: str) -> None:
    """The text is made of its spans; a mark that closes never stays in it."""
    for marks in (MARKS, MARKS.after("<think>")):
        split = marks.split(whole)
        assert split.text == "".join(whole[start:end] for start, end in split.spans)
        assert split.offset(len(whole)) == len(split.text)
        assert "</think>" not in split.text
        start = marks.answer_start(whole)
        assert start is None or 0 <= start <= len(whole)


def test_marks_are_an_option() -> None:
    """Two marks with a blank between, or none; anything else says what was expected."""
    assert Thinking.parse(DEFAULT_MARKS) == MARKS
    assert Thinking.parse("[THINK] [/THINK]") == Thinking("[THINK]", "[/THINK]")
    assert Thinking.parse("none") is None
    for wrong in ("", "<think>", "a a", "a b c"):
        with pytest.raises(ConfigError, match="two different marks"):
            Thinking.parse(wrong)
