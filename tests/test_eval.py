"""``treeagent eval``: verdicts apart from failures, nothing lost or done twice, numbers that mean what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle, write_end
from hypothesis import given
from hypothesis import strategies as st
from test_cli import call
from typer.testing import CliRunner

from treeagent import Agent, BackendError, Budget, JournalError, Reply, Request, Task
from treeagent.cli import app
from treeagent.evaluation.outcomes import Outcome, Outcomes, read
from treeagent.evaluation.run import Evaluation
from treeagent.evaluation.statistics import exact, paired, percentile, ranking, share
from treeagent.evaluation.summary import compared, summary
from treeagent.runtime.journal import read as read_journal
from treeagent.taskfile import dataset as data

HANDS = ["4 5 6 10", "1 2 3 4", "1 1 1 1", "2 3 5 12", "4 9 10 13", "3 3 8 8", "1 1 1 2", "3 4 5 6"]
"""The third and seventh cannot be solved."""


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    """A data file of the task game24."""
    path = tmp_path / "hands.txt"
    path.write_text("\n".join(HANDS) + "\n")
    return path


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["eval", "--task", "game24", *words])


# The numbers


def test_a_share_has_wilsons_interval() -> None:
    """Published values of 8 of 10, and the ends."""
    found = share(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share(0, 20).low == 0.0
    assert 0.1 < share(0, 20).high < 0.2
    assert share(0, 0).value is None
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)


def test_a_paired_test_counts_what_only_one_solves() -> None:
    """McNemar's exact test: 1 against 9 of 10 discordant pairs is 22 / 1024."""
    outcomes = [(True, False)] * 9 + [(False, True)] + [(True, True)] * 20 + [(False, False)] * 10
    found = paired(outcomes)
    assert (found.first, found.second, found.both, found.neither) == (9, 1, 20, 10)
    assert found.p == pytest.approx(22 / 1024)
    assert found.difference == pytest.approx(0.2)
    assert 0 < found.low < 0.2 < found.high < 0.4
    assert exact(0, 0) == 1.0
    assert exact(3, 3) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_turning_a_comparison_round_turns_its_numbers_round(outcomes: list[tuple[bool, bool]]) -> None:
    """And the interval holds what is next to the difference."""
    one, other = paired(outcomes), paired([(b, a) for a, b in outcomes])
    assert one.p == other.p
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.low <= one.high


def test_values_rank_good_thoughts_above_bad_ones() -> None:
    """Ties count half; a problem with good thoughts only says nothing; every problem has one vote."""
    found = ranking([[(2.0, True), (1.0, False), (1.0, False)], [(1.0, True), (1.0, False)], [(5.0, True)]])
    assert found.auc == pytest.approx((1.0 + 0.5) / 2)
    assert found.pairs == 3
    assert found.levels == ((5.0, 1, 1), (2.0, 1, 1), (1.0, 1, 4))
    assert ranking([]).auc is None
    assert ranking([[(1.0, True), (0.0, False)]]).low is None


def test_percentiles_are_values_that_occurred() -> None:
    """By nearest rank."""
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    assert percentile([], 0.5) is None


# What becomes of problems


class Failing(Oracle):
    """Fails on some inputs, a given number of times."""

    name = "failing"

    def __init__(self, inputs: list[str], times: int = 1_000) -> None:
        super().__init__(None, None)
        self.left = dict.fromkeys(inputs, times)
        self.asked: list[str] = []

    async def generate(self, request: Request) -> Reply:
        """An answer or an error."""
        for text, left in self.left.items():
            if f"Numbers: {text}\n" in request.prompt and request.key.place == "root" and left > 0:
                self.left[text] -= 1
                raise BackendError("the server is down")
        self.asked.append(request.id)
        return await super().generate(request)


def run(backend: Oracle, hands: Path, folder: Path, **how: Any) -> tuple[Evaluation, list[Outcome]]:
    """One evaluation; its outcomes by number."""
    agent = Agent("game24", "bfs", backend=backend)
    problems = data.load(agent.task, source=str(hands))
    kept = Outcomes(folder / "outcomes.jsonl", {"search": "bfs"})
    work = Evaluation(agent, problems, folder / "journals", kept, **how)
    asyncio.run(work.run())
    kept.close()
    return work, [outcome for _, outcome in sorted(kept.known.items())]


