"""An exception of a plug-in is told as that plug-in's, with the input; nothing that was finished is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ORACLE, call
from faulty import BrokenEvaluator, BrokenSearch, NamelessBackend, Values
from helpers import Oracle
from synthetic import TreeBackend, essence, solve
from synthetic import task as tree_task

from treeagent import Agent, Checker, Judgement, PluginError, Reply, Usage
from treeagent.evaluation.outcomes import read
from treeagent.plugin_boundary import TRACEBACK_VARIABLE, PluginBoundary
from treeagent.runtime.journal import read as read_journal
from treeagent.strategies.bfs import BFS

TREE = [[1, 2], [3, 4], [5, 6]]
QUIZ = """
name: quiz
description: Sums.
metadata: {version: 1}
checker: faulty:BrokenChecker
input: {description: a sum, examples: ['2+2']}
depth: 1
prompts: {io: 'What is {{ input }}?', propose: 'What is {{ input }}?'}
answer: {pattern: '\\d+'}
data: {file: sums.jsonl, input: '{{ question }}', gold: '{{ answer }}'}
"""


@pytest.mark.parametrize("error", ["KeyError", "RecursionError", "MemoryError", "SystemExit"])
def test_a_fault_of_a_backend_names_it_and_keeps_the_best_attempt(error: str) -> None:
    """Whatever it raises: code 3, the input, and the steps that were found before."""
    words = ["-t", "game24", "-b", "faulty:BrokenBackend", "-i", "4 9 10 13", "--model", error]
    done = call("solve", *words, "--set", "backend.spoil=(left: 4 6)", "-e", "verifier", "--set", "b=40")
    assert done.exit_code == 3
    assert "the backend 'faulty:BrokenBackend' failed at the input '4 9 10 13': " + error in done.stderr
    assert "Best attempt:" in done.stdout


@pytest.mark.parametrize(
    ("words", "kind", "error"),
    [
        (["-e", "faulty:BrokenEvaluator"], "evaluator 'faulty:BrokenEvaluator'", "ZeroDivisionError"),
        (["-s", "faulty:BrokenSearch"], "search 'faulty:BrokenSearch'", "IndexError"),
    ],
)
def test_a_fault_of_a_search_or_an_evaluator_names_it(words: list[str], kind: str, error: str) -> None:
    """The best attempt is printed before the line."""
    done = call("solve", *ORACLE, *words)
    assert done.exit_code == 3
    assert f"the {kind} failed at the input '4 9 10 13': {error}" in done.stderr
    assert "Best attempt:" in done.stdout


def test_a_task_that_fails_where_an_evaluator_uses_it_is_to_blame() -> None:
    """Not the evaluator, which only called it."""

    class NoLabels(type(tree_task())):  # type: ignore[misc]  # a class of its own for one property
        @property
        def labels(self) -> Any:
            raise LookupError("no labels")

    broken = tree_task()
    broken.__class__ = NoLabels
    with pytest.raises(PluginError, match=r"the task 'synthetic' failed.*LookupError: no labels") as raised:
        solve(TreeBackend(TREE), BFS(), task=broken)
    assert len(raised.value.result.tree) > 1


def test_a_verdict_that_fails_is_unknown_and_the_answer_stays() -> None:
    """The task's check raises at the end of a finished search: the answer is kept, its verdict is None."""

    class Broken(Checker):
        def verify(self, input: str, steps: Any, answer: str | None) -> bool:
            return bool(answer and 1 / 0)

    task = tree_task()
    task.checker = Broken()
    with pytest.raises(PluginError, match=r"the task .* failed at the input 'r': ZeroDivisionError") as raised:
        solve(TreeBackend(TREE), BFS(), task=task)
    assert raised.value.result.answer == "rcb"
    assert raised.value.result.solved is None
    assert raised.value.result.ended == "failed"


@pytest.mark.parametrize("reply", [None, "text", Reply((), None), Reply(("text",), Usage())])  # type: ignore[arg-type]
def test_a_reply_of_a_wrong_type_is_the_backends_fault(reply: Any) -> None:
    """Not the search's that reads it."""

    class Wrong(Oracle):
        async def generate(self, request: Any) -> Any:
            return reply

    with pytest.raises(PluginError, match=r"the backend 'helpers:Oracle' failed.*generate returned"):
        Agent("game24", "bfs", backend=Wrong()).solve("4 9 10 13")


def test_a_backend_without_a_name_or_with_a_wrong_option_is_told_so() -> None:
    """Before any request."""
    with pytest.raises(PluginError, match=r"it has no name"):
        Agent("game24", "bfs", backend=NamelessBackend())
    words = ["-t", "game24", "-b", "faulty:ClosedBackend", "-i", "4 9 10 13", "--set", "backend.foo=1"]
    done = call("solve", *words)
    assert done.exit_code == 3
    assert "'faulty:ClosedBackend' failed at its construction: TypeError" in done.stderr


def test_values_that_are_not_finite_are_unknown_and_counted(tmp_path: Path) -> None:
    """The best known value wins, and the journal is strict JSON."""
    path = tmp_path / "run.jsonl"
    result = solve(TreeBackend([1, 2, 3, 4, 5]), BFS(), Values(), journal=path)
    assert [thought.value for thought in result.tree if thought.parent is not None] == [0.1, None, 0.9, None, None]
    assert result.counts.judgements_unparsed == 3
    assert result.thought is not None
    assert result.thought.value == 0.9
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in the journal"))


