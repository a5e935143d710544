"""What every task must do, whether it is a YAML file or a Python class.

``CONTRACT`` holds one function per clause; each takes a :class:`TaskCase`::

    @pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: clause.__name__)
    def test_contract(clause, tmp_path):
        clause(TaskCase(MyTask(), tmp_path, oracle=MyOracle))

A clause about searches runs ``bfs``, or, for a task that cannot grow thoughts, ``io`` or ``cot``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend import Backend, Completion, Reply, Request, Sampling, ScoreRequest, Scores, Usage
from ..errors import BackendError, ConfigError, InputError
from ..registry import load, names
from ..runtime.agent import Agent
from ..runtime.journal import read
from ..runtime.journal_tree import rebuild
from ..runtime.result import Result
from ..task import ROLES, ProposedStep, Task
from ..taskfile import dataset
from ..thought import Thought

RUBBISH = ("", "\n\n", "%%% what?", "= = = (left: )", "0" * 3000, "\x00", "| 1 | 2 |", "true or false: .")
"""Completions and inputs that make little sense in any task."""


@dataclass(frozen=True, slots=True)
class TaskCase:
    """A task under test."""

    task: Task
    folder: Path
    """An empty folder that the clause may write into."""
    oracle: Callable[[], Backend] | None = None
    """Opens a backend that solves the first example; clauses that need one return at once where it is None."""
    gold: str | None = None
    """A gold answer that agrees with the oracle's."""


def describes_itself(case: TaskCase) -> None:
    """It has a name, a sentence, a version, and variables that a journal can hold."""
    task = case.task
    assert task.name
    assert all(char.isalnum() or char in "-_" for char in task.name)
    assert task.description.endswith(".")
    assert task.input_form
    assert task.version >= 1
    assert json.loads(json.dumps(dict(task.variables))) == dict(task.variables)
    assert task.reference


def has_known_roles(case: TaskCase) -> None:
    """Its roles are known ones, some search can use them, and a missing one is refused by name."""
    task = case.task
    assert set(task.roles) <= set(ROLES)
    assert set(task.roles) & {"propose", "sample", "io", "cot"}
    for role in ROLES:
        assert task.has(role) == (role in task.roles)
        sampling, count = task.sampling(role)
        assert isinstance(sampling, Sampling)
        assert count >= 1
        assert _refused(task, role) == (role not in task.roles)
    assert _refused(task, "no such role")


def has_a_scale(case: TaskCase) -> None:
    """Its labels have different names in any case of the letters, and its evaluator exists and fits it."""
    task = case.task
    assert len({label.lower() for label in task.labels}) == len(task.labels) >= 2
    assert ":" in task.evaluator or task.evaluator in names("evaluator")
    if set(task.roles) & {"propose", "sample"}:
        load("evaluator", task.evaluator)().check(task)


def reads_its_examples(case: TaskCase) -> None:
    """Every example is an input of its own; reading what was read changes nothing; the root has its state's key."""
    task = case.task
    inputs = [task.read_input(example) for example in task.examples]
    assert inputs
    assert len(set(inputs)) == len(inputs)
    for input in inputs:
        assert task.read_input(input) == input
        root = task.root(input)
        assert (root.id, root.parent, root.text, root.depth, root.path) == (0, None, "", 0, ())
        assert root.state
        assert task.state_key(root.state) == root.key
        assert task.root(input) == root


def refuses_other_inputs(case: TaskCase) -> None:
    """A text that is no input raises InputError with one short line; an empty one always does."""
    for text in RUBBISH:
        input, message = _read(case.task, text)
        if input is None:
            assert 0 < len(message) < 600
            assert "\n" not in message
        else:
            assert text.strip()
            assert case.task.read_input(input) == input


def renders_its_prompts(case: TaskCase) -> None:
    """Every role has a prompt at the root of every example; the same call gives the same text."""
    task = case.task
    for example in task.examples:
        input = task.read_input(example)
        root = task.root(input)
        choices = [{"state": root.state, "text": "", "steps": []}]
        for role in task.roles:
            prompt = task.prompt(role, input, root, [], choices)
            assert prompt.strip()
            assert "{{" not in prompt
            assert "{%" not in prompt
            assert task.prompt(role, input, root, [], choices) == prompt


def reads_any_completion(case: TaskCase) -> None:
    """No completion is an error: a step that cannot be read has a fault, and nothing is read from an empty one."""
    task = case.task
    input = task.read_input(task.examples[0])
    root = task.root(input)
    for text in RUBBISH:
        for role in {"propose", "sample"} & set(task.roles):
            steps = task.read_thoughts(role, text, input, root, [])
            assert role == "propose" or len(steps) <= 1
            assert text.strip() or not steps
            for step in steps:
                assert isinstance(step, ProposedStep)
                assert step.text.strip()
                assert step.fault in (None, "unparsed", "illegal")
        answer = task.read_answer(text)
        assert answer is None or answer.strip()
        assert task.answer_key(answer or "?") == task.answer_key(answer or "?")
    assert task.read_answer("") is None


