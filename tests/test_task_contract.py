"""What every registered task must do, a third party's too if it has an oracle."""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oracles
import pytest

from treeagent import (
    Agent,
    Backend,
    ConfigError,
    InputError,
    ProposedStep,
    Request,
    Result,
    Task,
    Thought,
    UnknownNameError,
    registry,
)
from treeagent.backends.scripted import ScriptedBackend
from treeagent.taskfile import dataset as data
from treeagent.testing import TaskContract

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


@dataclass(frozen=True)
class Stairs(Task):
    """Climb a flight of stairs exactly, one step or two at a time; the state is how many are left."""

    longest: int = 2

    name = "stairs"
    description = "Climb stairs exactly."
    examples = ("3", "5")
    roles = ("propose", "value", "io")
    version = 2

    def read_input(self, text: str) -> str:
        """A number of stairs."""
        if not re.fullmatch(r"[1-9][0-9]?", text.strip(), re.ASCII):
            raise InputError(f"{text[:40]!r} is not a number of stairs, such as 3")
        return text.strip()

    def prompt(
        self,
        role: str,
        input: str,
        thought: Thought,
        steps: Sequence[str],
        choices: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """One line."""
        return f"{role}: {thought.state} left, up to {self.longest} at a time\n"

    def read_thoughts(
        self, role: str, completion: str, input: str, parent: Thought, steps: Sequence[str]
    ) -> list[ProposedStep]:
        """Each line is a number of stairs."""
        found = []
        for text in completion.split():
            if not re.fullmatch(r"[1-9]", text, re.ASCII):
                found.append(ProposedStep(text, parent.state, parent.key, terminal=False, fault="unparsed"))
                continue
            left = int(parent.state) - int(text)
            fault = "illegal" if left < 0 or int(text) > self.longest else None
            found.append(ProposedStep(text, str(left), str(left), terminal=left == 0, fault=fault))
        return found

    def path_answer(self, input: str, thought: Thought, steps: Sequence[str]) -> str:
        """The steps."""
        return " ".join(steps)

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """They sum to the input."""
        words = list(steps) if answer is None else answer.split()
        return all(word.isdecimal() for word in words) and sum(map(int, words)) == int(input)

    def grade(self, answer: str, gold: str) -> bool:
        """In any order."""
        return sorted(answer.split()) == sorted(gold.split())


def climber(request: Request) -> str:
    """Gives the right steps."""
    return {"propose": "1\n2\n3\nx", "value": " sure", "io": "2 1"}[request.key.role]


class TestTheExample(TaskContract):
    """The class of ``examples/python_task.py``, which documents show."""

    def task(self) -> Task:
        example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "python_task.py"))
        task: Task = example["ThreeNumbers"]()
        return task

    def oracle(self) -> Backend:
        steps = "10 - 4 = 6 (left: 4 6)\n4 * 6 = 24 (left: 24)"
        return ScriptedBackend(lambda request: " sure" if request.key.role == "value" else steps)


