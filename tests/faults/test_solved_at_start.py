"""A goal that is met at the start: solved by an empty path, without a request."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import Agent, Task, Thought, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.cli import app
from treeagent.runtime.journal import read
from treeagent.runtime.journal_tree import rebuild

MET = "a is on b. b is on the table. The hand is empty. Goal: a is on b."
PROVEN = "Pia is shiny. Pia is a gorp. True or false: Pia is shiny."
SEARCHES = (
    "bfs",
    "dfs",
    "mcts",
    "greedy",
    "beam",
    "best-first",
    "dvts",
    "rebase",
    "rap",
    "io",
    "cot",
    "cot-sc",
    "adaptive-sc",
    "ab-mcts",
    "best-of-n",
    "bg-mcts",
    "chain-in-tree",
    "particle-filter",
)


@pytest.mark.parametrize("search", SEARCHES)
def test_any_search_returns_the_empty_plan(search: str, tmp_path: Path) -> None:
    """Field case a; the journal opens, and a run that is resumed says the same."""
    backend = ScriptedBackend([], scores=lambda prompt, text: 0.0)
    path = tmp_path / "run.jsonl"
    agent = Agent("blocksworld", search, backend=backend)
    result = agent.solve(MET, journal=path)
    assert (result.solved, result.path, result.answer, result.ended) == (True, (), "", "finished")
    assert (result.usage.calls, backend.requests) == (0, [])
    rebuilt = rebuild(read(path))
    assert (rebuilt.solved, rebuilt.to_json()["solution"]) == (True, [])
    again = asyncio.run(agent.run(MET, journal=path, resume=True).result())
    assert (again.solved, again.path, again.answer) == (True, (), "")


def test_the_answer_that_a_state_names_is_the_answer() -> None:
    """A statement that is itself given is proven without a step."""
    result = Agent("prontoqa", "bfs", backend=ScriptedBackend([])).solve(PROVEN)
    assert (result.solved, result.answer, result.path) == (True, "True", ())


def test_the_command_says_so(tmp_path: Path) -> None:
    """Exit 0, and words instead of an empty answer."""
    (tmp_path / "none.yaml").write_text('[{match: "^$", text: ""}]')
    how = ["--task", "blocksworld", "--backend", "scripted", "--model", str(tmp_path / "none.yaml"), "--input", MET]
    done = CliRunner().invoke(app, ["solve", *how])
    assert done.exit_code == 0
    assert "Answer: no step is needed, the input is solved as it stands  (solved)" in done.stdout
    assert json.loads(CliRunner().invoke(app, ["solve", *how, "--json"]).stdout)["answer"] == ""


@pytest.mark.parametrize(
    "name", ["arithmetic_tools", "blocksworld", "crosswords", "game24", "gsm8k", "prontoqa", "creative_writing"]
)
def test_other_inputs_are_searched(name: str) -> None:
    """No example of a shipped task is solved as it stands."""
    task = Task.load(name)
    assert not any(task.root(task.read_input(example)).terminal for example in task.examples)


@pytest.mark.parametrize("terminal", ["true", "not steps", "depth < 5", "left == '24'", "steps[-1] == 'x'", "1 / 0"])
def test_an_expression_alone_solves_nothing(terminal: str) -> None:
    """What holds at the start by accident ends no search of a task that cannot verify, or whose check says no."""
    text = Path(str(Task.load("game24").path)).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    game = YamlTask(text.replace('terminal: "left.split() | length == 1"', f'terminal: "{terminal}"'))
    assert not game.root("4 9 10 13").terminal
    plain = YamlTask(text.replace("checker: game24\n", "").replace("left.split() | length == 1", "true"))
    assert not plain.root("4 9 10 13").terminal


def test_a_task_in_python_says_it_by_its_root() -> None:
    """``Task.root`` knows."""

    class Done(Task):
        name = "done"
        examples = ("x",)
        roles = ("propose",)
        evaluator = "verifier"

        def root(self, input):
            return Thought(0, None, "", input, input, 0, terminal=input == "done")

        def prompt(self, role, input, thought, steps, choices=()):
            return "P"

        def read_thoughts(self, role, completion, input, parent, steps):
            return []

        def verify(self, input, steps, answer):
            return input == "done"

    backend = ScriptedBackend(lambda _: "x")
    agent = Agent(Done(), "bfs", backend=backend)
    assert (agent.solve("done").solved, backend.requests) == (True, [])
    assert agent.solve("other").solved is False
    assert backend.requests
