"""Task files: variables, completions, answers, and tasks complete without Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import TASK, TreeBackend, task
from task_faults import PATH, faults

from treeagent import Agent, ConfigError, InputError, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.request import DEFAULT_SAMPLING

# Variables

SHOUT = TASK.replace("depth: 9", "depth: 9\nvariables: {loud: false, times: 3, rate: 0.5, word: hm}").replace(
    "io of {{ input }}", "{{ word }} io of {{ input }}{{ '!' * times if loud }}"
)


def test_variables_are_typed_and_checked() -> None:
    """Values from a command line take the type of their default; unknown names and wrong types are errors."""
    made = YamlTask(SHOUT, variables={"loud": "yes", "times": "2", "rate": 1, "word": "7"})
    assert made.variables == {"loud": True, "times": 2, "rate": 1.0, "word": "7"}
    assert made.prompt("io", "r", made.root("r"), []) == "7 io of r!!\n"
    for name, value in {"lod": "yes", "loud": "maybe", "times": "2.5", "rate": "x", "word": 3}.items():
        with pytest.raises(ConfigError, match=f"'{name}'"):
            YamlTask(SHOUT, variables={name: value})


def test_an_undefined_variable_is_reported_before_any_run() -> None:
    """A template with an undefined name is refused at load."""
    [(_, key, message)] = faults(SHOUT.replace("{{ word }}", "{{ wrd }}"))
    assert (key, "Did you mean 'word'" in message) == ("prompts.io", True)


# Reading


def test_completions_become_pieces_by_separator_and_pattern() -> None:
    """White space is trimmed, empty pieces vanish, ``sample`` proposes one; what does not match is unparsed."""
    made = task()
    pieces = made.read_thoughts("propose", "\n  ra  \n\nHUH\nrb end\nrb endless\n", "r", made.root("r"), [])
    assert [(piece.text, piece.state, piece.terminal, piece.fault) for piece in pieces] == [
        ("ra", "ra", False, None),
        ("HUH", "r", False, "unparsed"),
        ("rb end", "rb", True, None),
        ("rb endless", "r", False, "unparsed"),
    ]
    assert len(made.read_thoughts("sample", "ra\nrb", "r", made.root("r"), [])) == 1
    assert made.read_thoughts("sample", " \n ", "r", made.root("r"), []) == []


def test_a_thought_at_full_depth_is_terminal() -> None:
    """Whatever the terminal test says."""
    made = task(**{"depth: 9": "depth: 1"})
    [piece] = made.read_thoughts("propose", "ra", "r", made.root("r"), [])
    assert piece.terminal


def test_the_last_answer_counts_and_empty_is_none() -> None:
    """The group ``answer`` of the pattern's last match."""
    made = task(**{"'^answer": "'(?m)^answer"})
    assert made.read_answer("answer a\nanswer b\n") == "b"
    assert made.read_answer("no") is None


def test_sampling_falls_back_to_the_roles_defaults() -> None:
    """What a file leaves out has the role's default, also beside what it gives."""
    made = task(**{"  value: {n: 1}": '  value: {n: 2, stop: ["x"], temperature: 0}'})
    sampling, count = made.sampling("value")
    assert (count, sampling.stop, sampling.temperature) == (2, ("x",), 0.0)
    assert sampling.max_tokens == DEFAULT_SAMPLING["value"][0].max_tokens
    assert made.sampling("cot") == DEFAULT_SAMPLING["cot"]


def test_the_input_is_normalised_or_refused() -> None:
    """A fault of the template on a user's text is an input error, not a traceback."""
    made = task(**{'examples: ["r"]': 'examples: ["ra"], normalise: "{{ input[1] | upper }}"'})
    assert made.read_input(" ra ") == "A"
    with pytest.raises(InputError, match="cannot be read"):
        made.read_input("r")


# A complete task without Python

COUNTDOWN = """
name: countdown
description: Subtract 1 or 2 until nothing is left.
metadata: {version: 1}
input: {description: a whole number, pattern: '[0-9]+', examples: ["3"]}
depth: 5
thought:
  pattern: 'take (?P<by>[0-9]+)'
  state: "{{ parent | int - by | int }}"
  legal: "by in ('1', '2') and parent | int >= by | int"
  terminal: "parent | int == by | int"
answer:
  template: "{{ steps | join(', ') }}"
evaluate:
  labels: {good: 1, bad: 0}
prompts:
  propose: "From {{ state }}:\\n"
  value: "Is {{ state }} good?"
"""


def test_a_yaml_file_alone_is_a_complete_task(tmp_path: Path) -> None:
    """Legality, states, the terminal test and the answer in YAML; a search solves it with a scripted model."""
    path = tmp_path / "countdown.yaml"
    path.write_text(COUNTDOWN)
    backend = ScriptedBackend(
        lambda request: "take 1\ntake 2\ntake 3\nrun" if request.prompt.startswith("From") else
        ("good" if request.prompt in ("Is 0 good?", "Is 1 good?") else "bad")
    )  # fmt: skip
    result = Agent(path, "bfs", backend=backend, options={"b": 1}).solve("3")
    assert (result.answer, result.solved) == ("take 2, take 1", None)
    assert (result.counts.illegal, result.counts.unparsed, result.counts.duplicates) == (3, 2, 0)


def test_a_template_that_fails_on_a_path_is_a_clear_error() -> None:
    """``answer.template`` is the user's own; its fault names file and key."""
    text = COUNTDOWN.replace("{{ steps | join(', ') }}", "{{ steps[7] }}")
    broken = YamlTask(text, PATH)
    with pytest.raises(ConfigError, match=r"own\.yaml:\d+:answer\.template"):
        Agent(broken, "bfs", backend=ScriptedBackend(lambda request: "take 1\ntake 2")).solve("2")


def test_gold_is_out_of_reach_of_a_search() -> None:
    """Nothing that a search holds leads to a gold answer: the task has no attribute of the kind."""
    made = task()
    assert not [name for name in dir(made) if "gold" in name]
    backend = TreeBackend([1])
    Agent(made, "bfs", backend=backend).solve("r")