def test_every_problem_gets_a_verdict(hands: Path, tmp_path: Path) -> None:
    """An exact generator and judge solve what can be solved; their judgements are worth everything."""
    work, found = run(Oracle(), hands, tmp_path / "out", at_once=3)
    assert [outcome.input for outcome in found] == [data.DataRow(0, hand).input for hand in HANDS]
    solvable = [hand not in ("1 1 1 1", "1 1 1 2") for hand in HANDS]
    assert [outcome.right for outcome in found] == solvable
    numbers = summary(found, len(HANDS))
    assert (numbers.accuracy.part, numbers.accuracy.whole, numbers.failed) == (6, 8, 0)
    assert numbers.bounds is None
    assert numbers.unanswered == sum(outcome.answer is None for outcome in found)
    assert numbers.ranking.auc == 1.0
    assert numbers.calls == sum(outcome.calls for outcome in found) > 50
    assert not work.gave_up


def test_failures_are_no_wrong_answers_and_stop_nobody(hands: Path, tmp_path: Path) -> None:
    """They stand apart, with what the accuracy lies between; the next run tries them again, and nothing else."""
    backend = Failing(["4 5 6 10", "3 3 8 8"], times=1)
    _, found = run(backend, hands, tmp_path / "out")
    assert [outcome.number for outcome in found if outcome.error is not None] == [0, 5]
    numbers = summary(found, len(HANDS))
    assert numbers.failed == 2
    assert (numbers.accuracy.part, numbers.accuracy.whole) == (4, 6)
    assert numbers.bounds == (4 / 8, 6 / 8)
    backend.asked.clear()
    _, again = run(backend, hands, tmp_path / "out")
    assert summary(again, len(HANDS)).failed == 0
    assert sum(outcome.right is True for outcome in again) == 6
    untouched = [outcome for outcome in again if outcome.number not in (0, 5)]
    assert untouched == [outcome for outcome in found if outcome.error is None]
    assert len(backend.asked) == again[0].calls + again[5].calls


def test_too_many_failures_end_it(hands: Path, tmp_path: Path) -> None:
    """A backend that is down is not asked a thousand times; problems that were not started are not lost."""
    work, found = run(Failing(HANDS), hands, tmp_path / "out", at_once=1, max_errors=3)
    assert work.gave_up
    assert [outcome.number for outcome in found] == [0, 1, 2]


def test_problems_in_flight_are_no_more_than_asked_for(hands: Path, tmp_path: Path) -> None:
    """And as many as that, so that a backend can batch."""
    state = {"now": 0, "most": 0}
    together = asyncio.Event()

    class Counting(Oracle):
        async def generate(self, request: Request) -> Reply:
            if request.key.place == "root" and request.key.role == "propose":
                state["now"] += 1
                state["most"] = max(state["most"], state["now"])
                if state["now"] == 3:
                    together.set()
                await asyncio.wait_for(together.wait(), 60)  # the first waits until as many are in flight
                await asyncio.sleep(0)  # and one more would come in here
                state["now"] -= 1
            return await super().generate(request)

    run(Counting(), hands, tmp_path / "out", at_once=3)
    assert state["most"] == 3


def test_two_runs_are_compared_on_what_both_have_a_verdict_on() -> None:
    """By input; failures and ungraded ones count for neither."""
    first = [Outcome(0, "a", "x", True, "finished"), Outcome(1, "b", "x", True), Outcome(2, "c", error="down")]
    second = [Outcome(5, "a", "y", False), Outcome(6, "b", "y", True), Outcome(7, "c", "z", True)]
    found = compared(first, second)
    assert found is not None
    assert (found.first, found.second, found.both, found.neither) == (1, 0, 1, 0)
    assert compared(first, [replace(second[0], input="d")]) is None


# The file


def test_a_torn_line_is_cut_off_and_another_evaluation_is_refused(tmp_path: Path) -> None:
    """Whatever is whole is kept."""
    path = tmp_path / "outcomes.jsonl"
    kept = Outcomes(path, {"seed": 1, "backend": {"name": "seed"}})
    kept.add(Outcome(0, "a", "x", True, "finished", values=((1.0, True),)))
    kept.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type": "outcome", "num')
    again = Outcomes(path, {"seed": 1, "backend": {"name": "seed"}})
    assert again.known[0].values == ((1.0, True),)
    again.add(Outcome(1, "b", error="down"))
    again.close()
    settings, known, _ = read(path)
    assert settings["seed"] == 1
    assert [known[0].right, known[1].error] == [True, "down"]
    with pytest.raises(Exception, match=r"its backend\.name is 'seed', this one's is 'openai'"):
        Outcomes(path, {"seed": 1, "backend": {"name": "openai"}})
    path.write_bytes(whole[:10])
    assert Outcomes(path, {"seed": 2}).known == {}  # nothing was in it


