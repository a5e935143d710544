"""Constraints of the shipped tasks: what they allow is read, what is right is allowed, and an option sets them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from treeagent import Agent
from treeagent.cli import app
from treeagent.errors import ConfigError
from treeagent.strategies.labels import read_label
from treeagent.task import LABELLED, Task
from treeagent.taskfile.constrained_roles import refusal
from treeagent.tasks import game24_rules

TASKS = ("game24", "blocksworld", "arithmetic_tools")
OTHERS = ("crosswords", "prontoqa", "gsm8k", "creative_writing")


def _constraint(task: Task, role: str) -> str | None:
    """The regular expression that a role is held to; None where the task has none."""
    try:
        constraint = task.with_sampling({role: {"constrain": True}}).sampling(role)[0].constraint
    except ConfigError:
        return None
    assert constraint is not None
    if refusal(constraint) is not None:
        assert task.name == "creative_writing", "one of its roles is read by a pattern with an anchor"
        return None
    return constraint.text


@pytest.mark.parametrize("name", [*TASKS, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in OTHERS)])
def test_what_is_allowed_is_read(name: str) -> None:
    """No text that a constraint of a shipped task allows is unparsed, and it is off unless it is set."""
    task = Task.load(name)
    assert all(task.sampling(role)[0].constraint is None for role in task.roles)
    input = task.read_input(task.examples[0])
    root, labels = task.root(input), list(task.labels)
    found = {role: text for role in task.roles if (text := _constraint(task, role)) is not None}
    assert set(found) >= {*LABELLED} & set(task.roles)
    assert name == "creative_writing" or "sample" in found

    @settings(max_examples=6, deadline=None, database=None, phases=[Phase.generate])
    @given(st.data())
    def read(data: st.DataObject) -> None:
        for role, pattern in found.items():
            text = data.draw(st.from_regex(pattern, fullmatch=True, alphabet=st.characters(codec="ascii")))
            if role in LABELLED:
                assert read_label(text, labels) in labels
            elif role in ("answer", "io"):
                assert task.read_answer(text) is not None
            else:
                steps = task.read_thoughts(role, text, input, root, [])
                assert steps
                assert not [step for step in steps if step.fault == "unparsed"], text

    read()


def test_what_is_right_is_allowed() -> None:
    """Every step of the Game of 24 below some hands, and the four actions of the blocks world."""
    task = Task.load("game24")
    allowed = re.compile(_constraint(task, "sample") or "")
    states = [game24_rules.read(hand) for hand in ("4 9 10 13", "1 3 4 6", "13 13 13 13", "3 3 8 8")]
    for state in states:
        for step in game24_rules.steps(state):
            assert allowed.fullmatch(step.text)
            states += [step.state] if len(step.state) > 1 else []
    assert re.fullmatch(_constraint(task, "answer") or "", " ((11 - 5) / 2) * 8 = 24")
    actions = re.compile(_constraint(Task.load("blocksworld"), "sample") or "")
    for action in ("pick up", "put down"):
        assert actions.fullmatch(f"{action} block12")
    assert actions.fullmatch("unstack b from a")
    assert actions.fullmatch("stack b on a")


def _solve(*words: str, journal: Path | None = None) -> dict[str, Any]:
    how = ["solve", "--task", "game24", "--input", "4 5 6 10", "--search", "beam", "--set", "by=sample",
           "--backend", "seed", "--model", "mini", "--set", "sampling.value.temperature=3", "--json", "--quiet",
           *([] if journal is None else ["--journal", str(journal)]), *words]  # fmt: skip
    result = CliRunner().invoke(app, how)
    assert result.exit_code in (0, 1), result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_a_constrained_run_from_the_command_line(tmp_path: Path) -> None:
    """Nothing is unparsed, not even of a judge at a high temperature; what is forced is drafted; resume keeps it."""
    plain = _solve()
    assert plain["counts"]["judgements_unparsed"] > 0
    assert plain["engine"]["forced"] == 0
    every = [f"--set=sampling.{role}.constrain=true" for role in ("sample", "value", "answer")]
    held = _solve(*every, journal=tmp_path / "run.jsonl")
    counts, engine = held["counts"], held["engine"]
    assert counts["judged"] > 0
    assert counts["unparsed"] == counts["judgements_unparsed"] == counts["empty"] == 0
    assert 0 < engine["forced_accepted"] <= engine["forced"] <= engine["drafted"]
    assert engine["forced_accepted"] <= engine["accepted"]
    agent, _ = Agent.from_journal(tmp_path / "run.jsonl")
    assert agent.settings["sampling"]["value"]["constrain"] is True
    form = agent.task.sampling("value")[0]
    assert form.constraint is not None
    assert form.max_tokens > len(" impossible")  # a label is never cut off, even letter by letter


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("vote.constrain", "true", "sampling.vote.constrain.*nothing to constrain it to"),
        ("value.constrain", "yes please", "sampling.value.constrain.*bool"),
        ("sample.regex", "a(?=b)", "sampling.sample.regex.*cannot be a constraint.*look"),
        ("sample.regex", "(", "sampling.sample.regex"),
        ("value.choices", "[]", "sampling.value.choices"),
        ("value.regex", r"a\nb", "stop string"),
    ],
)
def test_a_wrong_constraint_is_refused_at_once(option: str, value: str, message: str) -> None:
    """In one line that names the option, before a model is loaded."""
    with pytest.raises(ConfigError, match=message):
        Agent("game24", "beam", backend="seed", model="mini", options={f"sampling.{option}": value})


def test_own_constraints_are_set_one_at_a_time() -> None:
    """Choices, a pattern that looks like a number, a schema; two for one role contradict."""
    options = {"sampling.value.choices": '[" sure", " impossible"]', "sampling.sample.regex": "12",
               "sampling.answer.json_schema": '{"type": "string"}'}  # fmt: skip
    task = Agent("game24", "beam", backend="seed", model="mini", options=options).task
    forms = [task.sampling(role)[0].constraint for role in ("value", "sample", "answer")]
    assert [None if form is None else (form.kind, form.text) for form in forms] == [
        ("choices", '[" sure", " impossible"]'),
        ("regex", "12"),
        ("json_schema", '{"type": "string"}'),
    ]
    with pytest.raises(ConfigError, match="'constrain' already"):
        Agent("game24", "beam", backend="seed", model="mini",
              options={"sampling.value.choices": "a", "sampling.value.constrain": "true"})  # fmt: skip
