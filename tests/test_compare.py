"""Whether two backends grow the same tree, and which is faster."""

from __future__ import annotations

import json

import pytest
from cli_tools import ORACLE, call
from metered import DIARY

from treeagent import Completion, Key, Reply, Request, ScoreRequest, Scores, Usage
from treeagent.comparison.same_tree import Exchange, first_difference

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


METERED = ["-b", "metered:Metered:a,metered:Metered:b", "-i", "4 9 10 13"]


@pytest.fixture
def diary() -> list[str]:
    """What is done to metered backends in this test."""
    DIARY.clear()
    return DIARY


def test_repeats_take_turns_each_with_a_fresh_loaded_backend(diary):
    """An untimed pass, then N timed ones in rotating order; opened anew, loaded before the clock runs, and closed."""
    result = call("compare", "-t", "game24", *METERED, "--repeat", "3", "--json")
    assert result.exit_code == 0
    assert diary[:2] == ["open a", "open b"]  # what cannot be opened is told before the first request
    assert diary[2:8] == ["load a", "run a", "close a", "load b", "run b", "close b"]
    assert diary[8:16] == ["open b", "load b", "run b", "close b", "open a", "load a", "run a", "close a"]
    assert diary[16:24] == ["open a", "load a", "run a", "close a", "open b", "load b", "run b", "close b"]
    found = json.loads(result.stdout)
    assert (found["repeats"], found["warm"]) == (3, False)
    for row in found["backends"]:
        assert len(row["runs"]) == 3
        assert {run["engine"]["requests"] for run in row["runs"]} == {76}
    first, second = found["backends"]
    assert first["speedup"] is None
    low, high = second["speedup"]["interval"]
    assert low <= second["speedup"]["ratio"] <= high


def test_warm_repeats_keep_the_backend(diary):
    """Opened once, and closed once at the end."""
    call("compare", "-t", "game24", *METERED, "--repeat", "2", "--warm")
    assert [line for line in diary if not line.startswith("load")] == [
        *("open a", "open b", "run a", "run b", "run b", "run a", "run a", "close a", "run b", "close b")
    ]


def test_one_run_has_no_speed_up(diary):
    """The first run of a process pays for what later ones find done; it says what is needed instead."""
    result = call("compare", "-t", "game24", *METERED)
    assert diary.count("run a") == diary.count("run b") == 1
    assert "speed-ups need --repeat 3" in result.stdout
    assert json.loads(call("compare", "-t", "game24", *METERED, "--json").stdout)["backends"][1]["speedup"] is None


@pytest.mark.parametrize(("repeat", "said"), [("2", "an interval needs --repeat 3"), ("3", "95 % interval")])
def test_the_table_is_followed_by_speed_ups_and_the_engines_own_figures(repeat, said):
    """A line for each backend but the first, and the figures of all."""
    lines = call("compare", "-t", "game24", *METERED, "--repeat", repeat).stdout.splitlines()
    assert "median seconds" in lines[1]
    assert lines[4].startswith("speed-up over metered:Metered:a")
    assert lines[5].startswith("  metered:Metered:b  ")
    assert said in lines[5]
    assert lines[7].startswith("metered:Metered:a engine: tokens per second 301, requests 76")
    assert "drafted" not in "".join(lines)


@pytest.mark.parametrize(
    ("model", "warm", "repeat", "runs"), [("drifts@3", [], 2, 3), ("drifts@2", ["--warm"], 1, 2), ("a", [], None, 5)]
)
def test_every_run_is_held_against_the_first_of_all(diary, model, warm, repeat, runs):
    """A backend whose repeats differ is a difference too: the comparison ends without a speed-up."""
    backends = f"metered:Metered:{model},metered:Metered:b"
    result = call("compare", "-t", "game24", "-b", backends, "-i", "4 9 10 13", "--repeat", "4", *warm, "--json")
    found = json.loads(result.stdout)
    assert found["same_tree"] is (repeat is None)
    assert result.exit_code == (repeat is not None)
    assert diary.count(f"run {model}") == runs
    if repeat is not None:
        assert found["difference"]["repeat"] == repeat
        assert found["difference"]["backend"] == f"metered:Metered:{model}"
        assert found["backends"][1]["speedup"] is None


def test_a_difference_in_the_untimed_pass_is_shown_with_what_was_measured(diary):
    """The table has the one pass that there is."""
    backends = "metered:Metered:a,metered:Metered:drifts@1"
    result = call("compare", "-t", "game24", "-b", backends, "-i", "4 9 10 13", "--repeat", "3")
    assert result.exit_code == 1
    assert "not the same tree: input 4 9 10 13, metered:Metered:drifts@1 against metered:Metered:a" in result.stdout
    assert "speed-up" not in result.stdout
    assert result.stdout.count("1/1") == 1


def test_complete_repeats_remain_after_ctrl_c(diary):
    """What was measured is printed; half a repeat is not. Before the first whole one there is nothing to print."""
    words = ["-b", "metered:Metered:a,metered:Metered:stops@4", "-i", "4 9 10 13", "--repeat", "9", "--json"]
    result = call("compare", "-t", "game24", *words)
    assert result.exit_code == 130
    assert json.loads(result.stdout)["repeats"] == 2
    assert "2 of 9 repeats" in result.stderr
    diary.clear()
    result = call("compare", "-t", "game24", *words[:1], words[1].replace("@4", "@2"), *words[2:])
    assert result.exit_code == 130
    assert result.stdout == ""


def test_the_json_and_the_picture_go_to_files(tmp_path):
    """``--output`` has what ``--json`` prints, ``--plot`` a PNG; both replace what was there."""
    output, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    output.write_text("old " * 9999)
    words = [*METERED, "--repeat", "3", "--json", "--output", str(output), "--plot", str(plot)]
    result = call("compare", "-t", "game24", *words)
    assert json.loads(output.read_text()) == json.loads(result.stdout)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {plot}" in result.stderr


def test_speeds_of_different_trees_are_not_drawn(tmp_path):
    """The JSON is written, and says why."""
    output, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    backends = ["-b", "helpers:Oracle,helpers:Oracle:wrong", "-i", "4 9 10 13"]
    words = [*backends, "--repeat", "3", "--output", str(output), "--plot", str(plot)]
    result = call("compare", "-t", "game24", *words)
    assert result.exit_code == 1
    assert json.loads(output.read_text())["same_tree"] is False
    assert not plot.exists()
    assert "is not drawn" in result.stderr


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
        ([*METERED, "--repeat", "0"], "'--repeat'", 2),
        ([*METERED, "--output", "no/such/folder.json"], "--output: cannot write no/such/folder.json", 2),
        ([*METERED, "--output", "."], "--output: cannot write", 2),
        ([*METERED, "--repeat", "3", "--plot", "no/such/folder.png"], "--plot: cannot write no/such/folder.png", 2),
        ([*METERED, "--repeat", "3", "--plot", "speed.jpg"], "such as speed.png", 2),
        ([*METERED, "--plot", "speed.png"], "--repeat 3", 2),
    ],
)
def test_compare_tells_what_is_wrong(words, said, code):
    """Before the first request, where it can be known."""
    DIARY.clear()
    result = call("compare", "-t", "game24", *words)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert DIARY == []


def test_a_replay_of_another_search_is_a_backend_failure(tmp_path):
    """The journal has no answer to what this search asks."""
    journal = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(journal))
    words = ["-b", f"helpers:Oracle,replay:{journal}", "-i", "4 9 10 13", "--seed", "1"]
    assert call("compare", "-t", "game24", *words).exit_code == 3
