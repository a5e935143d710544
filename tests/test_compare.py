"""Whether two backends grow the same tree."""

from __future__ import annotations

import json

import pytest
from test_cli import ORACLE, call

from treeagent import Completion, Key, Reply, Request, ScoreRequest, Scores, Usage
from treeagent.compare import Exchange, first_difference

USAGE = Usage(1, 1, 1)


def said(text: str, *, place: str = "root", tokens: tuple[int, ...] | None = None, finish: str = "stop") -> Exchange:
    """One reply to a request at a place."""
    request = Request(f"prompt {place}", Key(0, "propose", place))
    return Exchange(request, Reply((Completion(text, tokens, finish),), USAGE))


def scored(value: float) -> Exchange:
    """One scoring."""
    return Exchange(ScoreRequest("prompt", (" a",)), Scores((value,), (1,), USAGE))


def test_equal_exchanges_in_any_order_are_the_same_tree():
    """Requests are matched by what they ask, not by when."""
    left = [said("a", place="0"), said("b", place="1"), scored(-1.0)]
    assert first_difference(left, left[::-1]) is None


def test_scores_may_differ_by_rounding_only():
    """Another kernel rounds differently; that is no other tree."""
    assert first_difference([scored(-1.0)], [scored(-1.0000001)]) is None
    found = first_difference([scored(-1.0)], [scored(-1.1)])
    assert found is not None
    assert found.what == "scores"


@pytest.mark.parametrize(
    ("left", "right", "what", "position"),
    [
        (said("abc"), said("abd"), "text", 2),
        (said("abc"), said("ab"), "text", 2),
        (said("ab", tokens=(1, 2)), said("ab", tokens=(1, 3)), "token ids", 1),
        (said("ab", tokens=(1, 2)), said("ax"), "text", 1),
        (said("ab"), said("ab", finish="length"), "finish", None),
        (said("ab"), Exchange(said("ab").request), "reply", None),
    ],
)
def test_the_first_difference_is_named(left, right, what, position):
    """What differs, and at which token or character."""
    found = first_difference([left], [right])
    assert found is not None
    assert (found.what, found.position) == (what, position)
    assert "propose at 'root'" in str(found)


def test_a_reply_that_differs_comes_before_the_requests_that_follow_from_it():
    """A request that only one run made is a consequence, unless all shared replies agree."""
    found = first_difference([said("x", place="9"), said("a")], [said("b"), said("y", place="8")])
    assert found is not None
    assert found.what == "text"
    found = first_difference([said("a")], [said("a"), said("y", place="8")])
    assert found is not None
    assert found.what == "request"


def test_compare_finds_the_same_tree_in_a_replay(tmp_path):
    """A journal replayed is the same tree, token for token; exit code 0 and a row per backend."""
    journal = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(journal))
    result = call("compare", "-t", "game24", "-b", f"helpers:Oracle,replay:{journal}", "-i", "4 9 10 13")
    assert result.exit_code == 0
    assert "same tree" in result.stdout
    assert result.stdout.count("1/1") == 2


def test_compare_names_the_first_difference_and_counts_what_was_solved():
    """A judge that says the opposite parts from the oracle at its first word."""
    backends = "helpers:Oracle,helpers:Oracle:wrong"
    result = call("compare", "-t", "game24", "-b", backends, "-i", "4 9 10 13", "-i", "3 3 8 8", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["same_tree"] is False
    assert found["difference"]["what"] == "token ids"
    assert found["difference"]["where"].startswith("value at")
    assert [row["solved"] for row in found["backends"]] == [2, 0]
    assert [row["inputs"] for row in found["backends"]] == [2, 2]


def test_compare_takes_inputs_from_the_data_of_the_task():
    """``--limit`` takes the first rows."""
    result = call("compare", "-t", "game24", "-b", "helpers:Oracle,helpers:Oracle", "--limit", "3", "--json", "-q")
    assert json.loads(result.stdout)["backends"][0]["inputs"] == 3


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["-b", "helpers:Oracle"], "two or more", 2),
        (["-b", "helpers:Oracle,replai:x"], "Did you mean 'replay'?", 2),
        (["-b", "helpers:Oracle,replay:missing.jsonl"], "cannot read the journal", 2),
        (["-b", "helpers:Oracle,helpers:Oracle", "-i", "x"], "is not an input", 2),
        (["-b", "helpers:Oracle,helpers:Oracle", "--limit", "3", "-i", "x"], "exclude each other", 2),
        (["-b", "helpers:Oracle,helpers:Oracle", "-i", "4 9 10 13", "--set", "backend.fail_at=5"], "told to fail", 3),
    ],
)
def test_compare_tells_what_is_wrong(words, said, code):
    """Before the first request, where it can be known."""
    result = call("compare", "-t", "game24", *words)
    assert result.exit_code == code
    assert said in result.stderr


def test_a_replay_of_another_search_is_a_backend_failure(tmp_path):
    """The journal has no answer to what this search asks."""
    journal = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(journal))
    words = ["-b", f"helpers:Oracle,replay:{journal}", "-i", "4 9 10 13", "--seed", "1"]
    assert call("compare", "-t", "game24", *words).exit_code == 3
