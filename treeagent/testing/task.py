"""What every task must do, whether it is a YAML file or a Python class."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from ..backend import Backend
from ..errors import BackendError, ConfigError, InputError
from ..proposed_step import ProposedStep
from ..registry import load, names
from ..reply import Completion, Reply, Scores, Usage
from ..request import Request, Sampling, ScoreRequest
from ..runtime.agent import Agent
from ..runtime.journal import read
from ..runtime.journal_tree import rebuild
from ..task import ROLES, Task
from ..taskfile import dataset
from ..thought import Thought

RUBBISH = ("", "\n\n", "%%% what?", "= = = (left: )", "0" * 3000, "\x00", "| 1 | 2 |", "true or false: .")
"""Completions and inputs that make little sense in any task."""


_JUDGED_AND_ANSWERED = ("value", "vote", "answer", "critique", "outcome", "prm")
"""Roles whose prompts are rendered for finished thoughts, too."""


class TaskContract:
    """Tests of a task; subclass it and override :meth:`task`, and :meth:`oracle` if there is one.

    Tests of searches run ``bfs``, or, for a task that cannot grow thoughts, ``io`` or ``cot``.
    """

    def task(self) -> Task:
        """The task under test."""
        raise NotImplementedError("override task() to return the task under test")

    def oracle(self) -> Backend | None:
        """A backend that solves the first example; None leaves out the tests that need a solution."""
        return None

    def gold(self) -> str | None:
        """A gold answer that agrees with the oracle's; None where there is none."""
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

    def test_its_labels_and_its_evaluator_fit(self) -> None:
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
            if root.terminal and task.can_verify:  # solved as it stands
                assert task.verify(input, [], task.path_answer(input, root, []) or "") is True

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

    def test_it_renders_its_prompts(self) -> None:
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

    def test_it_reads_any_completion(self) -> None:
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

    def test_nonsense_solves_nothing(self) -> None:
        """A model that writes rubbish gets no verified answer, and no judgement has a value."""
        result = self._agent(_Parrot("%%% what?")).solve(self.task().examples[0])
        assert result.solved is not True
        assert all(thought.value is None for thought in result.tree)

    def test_an_oracle_solves_its_first_example(self) -> None:
        """From the input to the graded answer; the prompts render at every step of the way."""
        task, oracle, gold = self.task(), self.oracle(), self.gold()
        if oracle is None:
            return
        result = self._agent(oracle).solve(task.examples[0])
        assert result.answer is not None
        assert result.thought is not None
        assert result.solved is (True if task.can_verify else None)
        assert gold is None or task.grade(result.answer, gold)
        way: list[Thought] = [result.tree.root, *result.tree.lineage(result.thought)]
        for thought in way:
            steps = result.tree.steps(thought)
            for role in task.roles:
                if role in _JUDGED_AND_ANSWERED or not thought.terminal:
                    shown = [{"state": thought.state, "text": thought.text, "steps": steps}]
                    assert task.prompt(role, result.input, thought, steps, shown)

    def test_its_journals_open_and_resume(self) -> None:
        """A journal rebuilds its run's tree; a run that goes on from it sends no request and grows the same tree."""
        oracle, example = self.oracle(), self.task().examples[0]
        if oracle is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.jsonl")
            first = self._agent(oracle).solve(example, journal=path)
            rebuilt = rebuild(read(path))
            assert [thought.text for thought in rebuilt.tree] == [thought.text for thought in first.tree]
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))  # without its end
            again = asyncio.run(self._agent(_Silent()).run(example, journal=path, resume=True).result())
        assert again.tree.to_json() == first.tree.to_json()
        assert (again.answer, again.solved, again.path) == (first.answer, first.solved, first.path)

    def test_gold_answers_are_kept_from_searches(self) -> None:
        """The task holds no gold answers, and rows of its data are inputs and the fields that it names."""
        task = self.task()
        assert not [name for name in dir(task) if "gold" in name.lower()]
        if task.data is not None:
            data = dataset.load(task)
            assert data.rows
            assert set(type(data.rows[0]).__dataclass_fields__) == {"number", "input", "fields", "group"}
            bound = task.for_row(data.rows[0].input, data.rows[0].fields)
            assert set(bound.row) <= set(task.data.fields)
            assert not [name for name in dir(bound) if "gold" in name.lower()]

    def _agent(self, backend: Backend) -> Agent:
        task = self.task()
        search = "bfs" if task.has("propose") or task.has("sample") else "io" if task.has("io") else "cot"
        return Agent(task, search, backend=backend)


class _Parrot(Backend):
    """Answers every request with one text."""

    name = "parrot"
    capabilities = frozenset({"generate", "score", "seed", "beams", "chat", "thinking_budget", "extra_body"})

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
