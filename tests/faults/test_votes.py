"""Votes: read for certain, or not at all."""

from __future__ import annotations

import pytest

from treeagent.strategies.labels import read_vote

VOTES = [
    ("2", 2),
    (" 2.", 2),
    ("**2**", 2),
    ("(2)", 2),
    ("#2", 2),
    ("2:", 2),
    ("2: 4 6", 2),
    ("Choice 2", 2),
    ("choice 2.", 2),
    ("Option 2", 2),
    ("Plan 3", 3),
    ("Best: choice 2", 2),
    ("The best choice is 2", 2),
    ("The best choice is 2.", 2),
    ("The best choice is choice 2", 2),
    ("The best choice is clearly **2**.", 2),
    ("Choice 1 is dull. Choice 2 is lively. Choice 3 has 4 errors.\nThe best choice is 2", 2),
    ("Choice 1 is dull; choice 3 is long. So the best choice is 2.", 2),
    ("1. dull\n2. lively\n\nBest choice: 2", 2),
    ("I choose 3", 3),
    ("I would pick option 3.", 3),
    ("My vote: 1", 1),
    ("I vote for 2", 2),
    ("Answer: 2", 2),
    ("\\boxed{3}", 3),
    ("two", 2),
    ("the second", 2),
    ("The second choice", 2),
    ("The 2nd one.", 2),
    ("2 is better than 1", 2),
    ("2, because 1 repeats itself", 2),
    ("2 of 3", 2),
    ("Choice 2 of 3", 2),
    ("2/3", 2),
    ("2 of 3 choices are dull", None),
    ("1 - dull, 2 - lively", None),
    ("2 - it is lively", 2),
    ("Both 1 and 3", None),
    ("1 and 3", None),
    ("1, 3", None),
    ("1 or 2", None),
    ("1/2", None),
    ("not 2", None),
    ("1 is worse than 2", None),
    ("It is between 1 and 2; 2 wins", None),
    ("Choice 2 is not good", None),
    ("anything but 2", None),
    ("0", None),
    ("4", None),
    ("-1", None),
    ("2.5", None),
    ("2?", None),
    ("none", None),
    ("None of the 3 choices", None),
    ("The best choices are 1 and 2", None),
    ("The best choice is 1 or 2", None),
    ("The best choice is 2 or 3.", None),
    ("The best choice is not 2", None),
    ("Choice 1 has 2 good steps", None),
    ("Step 2 is wrong", None),
    ("1\n2", None),
    ("1: good 2: bad", None),
    ("the first and the third", None),
    ("", None),
    ("I like them all", None),
]


@pytest.mark.parametrize(("text", "vote"), VOTES)
def test_votes(text: str, vote: int | None) -> None:
    """One choice of three, said as people say it; two of them, or a denied one, are no vote."""
    assert read_vote(text, 3) == vote
