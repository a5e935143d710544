"""``--set sampling.ROLE.FIELD=VALUE`` changes how a role's completions are drawn, for every task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from typer.testing import CliRunner

from treeagent import Agent, Backend, Reply, Request
from treeagent.cli import app
from treeagent.errors import ConfigError
from treeagent.request import Sampling
from treeagent.task import Task
from treeagent.thought import Thought

INPUT = "4 9 10 13"


class Recorder(Backend):
    """The oracle, with the requests that it was asked."""

    name = "recorder-of-sampling"

    def __init__(self) -> None:
        self.inner, self.requests = Oracle(), list[Request]()

    async def generate(self, request: Request) -> Reply:
        """The oracle's reply."""
        self.requests.append(request)
        return await self.inner.generate(request)


def drawn(**options: Any) -> dict[str, tuple[Sampling, int]]:
    """How each role's completions were drawn in a search with these options."""
    backend = Recorder()
    named = {key.replace("__", "."): value for key, value in options.items()}
    Agent("game24", "greedy", backend=backend, options=named).solve(INPUT)
    return {request.key.role: (request.sampling, request.n) for request in backend.requests}


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [("1", "temperature", 1.0), ("0", "temperature", 0.0), ("77", "max_tokens", 77), ("5", "top_k", 5),
     ("none", "top_p", None), ('["a", "\\n"]', "stop", ("a", "\n")), ("END", "stop", ("END",)), ("[]", "stop", ()),
     (0.25, "min_p", 0.25)],
)  # fmt: skip
def test_a_field_of_a_role_is_changed(word: Any, field: str, value: Any) -> None:
    """From the word of a command line or a value; other roles and the registered task stay as they are."""
    before = drawn()
    after = drawn(**{f"sampling__value__{field}": word})
    assert getattr(after["value"][0], field) == value
    assert after["propose"] == before["propose"]
    assert drawn() == before


def test_the_number_of_completions_is_one_of_the_fields() -> None:
    """Where the search does not say it."""
    assert drawn(sampling__value__n="2")["value"][1] == 2


@pytest.mark.parametrize(
    ("key", "word", "message"),
    [
        ("valu.temperature", "1", "'game24' has no role 'valu'. Did you mean 'value'?"),
        ("value.temprature", "1", "no field 'temprature'. Did you mean 'temperature'?"),
        ("value", "1", "no field ''"),
        ("value.temperature", "warm", "option 'sampling.value.temperature'"),
        ("value.temperature", "-1", "option 'sampling.value.temperature'"),
        ("value.temperature", "NaN", "option 'sampling.value.temperature'"),
        ("value.temperature", "1e999", "option 'sampling.value.temperature'"),
        ("value.temperature", "null", "option 'sampling.value.temperature'"),
        ("value.max_tokens", "0", "option 'sampling.value.max_tokens'"),
        ("value.max_tokens", "1.5", "option 'sampling.value.max_tokens'"),
        ("value.stop", "[1]", "option 'sampling.value.stop'"),
    ],
)
def test_a_wrong_option_is_named(key: str, word: str, message: str) -> None:
    """At once, with the nearest valid one."""
    with pytest.raises(ConfigError) as caught:
        Agent("game24", "greedy", backend=Oracle(), options={f"sampling.{key}": word})
    assert message in str(caught.value)


def test_an_unknown_prefix_is_named() -> None:
    """With the prefixes that there are."""
    with pytest.raises(ConfigError, match="Did you mean 'sampling'"):
        Agent("game24", "greedy", backend=Oracle(), options={"samplin.value.n": "1"})


def test_a_given_task_stays_as_it_is() -> None:
    """The agent has a copy of its own."""
    task = Task.load("game24")
    agent = Agent(task, "greedy", backend=Oracle(), options={"sampling.value.n": 2})
    assert agent.task.sampling("value")[1] == 2
    assert task.sampling("value")[1] != 2
    assert Agent(task, "greedy", backend=Oracle()).task is task


def test_a_task_of_a_frozen_class_can_be_changed() -> None:
    """Tasks are plug-ins, and a plug-in's fields may be fixed."""

    @dataclass(frozen=True, slots=True)
    class Echo(Task):
        name = "echo"
        examples = ("a",)
        roles = ("propose", "value")

        def prompt(self, role: str, input: str, thought: Thought, steps: Any, choices: Any = ()) -> str:
            return input

        def read_thoughts(self, role: str, completion: str, input: str, parent: Thought, steps: Any) -> list[Any]:
            return []

    changed = Echo().with_sampling({"value": {"n": 7, "temperature": 0.25}})
    assert isinstance(changed, Echo)
    sampling, count = changed.sampling("value")
    assert (sampling.temperature, count) == (0.25, 7)
    assert changed.with_sampling({"value": {"n": 8}}).sampling("value")[0].temperature == 0.25


def test_a_journal_holds_the_changes_and_resume_keeps_them(tmp_path: Path) -> None:
    """On the command line, from the first run to the resumed one."""
    journal = tmp_path / "run.jsonl"
    words = ["solve", "--task", "game24", "--backend", "helpers:Oracle", "--allow-code", "--input", INPUT, "-q",
             "--set", "sampling.value.n=2", "--set", 'sampling.propose.stop=["END"]', "--max-calls", "3",
             "--journal", str(journal), "--json"]  # fmt: skip
    CliRunner().invoke(app, words)
    first = json.loads(journal.read_text().splitlines()[0])
    assert first["settings"]["sampling"] == {"value": {"n": 2}, "propose": {"stop": ["END"]}}
    agent, text = Agent.from_journal(journal, allow_code=True)
    assert text == INPUT
    assert agent.task.sampling("value")[1] == 2
    assert agent.task.sampling("propose")[0].stop == ("END",)
    assert agent.settings["sampling"] == first["settings"]["sampling"]


def test_settings_without_changes_are_those_of_before() -> None:
    """Older journals and evaluations stay equal."""
    assert "sampling" not in Agent("game24", "greedy", backend=Oracle()).settings
