"""The tutorial docs/tutorials/own-task.md, followed word for word, from an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from walkthrough import files, follow, follows_every_block

DOC = Path(__file__).parents[1] / "docs" / "tutorials" / "own-task.md"


@pytest.mark.exhaustive
def test_the_walk_through_works_as_it_stands(tmp_path: Path) -> None:
    """Each file is written, each command run and each line of output found, from nothing to a verified answer."""
    output = follow(DOC.read_text(), tmp_path)
    assert "Answer: " in output
    assert " / " not in output.partition("Answer: ")[2].partition("(solved)")[0]
    assert (tmp_path / "tree.svg").read_text().startswith("<")


def test_everything_shown_is_followed() -> None:
    """No block of the document lies outside what the test above does with it."""
    text = DOC.read_text()
    assert follows_every_block(text)
    assert files(text) == {"mine.yaml", "puzzles.csv", "mine.py"}


@pytest.mark.parametrize("hand", ["1 2 6 12", "4 9 10 13", "2 3 4 12"])
def test_the_puzzles_of_the_document_can_be_solved_without_dividing(hand: str) -> None:
    """By the answers that it names."""
    from treeagent.tasks.game24 import Game24

    rows = dict(re.findall(r"^([\d ]+),(.*)$", DOC.read_text(), re.MULTILINE))
    assert "/" not in rows[hand]
    assert Game24().verify(hand, [], rows[hand])
