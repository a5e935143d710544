"""What early requests gain, on an engine whose passes take as long as it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import early_tables
import pytest

from treeagent.backends.bench.early import cases, simulated_runs
from treeagent.backends.bench.early.__main__ import OPEN, main
from treeagent.backends.bench.early.bound import longest_chain
from treeagent.backends.bench.early.simulated_runs import SimulatedRuns
from treeagent.backends.bench.early.summary import summary
from treeagent.backends.bench.early.timed_chain import TimedRequest
from treeagent.backends.seed.backend import SeedBackend
from treeagent.reply import Completion, Usage
from treeagent.runtime.early_figures import Chances
from treeagent.runtime.events import CompletionEvent
from treeagent.thought import Thought, Tree


@pytest.fixture(scope="module")
def runs() -> SimulatedRuns:
    """With the bundled model."""
    return SimulatedRuns(SeedBackend("mini", drafter="none"))


@pytest.mark.parametrize("name", ["dfs", "best-first", "mcts", "bfs"])
def test_early_requests_come_close_to_the_longest_chain_and_never_below(runs: SimulatedRuns, name: str) -> None:
    """Where a further row costs nothing, guesses of ``auto`` save passes, down to the chain with dfs."""
    row = runs.row(name, cases.HANDS[:1], "auto", 0.0)
    assert row["passes_bound"] <= row["passes_early"] < row["passes"]
    if name == "dfs":
        assert row["passes_early"] == row["passes_bound"]


def test_the_chain_begins_each_request_when_its_line_stands() -> None:
    """Of two lists the second needs the first line of the first: the longer way is to wait for the whole first one."""
    tree = Tree(Thought(0, None, "", "", "", 0, ()))
    tree.add(Thought(1, 0, "a b", "a b", "a b", 1, (0,), request="list", sample=0))
    first = CompletionEvent(
        id="list", role="propose", prompt="", usage=Usage(1), thought=0,
        completions=(Completion("a b\nc\nd\ne", tokens=(1,) * 9, ends=(1, 3, 4, 5, 6, 7, 8, 9, 9)),),
    )  # fmt: skip

    def second(tokens: int) -> CompletionEvent:
        completions = (Completion("x" * tokens, tokens=(1,) * tokens),)
        return CompletionEvent(id="next", role="value", prompt="", usage=Usage(1), thought=1, completions=completions)

    assert longest_chain(tree, [first]) == 1 + 9
    assert longest_chain(tree, [first, second(2)]) == 1 + 9
    assert longest_chain(tree, [first, second(20)]) == 1 + 3 + 1 + 20


def test_a_miss_that_is_given_up_soon_lowers_the_chance_less_than_one_that_writes_a_list() -> None:
    """What counts is the share of the written tokens that is asked for."""
    soon, late = Chances(), Chances()
    for _ in range(10):
        soon.learn("piece", hit=False, written=1)
        late.learn("piece", hit=False, written=100)
    for chances in (soon, late):
        chances.learn("piece", hit=True, written=100)
    assert late["piece"] < 0.2
    assert soon["piece"] > 0.5


def test_what_is_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call measures what is open, and only that; without time it leaves all open."""
    asked: list[float] = []

    def row(self: SimulatedRuns, name: str, hands: Any, speculate: Any, each: float) -> dict[str, Any]:
        asked.append(each)
        return {"gain": 1.0}

    monkeypatch.setattr(simulated_runs.SimulatedRuns, "row", row)
    words = ["--out", str(tmp_path / "early.json"), "--parts", "simulated", "--searches", "dfs", "--each"]
    assert main([*words, "0,0.1", "--budget", "-1"]) == OPEN
    assert not asked
    assert main([*words, "0"]) == 0
    assert main([*words, "0,0.1"]) == 0
    assert asked == [0.0, 0.1]
    assert len(json.loads((tmp_path / "early.json").read_bytes())["rows"]) == 2


def test_the_engine_is_measured_in_all_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One problem at a time, its chain, neither drafts nor early requests, and problems at once, in one table."""
    words = ["--out", str(tmp_path / "early.json"), "--parts", "engine,bound,neither,together", "--searches", "dfs"]
    assert main([*words, "--inputs", "1", "--many", "2", "--repeat", "1", "--budget", "600"]) == 0
    held = json.loads((tmp_path / "early.json").read_bytes())
    assert len(held["rows"]) == 3 + 1 + 1 + 2
    bound = held["rows"]["mini dfs bound"]
    assert 0 < bound["chain_seconds"] <= bound["alone_seconds"]
    assert bound["work_seconds"] > 0
    assert early_tables.markdown(held).count("| `dfs` |") == 3
    assert held["rows"]["mini dfs speculate=8 0"]["hits"]
    assert held["summary"]["mini dfs speculate=8 against neither"]["gain"][0] > 0
    assert held["rows"]["mini dfs together=2 speculate=0 0"]["p50"] > 0
    assert "mini dfs together=2 speculate=auto" in capsys.readouterr().out


def test_a_gain_is_that_over_the_same_repeat() -> None:
    """The median of the ratios, with the lowest and the highest: a slow minute slows down both."""

    def row(seconds: float) -> dict[str, Any]:
        guesses = {"hits": {"piece": 3, "child": 1}, "misses": {"child": 1}}
        return {"seconds": seconds, "passes": 5, "tokens": 10, "tokens_wasted": 1, **guesses}

    rows = {f"mini dfs speculate=0 {repeat}": row(seconds) for repeat, seconds in enumerate((2.0, 20.0, 3.0))}
    rows |= {f"mini dfs speculate=8 {repeat}": row(seconds) for repeat, seconds in enumerate((1.0, 10.0, 1.0))}
    rows["mini dfs bound"] = {"chain_seconds": 0.5, "work_seconds": 1.5}
    figures = summary(rows)["mini dfs speculate=8"]
    assert figures["gain"] == (2.0, 2.0, 3.0)
    assert (figures["gain_chain"], figures["gain_work"]) == (6.0, 2.0)
    assert (figures["hits"][0], figures["misses"][0], figures["wasted"]) == (4, 1, 0.1)


def test_a_line_stands_when_its_feed_is_written() -> None:
    """Of a request that was timed alone; what nothing ends stands with the end."""
    timed = TimedRequest(3.0, [(0, 4, 1.0), (1, 9, 1.5), (0, 9, 2.0)])
    assert [timed.until(0, 3), timed.until(0, 4), timed.until(1, 4), timed.until(0, None)] == [1.0, 2.0, 1.5, 3.0]


def test_wrong_words_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of something else is not overwritten."""
    other = tmp_path / "early.json"
    other.write_text("[]")
    assert main(["--out", str(other)]) == 2
    assert main(["--out", str(tmp_path / "new.json"), "--parts", "none"]) == 2
    assert main(["--out", str(tmp_path / "new.json"), "--model", "other"]) == 2
    assert main(["--out", str(tmp_path / "new.json"), "--parts", "engine", "--inputs", "99"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert other.read_text() == "[]"
