"""What every task must do, whether it is a YAML file or a Python class."""

from __future__ import annotations

import asyncio
import json
import tempfile
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


class TaskContract:
    """Tests of a task; subclass it and override :meth:`task`, and :meth:`oracle` where there is one.

    A test that searches runs ``bfs``, or, for a task that cannot grow thoughts, ``io`` or ``cot``.
    """

    gold: str | None = None
    """A gold answer of the first example that agrees with the oracle's; None where there is none."""

    def task(self) -> Task:
        """The task under test."""
        raise NotImplementedError("override task() to return the task under test")

    def oracle(self) -> Backend | None:
        """A backend that solves the first example; the tests that need one do nothing where it is None."""
        return None

    def test_it_describes_itself(self) -> None:
        """It has a name, a sentence, a version, and variables that a journal can hold."""
        task = self.task()
        assert task.name
        assert all(char.isalnum() or char in "-_" for char in task.name)
        assert task.description.endswith(".")
        assert task.input_form
        assert task.version >= 1
        assert json.loads(json.dumps(dict(task.variables))) == dict(task.variables)
        assert task.reference

    def test_its_roles_are_known(self) -> None:
        """Its roles are known ones, some search can use them, and a missing one is refused by name."""
        task = self.task()
        assert set(task.roles) <= set(ROLES)
        assert set(task.roles) & {"propose", "sample", "io", "cot"}
        for role in ROLES:
            assert task.has(role) == (role in task.roles)
            sampling, count = task.sampling(role)
            assert isinstance(sampling, Sampling)
            assert count >= 1
            assert _refused(task, role) == (role not in task.roles)
        assert _refused(task, "no such role")

    def test_its_labels_are_a_scale(self) -> None:
        """Its labels have different names in any case of the letters, and its evaluator exists and fits it."""
        task = self.task()
        assert len({label.lower() for label in task.labels}) == len(task.labels) >= 2
        assert ":" in task.evaluator or task.evaluator in names("evaluator")
        if set(task.roles) & {"propose", "sample"}:
            load("evaluator", task.evaluator)().check(task)

    def test_it_reads_its_examples(self) -> None:
        """Every example is an input of its own; reading what was read changes nothing; the root has its state's key."""
        task = self.task()
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

    def test_it_refuses_other_inputs(self) -> None:
        """A text that is no input raises InputError with one short line; an empty one always does."""
        for text in RUBBISH:
            input, message = _read(self.task(), text)
            if input is None:
                assert 0 < len(message) < 600
                assert "\n" not in message
            else:
                assert text.strip()
                assert self.task().read_input(input) == input

    def test_every_role_has_a_prompt(self) -> None:
        """Every role has a prompt at the root of every example; the same call gives the same text."""
        task = self.task()
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

    def test_any_completion_can_be_read(self) -> None:
        """No completion is an error: a step that cannot be read has a fault, and nothing is read from an empty one."""
        task = self.task()
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

    def test_nonsense_is_no_solution(self) -> None:
        """A model that writes rubbish gets no verified answer, and no judgement has a value."""
        result = self._run(_Parrot("%%% what?"))
        assert result.solved is not True
        assert all(thought.value is None for thought in result.tree)

    def test_its_oracle_solves_the_first_example(self) -> None:
        """From the input to the graded answer; every step of the way has its state's key, and its prompts render."""
        oracle = self.oracle()
        if oracle is None:
            return
        task, result = self.task(), self._run(oracle)
        assert result.answer is not None
        assert result.thought is not None
        assert result.solved is (True if task.can_verify else None)
        if self.gold is not None:
            assert task.grade(result.answer, self.gold)
        way: list[Thought] = [result.tree.root, *result.tree.lineage(result.thought)]
        for thought in way:
            steps = result.tree.steps(thought)
            for role in task.roles:
                if role in ("value", "vote", "answer") or not thought.terminal:
                    shown = [{"state": thought.state, "text": thought.text, "steps": steps}]
                    assert task.prompt(role, result.input, thought, steps, shown)

    def test_its_journals_are_opened_resumed_and_replayed(self) -> None:
        """A journal rebuilds the tree of its run; a run resumed from it sends no request and grows the same tree."""
        oracle = self.oracle()
        if oracle is None:
            return
        with tempfile.TemporaryDirectory(prefix="treeagent-contract-") as folder:
            path = Path(folder) / "run.jsonl"
            first = self._run(oracle, journal=path)
            rebuilt = rebuild(read(path))
            assert [thought.text for thought in rebuilt.tree] == [thought.text for thought in first.tree]
            agent = self._agent(_Silent())
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))  # the run did not end
            again = self._finished(agent, path)
            assert again.tree.to_json() == first.tree.to_json()
            assert (again.answer, again.solved, again.path) == (first.answer, first.solved, first.path)

    def test_no_search_can_see_a_gold_answer(self) -> None:
        """The task holds no gold answers, and rows of its data are inputs and nothing else."""
        task = self.task()
        assert not [name for name in dir(task) if "gold" in name.lower()]
        if task.data is not None:
            data = dataset.load(task)
            assert data.rows
            assert set(type(data.rows[0]).__dataclass_fields__) == {"number", "input"}

    def _agent(self, backend: Backend) -> Agent:
        roles = set(self.task().roles)
        search = "bfs" if roles & {"propose", "sample"} else "io" if "io" in roles else "cot"
        return Agent(self.task(), search, backend=backend)

    def _run(self, backend: Backend, **how: Any) -> Result:
        return self._agent(backend).solve(self.task().examples[0], **how)

    def _finished(self, agent: Agent, path: Path) -> Result:
        """The result of a run that goes on from a journal."""
        return asyncio.run(agent.run(self.task().examples[0], journal=path, resume=True).result())


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