def test_two_processes_do_not_write_one_evaluation(tmp_path: Path) -> None:
    """The second gets an error; when the first has ended it can start."""
    path = tmp_path / "outcomes.jsonl"
    kept = Outcomes(path, {"seed": 1})
    with pytest.raises(JournalError, match="another process"):
        Outcomes(path, {"seed": 1})
    kept.close()
    Outcomes(path, {"seed": 1}).close()


def test_a_gold_answer_that_cannot_be_read_spoils_its_problem_only(hands: Path, tmp_path: Path) -> None:
    """It is a failure, with the reason."""
    agent = Agent("game24", "bfs", backend=Oracle())
    found = data.load(agent.task, source=str(hands))

    class Unreadable(data.Gold):
        def grade(self, row: data.DataRow, answer: str | None) -> bool | None:
            if row.number == 2:
                raise ValueError("12 or 13 is no number")
            return None

    problems = data.Data(found.rows, Unreadable(agent.task, {}))
    kept = Outcomes(tmp_path / "outcomes.jsonl", {})
    asyncio.run(Evaluation(agent, problems, tmp_path / "journals", kept).run())
    kept.close()
    assert [number for number, each in sorted(kept.known.items()) if each.error is not None] == [2]
    assert "12 or 13" in str(kept.known[2].error)
    assert len(kept.known) == len(HANDS)


def test_a_failure_is_not_hidden_by_a_budget_that_is_spent_meanwhile(tmp_path: Path) -> None:
    """A judge that is down while the last judgements are refused: the search fails, it does not end early."""

    class JudgeDown(Oracle):
        async def generate(self, request: Request) -> Reply:
            if request.key.role == "value":
                for _ in range(50):
                    await asyncio.sleep(0)
                raise BackendError("the judge is down")
            return await super().generate(request)

    agent = Agent("game24", "bfs", backend=JudgeDown(), budget=Budget(calls=5))
    with pytest.raises(BackendError, match="the judge is down"):
        agent.solve("4 5 6 10")


# The command


def test_the_command_prints_accuracy_with_its_interval(hands: Path, tmp_path: Path) -> None:
    """For a person and as JSON, with a picture; the same command again runs nothing and prints the same."""
    words = ["--backend", "helpers:Oracle", "--data", str(hands), "--out", str(tmp_path / "out"), "--quiet"]
    first = invoke(*words, "--json", "--plot", str(tmp_path / "a.png"))
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert (found["accuracy"]["part"], found["accuracy"]["whole"], found["failed"]) == (6, 8, 0)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    again = invoke(*words)
    assert again.exit_code == 0
    assert "accuracy 75.0% [40.9% - 92.9%], 6 of 8 (8 of 8 problems run)" in again.stdout
    assert "ranks a good thought above a bad one in 1.000" in again.stdout
    assert "s this time" not in again.stdout  # nothing was run
    assert f"of these for judging: {found['judge_tokens']:,} tokens, {found['judge_calls']:,} calls" in again.stdout


def test_the_command_never_prints_a_bare_accuracy_with_failures(hands: Path, tmp_path: Path) -> None:
    """It says what it lies between, names the failure, and leaves with code 3."""
    result = invoke("--backend", "helpers:Oracle", "--set", "backend.fail_at=9", "--data", str(hands), "--at-once", "1")
    assert result.exit_code == 3, result.output
    assert "1 problem(s) FAILED, so the accuracy lies between" in result.stdout
    assert "accuracy 7" not in result.stdout
    assert "the oracle has been told to fail here" in result.stderr


def test_the_command_compares_two_runs(hands: Path, tmp_path: Path) -> None:
    """Problem by problem, with a test."""
    common = ["--backend", "helpers:Oracle", "--data", str(hands), "--quiet"]
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    assert invoke(*common, "--out", bad, "--model", "wrong").exit_code == 0
    result = invoke(*common, "--out", good, "--against", bad)
    assert result.exit_code == 0, result.output
    assert "on 8 common problems: +" in result.stdout
    assert "exact McNemar test p = " in result.stdout


