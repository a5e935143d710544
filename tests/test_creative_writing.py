"""Creative writing: the four endings, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treeagent import InputError, Task
from treeagent.tasks.creative_writing import CreativeWriting, paragraphs, readings

CHECK = CreativeWriting()
TASK = Task.load("creative_writing")
FOUR = ["The lamp was still warm.", 'She said "no".', "It's 5 o'clock!", "Who knew?"]
INPUT = " ".join(FOUR)
WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=8), min_size=1, max_size=6).map(" ".join)
SENTENCES = st.tuples(WORDS, st.sampled_from([".", "!", "?"])).map(lambda parts: parts[0].capitalize() + parts[1])


@given(st.lists(SENTENCES, min_size=4, max_size=4), st.lists(SENTENCES, min_size=4, max_size=4))
def test_a_passage_with_the_right_ends_verifies_and_a_changed_one_does_not(ends: list[str], starts: list[str]) -> None:
    """Whatever stands before them; a word more, a paragraph less or two ends exchanged, and it fails."""
    input = TASK.read_input(" ".join(ends))
    parts = [f"{start} {end}" for start, end in zip(starts, ends, strict=True)]
    assert CHECK.verify(input, [], "\n\n".join(parts))
    assert CHECK.verify(input, ["a plan", "\n".join(parts)], None)
    assert CHECK.verify(input, [], "\n\n".join(ends))
    assert CHECK.verify(TASK.read_input(" | ".join(ends)), [], "\n\n".join(parts))
    assert not CHECK.verify(input, [], "\n\n".join(parts[:3]))
    assert not CHECK.verify(input, [], "\n\n".join([*parts, "The end."]))
    assert not CHECK.verify(input, [], "\n\n".join([*parts[:3], f"{parts[3]} Indeed."]))
    assert not CHECK.verify(input, [], " ".join(parts))
    turned = [*parts[1::-1], *parts[2:]]
    if not parts[0].endswith(f" {ends[1]}") or not parts[1].endswith(f" {ends[0]}"):
        assert CHECK.verify(input, [], "\n\n".join(turned)) == (ends[0] == ends[1])


@pytest.mark.parametrize(
    ("change", "right"),
    [
        (lambda text: text.replace('"', "\u201d").replace("'", "\u2019"), True),  # the printer's quotation marks
        (lambda text: text.replace("still warm", "still  warm"), True),
        (lambda text: text.replace("\n\n", "\n \n\n"), True),
        (lambda text: f"  {text}\n\n", True),
        (lambda text: text.replace("The lamp", "the lamp"), False),
        (lambda text: text.replace("warm.", "warm"), False),
        (lambda text: text.replace("Who knew?", "And who knew? Who knows?"), False),
        (lambda text: text.replace("So. Who", "SoWho"), False),  # not a sentence of its own
        (lambda text: "", False),
    ],
)
def test_spacing_and_quotation_marks_do_not_count_and_all_else_does(change, right: bool) -> None:
    """The constraint is on the words."""
    passage = "\n\n".join(f"So. {end}" for end in FOUR)
    assert CHECK.verify(INPUT, [], passage)
    assert CHECK.verify(INPUT, [], change(passage)) is right


def test_a_fragment_without_a_full_stop_may_end_at_any_capital() -> None:
    """As in five of the paper's inputs; each way to read it will do, and only those."""
    text = "One is here. Instead of a party He met Ann. Two are. "
    ways = readings(text)
    assert ("One is here.", "Instead of a party", "He met Ann.", "Two are.") in ways
    assert all(" ".join(way) == text.strip() for way in ways)
    passage = "\n\n".join(f"So. {end}" for end in ("One is here.", "Instead of a party", "He met Ann.", "Two are."))
    assert CHECK.verify(TASK.read_input(text), [], passage)
    assert not CHECK.verify(TASK.read_input(text), [], passage.replace("party", "parties"))


@pytest.mark.parametrize("text", ["One. Two. Three. Four. Five.", "One. Two.", "a | b | c", "a | b | | d", "no end"])
def test_other_than_four_sentences_are_refused(text: str) -> None:
    """The message tells how to part them by hand."""
    with pytest.raises(InputError, match=r"write \| between them"):
        TASK.read_input(text)


def test_paragraphs_are_parted_by_blank_lines_where_there_are_any() -> None:
    """A line break within a paragraph is then none."""
    assert paragraphs("a\nb\n\nc") == ["a b", "c"]
    assert paragraphs("a\nb\nc\n") == ["a", "b", "c"]


def test_a_passage_is_one_thought_and_the_plan_comes_first() -> None:
    """Line breaks do not part thoughts; the second prompt shows the plan, and the answer is the passage."""
    input = TASK.read_input(INPUT)
    root = TASK.root(input)
    [plan] = TASK.read_thoughts("sample", "1. One.\n2. Two.\n", input, root, [])
    assert (plan.text, plan.terminal) == ("1. One.\n2. Two.", False)
    thought = type(root)(1, 0, plan.text, plan.state, plan.key, 1)
    prompt = TASK.prompt("sample", input, thought, [plan.text])
    assert prompt.endswith("Plan:\n1. One.\n2. Two.\nPassage:\n")
    passage = "\n\n".join(FOUR)
    [piece] = TASK.read_thoughts("sample", passage, input, thought, [plan.text])
    assert (piece.text, piece.terminal, piece.fault) == (passage, True, None)
    last = type(root)(2, 1, piece.text, piece.state, piece.key, 2)
    assert TASK.path_answer(input, last, [plan.text, piece.text]) == passage
    assert TASK.path_answer(input, thought, [plan.text]) is None


def test_the_passage_is_read_after_a_plan() -> None:
    """A chain of thought writes both."""
    assert TASK.read_answer("1. a\n2. b\nPassage:\nOne.\n\nTwo.\n") == "One.\n\nTwo."
    assert TASK.read_answer("One.\n\nTwo.\n") == "One.\n\nTwo."