def test_an_evaluators_numbers_of_another_kind_become_floats() -> None:
    """A number of another library is read; a text is the evaluator's fault."""

    class Number:
        def __float__(self) -> float:
            return 2.5

    class Odd(Values):
        async def judge(self, thoughts: Any, context: Any) -> list[Judgement]:
            return [Judgement(Number()) for _ in thoughts]  # type: ignore[arg-type]

    class Text(Values):
        async def judge(self, thoughts: Any, context: Any) -> list[Judgement]:
            return [Judgement("2.5") for _ in thoughts]  # type: ignore[arg-type]

    assert {each.value for each in solve(TreeBackend([1, 2]), BFS(), Odd()).tree if each.parent == 0} == {2.5}
    with pytest.raises(PluginError, match=r"the evaluator .*the value of a judgement is a number or None, not str"):
        solve(TreeBackend([1, 2]), BFS(), Text())


@pytest.fixture
def quiz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of an evaluation of four problems, of which one makes the checker fail and one it cannot read."""
    (tmp_path / "quiz.yaml").write_text(QUIZ)
    golds = ["4", "zero", "unreadable", "5"]
    rows = [json.dumps({"question": f"{number}+1", "answer": gold}) for number, gold in enumerate(golds)]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "model.yaml").write_text("- {match: '', text: '4'}\n")
    monkeypatch.chdir(tmp_path)
    return ["eval", "-t", "quiz.yaml", "-s", "io", "-b", "scripted", "--model", "model.yaml", "--out", "out"]


def test_eval_counts_a_fault_at_its_problem_and_goes_on(quiz: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeroDivisionError in ``grade`` is the checker's; only a ValueError of ``grade`` is told of the gold answer."""
    monkeypatch.setattr("faulty.BrokenChecker.verify", Checker.verify)  # only grading fails
    done = call(*quiz, "--allow-code", "--quiet")
    assert done.exit_code == 3, done.stderr
    known = read(Path("out/outcomes.jsonl"))[1]
    assert [known[number].right for number in range(4)] == [True, None, None, False]
    assert "the checker 'faulty:BrokenChecker' failed: ZeroDivisionError" in str(known[1].error)
    assert known[2].error == "its gold answer cannot be read: from the checker"


def test_eval_tells_a_value_error_of_the_search_as_the_plug_ins(tmp_path: Path) -> None:
    """It is not a gold answer that cannot be read."""
    data = tmp_path / "hands.txt"
    data.write_text("4 9 10 13\n1 1 1 1\n")
    words = ["eval", "-t", "game24", "-b", "faulty:BrokenBackend", "--data", str(data), "--out", str(tmp_path / "out")]
    done = call(*words, "--model", "ValueError", "--set", "backend.spoil=Numbers: 1 1 1 1", "--quiet")
    assert done.exit_code == 3
    known = read(tmp_path / "out" / "outcomes.jsonl")[1]
    assert known[0].right is True
    assert str(known[1].error).startswith(
        "the backend 'faulty:BrokenBackend' failed at the input '1 1 1 1': ValueError"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"number": "x"}, "outcomes.jsonl:2: number: "),
        ({"values": [5]}, "outcomes.jsonl:2: values.0: "),
        ({"calls": None}, "outcomes.jsonl:2: calls: "),
        ({"type": "other"}, "outcomes.jsonl:2: type: "),
    ],
)
def test_a_changed_outcome_is_told_with_file_line_and_key(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """One line instead of a traceback."""
    data = tmp_path / "hands.txt"
    data.write_text("4 9 10 13\n1 1 1 1\n")
    words = ["eval", "-t", "game24", "-b", "helpers:Oracle", "--data", str(data), "--out", str(tmp_path / "out"), "-q"]
    assert call(*words).exit_code == 0
    path = tmp_path / "out" / "outcomes.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **change})
    path.write_text("\n".join(lines) + "\n")
    done = call(*words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_the_traceback_is_there_for_the_author(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """With an environment variable, and not without it."""

    def fail() -> None:
        with PluginBoundary("search", "mine"):
            raise KeyError("where")

    for variable, shown in (("", False), ("1", True)):
        monkeypatch.setenv(TRACEBACK_VARIABLE, variable)
        with pytest.raises(PluginError):
            fail()
        assert ("Traceback" in capsys.readouterr().err) is shown


def test_the_search_and_the_evaluator_keep_the_journal(tmp_path: Path) -> None:
    """It says what failed, ends, and is resumed with the same fault."""
    path = tmp_path / "run.jsonl"
    for plugins in ((BrokenSearch(), "value"), (BFS(), BrokenEvaluator())):
        path.unlink(missing_ok=True)
        with pytest.raises(PluginError) as raised:
            Agent("game24", plugins[0], evaluator=plugins[1], backend=Oracle()).solve("4 9 10 13", journal=path)
        assert [event.type for event in read_journal(path)][-2:] == ["failed", "end"]
        agent, text = Agent.from_journal(path, allow_code=True)
        with pytest.raises(PluginError) as again:
            asyncio.run(agent.run(text, journal=path, resume=True).result())
        assert essence(again.value.result)["tree"] == essence(raised.value.result)["tree"]