def test_wrong_words_are_refused_before_anything_is_run(hands: Path, tmp_path: Path) -> None:
    """Other settings for the same folder, a folder without an evaluation, no such data."""
    words = ["--backend", "helpers:Oracle", "--data", str(hands), "--out", str(tmp_path / "out"), "--quiet"]
    assert invoke(*words, "--limit", "2").exit_code == 0
    other = invoke(*words, "--limit", "1")
    assert other.exit_code == 2
    assert "is another evaluation: its data.rows is [0, 1]" in other.output
    hands.write_text("\n".join(["1 1 4 6", *HANDS[1:]]) + "\n")
    changed = invoke(*words, "--limit", "2")
    assert changed.exit_code == 2
    assert "its data.digest is" in changed.output
    hands.write_text("\n".join(HANDS) + "\n")
    assert invoke(*words, "--limit", "2").exit_code == 0
    (tmp_path / "out" / "outcomes.jsonl").unlink()
    orphaned = invoke(*words, "--limit", "2")
    assert orphaned.exit_code == 2
    assert "they may be of another evaluation" in orphaned.output
    assert invoke(*words[:4], "--against", str(tmp_path / "nothing")).exit_code == 2
    assert invoke(*words[:2], "--data", "nothing.txt").exit_code == 2


def test_a_killed_evaluation_goes_on_without_repeating_or_losing_a_problem(hands: Path, tmp_path: Path) -> None:
    """Kill -9 in the middle of a problem: no request is made twice, and every problem has its outcome."""
    log, gate, out = tmp_path / "log", tmp_path / "gate", tmp_path / "out"
    os.mkfifo(gate)
    words = [
        "eval", "--task", "game24", "--backend", "helpers:Oracle", "--data", str(hands), "--out", str(out),
        "--at-once", "1", "--quiet", "--set", f"backend.log={log}",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    stopping = ["--set", f"backend.gate={gate}", "--set", "backend.at=150"]
    process = subprocess.Popen([sys.executable, "-m", "treeagent", *words, *stopping], env=environment)
    end = write_end(gate, process)  # returns when that request is made
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(end)
    made = log.read_text().splitlines()
    assert len(made) == 150
    _, known, _ = read(out / "outcomes.jsonl")
    assert 0 < len(known) < len(HANDS)
    gate.unlink()
    # The gate is part of the backend's options, which are part of what is evaluated.
    again = subprocess.run(
        [sys.executable, "-m", "treeagent", *words, *stopping, "--json"], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["run"], found["accuracy"]["part"]) == (8, 6)
    asked = [
        event.data["id"]
        for journal in sorted((out / "journals").iterdir())
        for event in read_journal(journal)
        if event.type in ("completion", "scores")
    ]
    repeated = len(log.read_text().splitlines()) - len(asked)
    assert repeated == 1  # the one whose answer the kill swallowed


def test_promising_is_the_checkers_verdict() -> None:
    """Game of 24: what is left can make 24. Blocksworld: the beginning of a shortest plan."""
    game = Task.load("game24").checker
    assert game.is_promising("4 5 6 10", [], "4 6") is True
    assert game.is_promising("4 5 6 10", [], "1 1") is False
    blocks = Task.load("blocksworld")
    start = "a is on b. b is on the table. The hand is empty. Goal: a is on the table."
    checker = blocks.checker
    up = checker.transition(start, "unstack a from b")
    assert up is not None
    assert checker.is_promising(start, ["unstack a from b"], up) is True
    back = checker.transition(up, "stack a on b")
    assert back is not None
    assert checker.is_promising(start, ["unstack a from b", "stack a on b"], back) is False


@pytest.mark.exhaustive
def test_the_commands_of_the_manual_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, with the bundled model, one after the other."""
    text = (Path(__file__).parent.parent / "docs" / "eval.md").read_text()
    outputs: dict[str, str] = {}
    monkeypatch.chdir(tmp_path)
    for command in "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines():
        name, *words = shlex.split(command)
        assert name == "treeagent"
        done = call(*words)
        assert done.exit_code == 0, done.output
        assert "accuracy" in done.stdout
        outputs[words[0]] = done.stdout
    assert outputs.keys() == {"eval", "anytime"}
    assert "exact McNemar test" in outputs["eval"]
    assert (tmp_path / "worth.png").exists()
