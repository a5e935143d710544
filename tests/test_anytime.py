"""``treeagent anytime``: curves from journals, tokens of the judge included, a paired test and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from typer.testing import CliRunner

from treeagent import ConfigError, InputError
from treeagent.cli import app
from treeagent.evaluation.anytime import Curve, GradedAnswer, curve
from treeagent.evaluation.equal_tokens import SearchCurve, compare
from treeagent.evaluation.outcomes import read
from treeagent.runtime.recorded_event import RecordedEvent

HANDS = ["4 5 6 10", "4 9 10 13", "1 1 1 1"]


def paid(id: str, role: str, tokens: int | None) -> RecordedEvent:
    usage = {"prompt_tokens": tokens, "completion_tokens": 0}
    return RecordedEvent("completion", {"id": id, "role": role, "usage": usage})


def thought(id: int, parent: int, request: str, *, terminal: bool = True) -> RecordedEvent:
    return RecordedEvent(
        "thought", {"id": id, "parent": parent, "text": f"t{id}", "request": request, "terminal": terminal}
    )


def answer(id: int, text: str) -> RecordedEvent:
    return RecordedEvent("answer", {"id": id, "answer": text})


def judged(id: int, value: float) -> RecordedEvent:
    return RecordedEvent("judged", {"id": id, "value": value})


def verdict(steps: Sequence[str], text: str) -> GradedAnswer:
    """Answers that begin with r are right, those that end with v are verified."""
    return GradedAnswer(text, text, text.startswith("r"), text.endswith("v"))


def drawn(events: list[RecordedEvent], final: bool, spelled: Any = lambda steps, data: None) -> Curve:
    return curve([RecordedEvent("run", {}), *events], verdict, spelled, final)


def test_attempts_vote_at_every_number_of_tokens() -> None:
    """The most frequent answer so far; of equals the earliest. All were asked for at once, and are paid in turn."""
    events = [paid(str(number), "cot", 10) for number in (1, 2, 3)]
    for number, text in enumerate(["w", "r", "r"], 1):
        events += [thought(number, 0, str(number)), answer(number, text)]
    found = drawn(events, final=True)
    assert [found.at(tokens) for tokens in (0, 10, 20, 29, 30, 99)] == [False, False, False, False, True, True]
    assert (found.spent, found.judging) == (30, 0)


def test_attempts_that_are_judged_do_not_vote() -> None:
    """Once a judgement is known the best attempt is the answer, as in ``best-of-n``; before that they vote."""
    events = [paid(str(number), "cot", 10) for number in (1, 2, 3)]
    for number, text in enumerate(["w", "w", "r"], 1):
        events += [thought(number, 0, str(number)), answer(number, text)]
    for number, value in enumerate([0.1, 0.2, 0.9], 1):
        events += [paid(f"v{number}", "value", 5), judged(number, value)]
    found = drawn(events, final=True)
    assert [found.at(tokens) for tokens in (30, 35, 40, 44, 45)] == [False, False, False, False, True]
    assert (found.spent, found.judging) == (45, 15)


def test_a_tree_answers_with_its_best_thought() -> None:
    """By value, and one that verifies goes first; the judge's tokens count and are counted apart."""
    events = [
        paid("p", "propose", 100), thought(1, 0, "p"), thought(2, 0, "p"),
        paid("v1", "value", 20), judged(1, 0.1), paid("v2", "value", 20), judged(2, 0.9),
        RecordedEvent("scores", {"id": "s", "usage": {"prompt_tokens": 5, "completion_tokens": 0}}),
        paid("a1", "answer", 10), answer(1, "r"), paid("a2", "answer", 10), answer(2, "w"),
        paid("a3", "answer", 10), answer(1, "rv"),
    ]  # fmt: skip
    found = drawn(events, final=True)
    assert [found.at(tokens) for tokens in (154, 155, 164, 165, 174, 175)] == [False, True, True, False, False, True]
    assert (found.spent, found.judging) == (175, 45)


def test_a_template_spells_the_answer_of_a_terminal_thought() -> None:
    """Where no model writes it, from the steps that lead there."""
    events = [paid("p", "propose", 7), thought(1, 0, "p", terminal=False), paid("q", "propose", 7), thought(2, 1, "q")]
    found = drawn(events, True, lambda steps, data: "r" if steps == ["t1", "t2"] else "w")
    assert (found.at(7), found.at(13), found.at(14)) == (False, False, True)


