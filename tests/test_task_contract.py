"""What every registered task must do, whoever wrote it: a third party's too, if it brings an oracle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import oracles
import pytest

from treeagent import Agent, ConfigError, InputError, Result, Task, registry
from treeagent.backends.scripted import ScriptedBackend
from treeagent.task import ROLES
from treeagent.taskfile import dataset as data
from treeagent.thought import Thought

NAMES = sorted(registry.task_files())
SEARCHES = {"bfs": {}, "dfs": {"threshold": 0.2}, "mcts": {"simulations": 24}, "io": {}, "cot": {}, "cot-sc": {"k": 3}}

UNPROVEN = {("prontoqa", "io")}
"""A bare answer that is right, where only a proof is verified."""


@pytest.fixture(scope="module", params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    """Each registered task in turn."""
    return Task.load(request.param)


def run(task: Task, search: str, evaluator: str | None = None, backend: Any = None) -> Result:
    """The first example, solved by the task's oracle."""
    agent = Agent(
        task, search, backend=backend or oracles.backend(task.name), evaluator=evaluator, options=SEARCHES[search]
    )
    return agent.solve(task.spec.input.examples[0])


def test_every_task_has_an_oracle() -> None:
    """A task that nobody can solve in a test is not finished."""
    assert set(NAMES) == {*oracles.MODELS, "game24"}


def test_a_task_says_where_it_comes_from(task: Task) -> None:
    """Its name is its file's, its description one sentence, its source named."""
    assert task.path is not None
    assert task.path.stem == task.name
    assert task.spec.description.endswith(".")
    assert task.spec.metadata.source


def test_a_task_can_be_used_with_every_search(task: Task) -> None:
    """Prompts to grow by, to judge by and for the baselines are all there."""
    for search in SEARCHES:
        registry.load("search", search)().check(task)
    for evaluator in ("value", "vote", "choice"):
        registry.load("evaluator", evaluator)().check(task)


def test_an_input_has_one_normal_form(task: Task) -> None:
    """Reading what was read changes nothing; the root has a state and a key, and every example another one."""
    inputs = [task.read_input(example) for example in task.spec.input.examples]
    for input in inputs:
        assert task.read_input(input) == input
        root = task.root(input)
        assert root.state
        assert task.checker.key(root.state) == root.key
    assert len(set(inputs)) == len(inputs)


def test_all_prompts_render_all_along_a_solution(task: Task) -> None:
    """At the root and at each state on the oracle's way; no template is left over, and the puzzle is in each prompt."""
    result = run(task, "bfs")
    assert result.thought is not None
    way: list[Thought] = [result.tree.root, *result.tree.lineage(result.thought)]
    for depth, thought in enumerate(way):
        steps = list(result.path)[:depth]
        shown = [{"state": thought.state, "text": thought.text, "steps": steps}]
        for role in ROLES:
            if task.has(role) and not (thought.terminal and role in ("propose", "sample")):
                prompt = task.prompt(role, result.input, thought, steps, choices=shown)
                assert "{{" not in prompt
                assert "{%" not in prompt
                words = [word for word in re.findall(r"\w+", f"{result.input} {thought.state}") if len(word) > 3]
                assert not words or any(word in prompt for word in words)


@pytest.mark.parametrize("search", SEARCHES)
def test_an_oracle_solves_the_first_example(task: Task, search: str) -> None:
    """From the input to the graded answer, with every search: reading, legality, judging, answering, verifying."""
    result = run(task, search)
    assert result.answer is not None
    if task.can_verify:
        assert result.solved is not ((task.name, search) in UNPROVEN)
    if task.name in oracles.GOLD:
        assert task.checker.grade(result.answer, oracles.GOLD[task.name])
    assert result.counts.judgements_unparsed == 0


@pytest.mark.parametrize("evaluator", ["vote", "value"])
def test_both_ways_to_judge_find_the_way(task: Task, evaluator: str) -> None:
    """Votes and labels read their own prompts' answers."""
    if task.name == "game24" and evaluator == "vote":
        pytest.skip("its oracle votes for the first choice, whatever it is")
    result = run(task, "bfs", evaluator)
    assert result.answer is not None
    assert result.solved is not False


@pytest.mark.parametrize("search", SEARCHES)
def test_nonsense_is_unparsed_or_unsolved_never_worth_nothing(task: Task, search: str) -> None:
    """A model that writes rubbish gets no value of 0 and no verified answer."""
    result = run(task, search, backend=ScriptedBackend(lambda request: "%%% what?"))
    assert result.solved is not True
    assert all(thought.value is None for thought in result.tree)
    if result.answer is None:
        assert result.counts.unparsed + result.counts.illegal + result.counts.judgements_unparsed > 0


def test_an_empty_completion_is_no_thought_and_no_answer(task: Task) -> None:
    """Nothing said, nothing done."""
    for search in SEARCHES:
        result = run(task, search, backend=ScriptedBackend(lambda request: ""))
        assert result.answer is None
        assert len(result.tree) == 1 or search in ("io", "cot", "cot-sc")


@pytest.mark.parametrize("text", ["?", "0", "\x00", "x " * 3000, "|" * 12, "("])
def test_an_input_of_another_form_is_refused_in_one_line(task: Task, text: str) -> None:
    """The message says what the task wants and shows an example; a task that takes any text may take it."""
    if task.name == "gsm8k":
        assert task.read_input(text)
        return
    with pytest.raises(InputError) as caught:
        task.read_input(text)
    assert task.spec.input.description in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_its_own_data_is_a_handful_that_reads_and_grades_itself(task: Task) -> None:
    """Every row is an input; a gold answer agrees with itself; the file is small enough to travel."""
    found = data.load(task)
    assert found.rows
    golds = found.gold._answers
    assert all(task.checker.grade(gold, gold) for gold in golds.values())
    assert task.spec.data is not None
    assert task.path is not None
    assert (task.path.parent / task.spec.data.file).stat().st_size < 20_000


def test_a_search_cannot_reach_the_gold(task: Task) -> None:
    """Rows are inputs and nothing else, and the task holds no answers."""
    found = data.load(task)
    assert set(found.rows[0].__dataclass_fields__) == {"number", "input"}
    assert not [name for name in dir(task) if "gold" in name]


def test_a_task_that_simulates_may_not_write_states_too(tmp_path: Path) -> None:
    """Two sources of one state would hide a fault of either; the message names the key."""
    text = Path(str(registry.task_files()["blocksworld"])).read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("  terminal:", '  state: "{{ text }}"\n  terminal:').replace("data/", "/nowhere/"))
    with pytest.raises(
        ConfigError, match=r"mine\.yaml:\d+:thought\.state: the checker 'blocksworld' computes the states"
    ):
        Task.load(path)
