"""``treeagent eval``: verdicts apart from failures, nothing lost or done twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from eval_tools import HANDS, run
from eval_tools import hands as hands  # noqa: PLC0414  the fixture
from helpers import Oracle

from treeagent import Agent, BackendError, Budget, JournalError, Reply, Request
from treeagent.evaluation.outcomes import Outcome, Outcomes, read
from treeagent.evaluation.run import Evaluation
from treeagent.evaluation.summary import compared, summary
from treeagent.taskfile import dataset as data

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