class TestFilesAndClasses(TaskContract):
    """The registered YAML files, and a task that is a Python class."""

    @pytest.fixture(autouse=True, params=[*NAMES, "stairs"])
    def _name(self, request: pytest.FixtureRequest) -> None:
        self.name: str = request.param

    def task(self) -> Task:
        """By its name."""
        return Stairs() if self.name == "stairs" else Task.load(self.name)

    def oracle(self) -> Backend:
        """A model that gives the right answers."""
        return ScriptedBackend(climber) if self.name == "stairs" else oracles.backend(self.name)

    def gold(self) -> str | None:
        """Where a gold answer can be other than the oracle's."""
        return "1 2" if self.name == "stairs" else oracles.GOLD.get(self.name)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that registers the class ``Stairs`` as the task ``stairs``, and something that is no task."""
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    registered = f"stairs = {__name__}:Stairs\nclimber = {__name__}:climber\ngone = {__name__}:Gone\n"
    (info / "entry_points.txt").write_text(f"[treeagent.tasks]\n{registered}")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugin")
def test_a_class_is_registered_like_a_package_of_files() -> None:
    """It is listed, loads by name with its variables, and the suggestion for a wrong name knows it."""
    assert {"stairs", "game24"} <= set(registry.task_names())
    task = Task.load("stairs", variables={"longest": "3"})
    assert task == Stairs(longest=3)
    assert task.variables == {"longest": 3}
    with pytest.raises(ConfigError, match=r"no option 'longset'\. Did you mean 'longest'"):
        Task.load("stairs", variables={"longset": "3"})
    with pytest.raises(UnknownNameError, match="Did you mean 'stairs'"):
        Task.load("stair")
    with pytest.raises(ConfigError, match=r"'climber' is no task: expected a class derived from treeagent\.Task"):
        Task.load("climber")
    with pytest.raises(ConfigError, match=r"the task 'gone' is registered as .*:Gone but cannot be imported"):
        Task.load("gone")


@pytest.mark.usefixtures("plugin")
def test_a_registered_class_comes_back_from_a_journal(tmp_path: Path) -> None:
    """By its name, with its variables and version; another version is refused."""
    journal = tmp_path / "run.jsonl"
    agent = Agent("stairs", "bfs", backend=ScriptedBackend(climber), variables={"longest": 3})
    result = agent.solve("3", journal=journal)
    again, input = Agent.from_journal(journal, backend=ScriptedBackend(climber))
    assert (again.task, input) == (Stairs(longest=3), "3")
    assert again.settings == agent.settings
    assert again.solve(input).tree.to_json() == result.tree.to_json()
    journal.write_text(journal.read_text().replace('"task_version": 2', '"task_version": 1'))
    with pytest.raises(ConfigError, match="version 1 of task 'stairs', which is now at version 2"):
        Agent.from_journal(journal, backend=ScriptedBackend(climber))


def test_a_class_outside_the_registry_is_code_that_must_be_allowed() -> None:
    """``module:Class`` needs the same permission as a checker outside the registry."""
    name = f"{__name__}:Stairs"
    with pytest.raises(ConfigError, match="is code outside the registry; run it with --allow-code"):
        Task.load(name)
    assert Task.load(name, allow_code=True) == Stairs()
    with pytest.raises(ConfigError, match="cannot be created without arguments"):
        Task.load("treeagent:Task", allow_code=True)


def test_every_task_has_an_oracle() -> None:
    """Every task can be solved in a test."""
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


@pytest.mark.parametrize("search", SEARCHES)
def test_an_oracle_solves_the_first_example(task: Task, search: str) -> None:
    """From the input to the graded answer, with every search: reading, legality, judging, answering, verifying."""
    result = run(task, search)
    assert result.answer is not None
    if task.can_verify:
        assert result.solved is not ((task.name, search) in UNPROVEN)
    if task.name in oracles.GOLD:
        assert task.grade(result.answer, oracles.GOLD[task.name])
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
    """The tree stays empty."""
    for search in SEARCHES:
        result = run(task, search, backend=ScriptedBackend(lambda request: ""))
        assert result.answer is None
        assert len(result.tree) == 1 or search in ("io", "cot", "cot-sc")


@pytest.mark.parametrize("text", ["?", "0", "\x00", "x " * 3000, "|" * 12, "("])
def test_an_input_of_another_form_is_refused_in_one_line(task: Task, text: str) -> None:
    """The message describes the input and shows an example; a task for any text may accept it."""
    if task.name in ("gsm8k", "arithmetic_tools"):
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
    assert all(task.grade(gold, gold) for gold in golds.values())
    assert task.spec.data is not None
    assert task.path is not None
    assert (task.path.parent / task.spec.data.file).stat().st_size < 20_000


def test_a_task_that_simulates_may_not_write_states_too(tmp_path: Path) -> None:
    """Two sources of one state would hide a fault of either; the message names the key."""
    text = Path(str(registry.task_files()["blocksworld"])).read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("  terminal:", '  state: "{{ text }}"\n  terminal:').replace("data/", "/nowhere/"))
    with pytest.raises(
        ConfigError, match=r"mine\.yaml:\d+:thought\.state: the checker 'blocksworld' computes the states"
    ):
        Task.load(path)