def test_tokens_that_nobody_knows_cannot_be_equal() -> None:
    """A backend without token counts is refused in one line."""
    with pytest.raises(InputError, match="does not report its tokens"):
        drawn([paid("p", "cot", None)], final=False)


def test_searches_are_compared_on_common_problems_at_one_budget() -> None:
    """A search that stops early keeps its answer; the paired test is that of the whole budget."""
    cheap = SearchCurve("cheap", {n: Curve((0, 10), (False, n < 4), 10, 0) for n in range(10)})
    dear = SearchCurve("dear", {n: Curve((0, 80), (False, True), 80, 20) for n in range(9)})
    found = compare([cheap, dear], None)
    assert (found.budget, found.budgets, found.numbers) == (80, [10, 20, 40, 80], tuple(range(9)))
    assert [dear.at(tokens, found.numbers).part for tokens in (79, 80)] == [0, 9]
    pair = found.against_first(dear)
    assert (pair.first, pair.second, pair.p) == (5, 0, pytest.approx(2 / 32))
    assert compare([cheap, dear], 40).against_first(dear).second == 4
    assert dear.judging(found.numbers) == pytest.approx(0.25)
    assert [tokens for tokens, _ in found.points(dear)] == [0, 80]
    with pytest.raises(ConfigError, match="no problem has a verdict"):
        compare([cheap, SearchCurve("none", {})], None)


def invoke(folder: Path, *words: str) -> Any:
    (folder / "hands.txt").write_text("\n".join(HANDS) + "\n")
    how = ["--task", "game24", "--backend", f"helpers:{Oracle.__name__}", "--data", str(folder / "hands.txt")]
    return CliRunner().invoke(app, ["anytime", *how, "--out", str(folder / "out"), "--quiet", *words])


@pytest.mark.parametrize("apart", [(), ("--evaluator-backend", "helpers:Oracle")])
def test_the_tokens_of_the_judge_are_those_of_the_outcomes(tmp_path: Path, apart: tuple[str, ...]) -> None:
    """The part of all tokens that the table states is what the ledger has booked, on the same backend or its own."""
    searches = ["-s", "bfs b=3", "-s", "greedy"]
    report = json.loads(invoke(tmp_path, *searches, *apart, "--evaluator", "choice", "--json").output)
    for row in report["searches"]:
        folder = tmp_path / "out" / row["search"].replace(" ", "-")
        outcomes = list(read(folder / "outcomes.jsonl")[1].values())
        judged = sum(outcome.judge_tokens or 0 for outcome in outcomes)
        assert 0 < judged < sum(outcome.tokens or 0 for outcome in outcomes)
        assert row["judging"] * sum(outcome.tokens or 0 for outcome in outcomes) == pytest.approx(judged)


def test_one_command_says_whether_the_tree_is_worth_it(tmp_path: Path) -> None:
    """A table, JSON and a plot; each search has a folder that goes on; the last verdicts are those of the outcomes."""
    words = ["-s", "cot-sc k=2", "-s", "bfs b=3"]
    plot = tmp_path / "plot.png"
    shown = invoke(tmp_path, *words, "--plot", str(plot))
    assert shown.exit_code == 0, shown.output
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "bfs b=3 against cot-sc k=2 at" in shown.output
    report = json.loads(invoke(tmp_path, *words, "--json").output)
    assert report["problems"] == 3
    for row, folder in zip(report["searches"], ("cot-sc-k=2", "bfs-b=3"), strict=True):
        outcomes = read(tmp_path / "out" / folder / "outcomes.jsonl")[1].values()
        assert row["at"][-1]["part"] == sum(bool(outcome.right) for outcome in outcomes)
        assert row["tokens"] * 3 == sum(outcome.tokens or 0 for outcome in outcomes)
        assert row["curve"][-1]["value"] == row["at"][-1]["value"]
    assert report["searches"][1]["judging"] > report["searches"][0]["judging"] == 0
    assert report["searches"][1]["against_first"]["p"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-s", "bfs"], "two or more different searches"),
        (["-s", "bfs", "-s", "bfs"], "two or more different searches"),
        (["-s", "bfs", "-s", "cot-sc k"], "expected NAME=VALUE"),
        (["-s", "bfs", "-s", "bsf"], "Did you mean 'bfs'"),
        (["-s", "bfs", "-s", ""], "the name of a search is missing"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(tmp_path: Path, words: list[str], message: str) -> None:
    """One line and exit code 2."""
    refused = invoke(tmp_path, *words)
    assert refused.exit_code == 2
    assert message in refused.output
    assert not (tmp_path / "out").exists()
