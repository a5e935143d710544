"""Constraints in task files: what ``constrain`` stands for, and faults with their line and key."""

from __future__ import annotations

import re

import pytest

from treeagent.errors import ConfigError
from treeagent.taskfile.yaml_task import YamlTask

TASK = r"""
name: t
description: d
metadata: {version: 1}
input: {description: i, examples: ["1"]}
depth: 1
thought:
  pattern: '(?P<a>\d) \+ (?P<b>\d)'
answer:
  pattern: '%(answer)s'
evaluate: {labels: {"sure": 1.0, "not sure": 0.0}}
prompts: {propose: p, sample: p, value: p, answer: p, vote: p, io: p}
sampling:
%(sampling)s
"""


def _task(*sampling: str, answer: str = r"(?s)(?P<answer>\d+)") -> YamlTask:
    """The task with these roles."""
    return YamlTask(TASK % {"answer": answer, "sampling": "\n".join(f"  {line}" for line in sampling)})


@pytest.mark.parametrize(
    ("role", "right", "wrong"),
    [
        ("propose", ["1 + 2", "1 + 2\n3 + 4", "1 + 2\n3 + 4\n\n"], ["1 + 2, 3 + 4", "", "1 + x"]),
        ("sample", ["1 + 2"], ["1 + 2\n3 + 4"]),
        ("value", ["sure", " not sure"], ["surely", "sure."]),
        ("answer", ["24", " 24"], ["24 is it"]),
    ],
)
def test_constrain_stands_for_what_the_role_is_read_by(role: str, right: list[str], wrong: list[str]) -> None:
    """The texts that are allowed are those that are read: steps, labels, answers, perhaps with a stop string."""
    stop = ', stop: ["\\n\\n"]' if role == "propose" else ""
    constraint = _task(f"{role}: {{constrain: true{stop}}}").sampling(role)[0].constraint
    assert constraint is not None
    assert all(re.fullmatch(constraint.text, text) for text in right)
    assert not any(re.fullmatch(constraint.text, text) for text in wrong)


def test_own_constraints() -> None:
    """A role may have a regular expression, choices or a schema of its own; ``constrain: false`` is none."""
    task = _task("propose: {regex: 'a+'}", "value: {choices: ['1', '2']}", "io: {json_schema: {type: integer}}",
                 "answer: {constrain: false}")  # fmt: skip
    kinds = [getattr(task.sampling(role)[0].constraint, "kind", None) for role in ("propose", "value", "io", "answer")]
    assert kinds == ["regex", "choices", "json_schema", None]


@pytest.mark.parametrize(
    ("sampling", "key", "message"),
    [
        ("vote: {constrain: true}", "constrain", "nothing to constrain it to"),
        ("value: {constrain: true, choices: ['a']}", "choices", "'constrain' already"),
        ("value: {choices: ['a.', 'b.'], stop: ['.']}", "choices", "stop string"),
        ("value: {regex: 'a\\nb', stop: [\"\\n\"]}", "regex", "stop string"),
        ("value: {choices: ['a'], num_beams: 2}", "choices", "beams"),
        ("value: {regex: 'a(?=b)'}", "regex", "look-ahead"),
        ("answer: {constrain: true}", "constrain", "answer.pattern cannot be a constraint: .*look"),
        ("value: {regex: '('}", "regex", "not a regular expression"),
        ("value: {choices: []}", "choices", "at least 1"),
    ],
)
def test_a_faulty_constraint_is_reported_with_line_and_key(sampling: str, key: str, message: str) -> None:
    """The fault names the key of the role, its line, and what is wrong."""
    with pytest.raises(ConfigError, match=message) as error:
        _task(sampling, answer="(?=4)(?P<answer>.)")
    [problem] = error.value.problems
    assert problem.key == f"sampling.{sampling.partition(':')[0]}.{key}"
    assert problem.line == 14