def calls_nonsense_unsolved(case: TaskCase) -> None:
    """A model that writes rubbish gets no verified answer, and no judgement has a value."""
    result = _run(case, _Parrot("%%% what?"))
    assert result.solved is not True
    assert all(thought.value is None for thought in result.tree)


def is_solved_by_its_oracle(case: TaskCase) -> None:
    """From the input to the graded answer; every step of the way has its state's key, and its prompts render."""
    if case.oracle is None:
        return
    task, result = case.task, _run(case, case.oracle())
    assert result.answer is not None
    assert result.thought is not None
    assert result.solved is (True if task.can_verify else None)
    if case.gold is not None:
        assert task.grade(result.answer, case.gold)
    way: list[Thought] = [result.tree.root, *result.tree.lineage(result.thought)]
    for thought in way:
        steps = result.tree.steps(thought)
        for role in task.roles:
            if role in ("value", "vote", "answer") or not thought.terminal:
                shown = [{"state": thought.state, "text": thought.text, "steps": steps}]
                assert task.prompt(role, result.input, thought, steps, shown)


def opens_resumes_and_replays_its_journals(case: TaskCase) -> None:
    """A journal rebuilds the tree of its run, and a run that goes on from it asks nothing and grows the same tree."""
    if case.oracle is None:
        return
    path = case.folder / "run.jsonl"
    first = _run(case, case.oracle(), journal=path)
    rebuilt = rebuild(read(path))
    assert [thought.text for thought in rebuilt.tree] == [thought.text for thought in first.tree]
    agent = _agent(case, _Silent())
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))  # the run did not end
    again = _finished(agent, case, path)
    assert again.tree.to_json() == first.tree.to_json()
    assert (again.answer, again.solved, again.path) == (first.answer, first.solved, first.path)


def keeps_gold_answers_from_searches(case: TaskCase) -> None:
    """The task holds no gold answers, and rows of its data are inputs and nothing else."""
    task = case.task
    assert not [name for name in dir(task) if "gold" in name.lower()]
    if task.data is not None:
        data = dataset.load(task)
        assert data.rows
        assert set(type(data.rows[0]).__dataclass_fields__) == {"number", "input"}


CONTRACT: tuple[Callable[[TaskCase], None], ...] = (
    describes_itself,
    has_known_roles,
    has_a_scale,
    reads_its_examples,
    refuses_other_inputs,
    renders_its_prompts,
    reads_any_completion,
    calls_nonsense_unsolved,
    is_solved_by_its_oracle,
    opens_resumes_and_replays_its_journals,
    keeps_gold_answers_from_searches,
)
"""All clauses."""


class _Parrot(Backend):
    """Answers every request with one text."""

    name = "parrot"
    capabilities = frozenset({"generate", "score", "seed", "beams"})

    def __init__(self, text: str) -> None:
        self._text = text

    async def generate(self, request: Request) -> Reply:
        return Reply((Completion(self._text),) * request.n, Usage(1, 1, request.n))

    async def score(self, request: ScoreRequest) -> Scores:
        return Scores((-1.0,) * len(request.continuations), (1,) * len(request.continuations), Usage(1, 1, 0))


class _Silent(_Parrot):
    """Answers no request: everything must come from a journal."""

    def __init__(self) -> None:
        super().__init__("")

    async def generate(self, request: Request) -> Reply:
        raise BackendError(f"a request that the journal should answer was sent to the backend: {request.prompt[:80]!r}")


def _agent(case: TaskCase, backend: Backend) -> Agent:
    roles = set(case.task.roles)
    search = "bfs" if roles & {"propose", "sample"} else "io" if "io" in roles else "cot"
    return Agent(case.task, search, backend=backend)


def _run(case: TaskCase, backend: Backend, **how: Any) -> Result:
    return _agent(case, backend).solve(case.task.examples[0], **how)


def _finished(agent: Agent, case: TaskCase, path: Path) -> Result:
    """A run that goes on from a journal."""
    return asyncio.run(agent.run(case.task.examples[0], journal=path, resume=True).result())


def _read(task: Task, text: str) -> tuple[str | None, str]:
    """The input, or the message that refuses it."""
    try:
        return task.read_input(text), ""
    except InputError as error:
        return None, str(error)


def _refused(task: Task, role: str) -> bool:
    try:
        task.require(role, "the contract")
    except ConfigError:
        return True
    return False
