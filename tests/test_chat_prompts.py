"""System prompts, several messages and settings of a chat: in task files, requests, journals and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from treeagent import Agent, CapabilityError, ConfigError, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.chat import Chat, Message, conversation
from treeagent.cli import app
from treeagent.request import Key, Request, Sampling, ScoreRequest
from treeagent.runtime import journal
from treeagent.viewer.run_data import run_data

TASK = """
name: sums
description: Add.
metadata: {version: 1}
input: {description: a sum, examples: ["1 + 1", "2 + 2"]}
depth: 1
prompts:
  io:
    system: "You add. {{ depth }}"
    messages:
      - {role: user, content: "3 + 4"}
      - {role: assistant, content: "7"}
      - {role: user, content: "{{ input }}"}
  cot: "Think: {{ input }}"
"""
BEFORE = (Message("system", "You add. 0"), Message("user", "3 + 4"), Message("assistant", "7"))


def problems(text: str) -> list[str]:
    """What is wrong with a task file, with its lines and keys."""
    with pytest.raises(ConfigError) as caught:
        YamlTask(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_prompt_may_have_a_system_prompt_and_several_messages() -> None:
    """The last message is the prompt; every message is a template."""
    task = YamlTask(TASK)
    root = task.root("1 + 1")
    assert task.messages("io", "1 + 1", root, []) == BEFORE
    assert task.prompt("io", "1 + 1", root, []) == "1 + 1"
    assert task.messages("cot", "1 + 1", root, []) == ()
    assert task.chat_roles == ["io"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('{role: assistant, content: "7"}', '{role: system, content: "7"}', "a system prompt is the key 'system'"),
        ('{role: assistant, content: "7"}', '{role: user, content: "7"}', "message 2 is of 'assistant'"),
        ('      - {role: user, content: "{{ input }}"}\n', "", "the last message is the user's"),
        ('"3 + 4"', '"{{ nowhere }}"', "unknown variable 'nowhere'"),
        ("You add.", "You {{ addd }}", "prompts.io.system: unknown variable 'addd'"),
        ("    system:", "    sytem:", "Did you mean 'system'?"),
        ('cot: "Think: {{ input }}"', "cot: 3", "prompts.cot: Input should be a valid string (got 3)"),
        ("prompts:", "sampling: {io: {thinkin: true}}\nprompts:", "Did you mean 'thinking'?"),
        ("prompts:", "sampling: {io: {thinking: 0}}\nprompts:", "true, false, or the most tokens"),
        ("prompts:", "sampling: {io: {thinking: 256}}\nprompts:", "leave no room for a text in max_tokens=256"),
        ("prompts:", "sampling: {io: {extra_body: {stop: a}}}\nprompts:", "set sampling.ROLE.stop"),
        (
            "prompts:", "sampling: {io: {thinking: true, template: {enable_thinking: false}}}\nprompts:",
            "leave one of the two out",
        ),
    ],
)  # fmt: skip
def test_a_faulty_prompt_or_setting_is_named_with_its_key(old: str, new: str, words: str) -> None:
    """One line, which says what to write."""
    assert old in TASK
    [problem] = problems(TASK.replace(old, new))
    assert words in problem


def test_an_id_changes_with_what_a_chat_is_given_and_not_without() -> None:
    """Ids of requests without a chat's settings are those of before there were any."""
    key = Key(1, "propose", "0.1")
    plain = Request("1 2 3 4", key, Sampling(temperature=0.7, stop=("a",)), n=2)
    assert plain.id == "00c8a178ac74b47a9f897a54"
    assert ScoreRequest("p", ("a", "b")).id == "c0e9c48be181cebdbc9d5b3f"
    assert Request("x", Key(0, "value", "24"), Sampling(num_beams=3)).id == "bd7dcfc652dfdfb739680ca9"
    others = [
        Request("1 2 3 4", key, Sampling(temperature=0.7, stop=("a",), **more), n=2)
        for more in ({"thinking": False}, {"thinking": True}, {"thinking": 1}, {"template": {"a": 1, "b": 2}},
                     {"extra_body": {"a": 1}})
    ]  # fmt: skip
    others.append(Request("1 2 3 4", key, plain.sampling, 2, (Message("system", "s"),)))
    assert len({request.id for request in [plain, *others]}) == 7
    assert len({hash(request) for request in others}) > 1
    swapped = Request("1 2 3 4", key, Sampling(temperature=0.7, stop=("a",), template={"b": 2, "a": 1}), n=2)
    assert swapped.id == others[3].id
    scored = {ScoreRequest("p", ("a",), chat).id for chat in (Chat(), Chat(thinking=False), Chat(BEFORE))}
    assert len(scored) == 3


def test_messages_reach_the_backend_the_journal_and_the_page(tmp_path: Path) -> None:
    """A replay finds the answer by all messages; the page shows them above the prompt."""
    backend = ScriptedBackend(lambda request: "2")
    path = tmp_path / "run.jsonl"
    Agent(YamlTask(TASK), "io", backend=backend).solve("1 + 1", journal=path)
    [request] = [one for one in backend.requests if isinstance(one, Request)][:1]
    assert (request.messages, request.prompt) == (BEFORE, "1 + 1")
    events = journal.read(path)
    [line] = [event.data for event in events if event.type == "completion"][:1]
    assert [Message(**message) for message in line["messages"]] == list(BEFORE)
    page = run_data(events, "run").replies
    shown = "\n".join(page["lines"][number] for number in page["requests"][0]["prompt"])
    assert shown == conversation(BEFORE, "1 + 1")
    done = CliRunner().invoke(app, ["tasks", "show", str(_written(tmp_path))])
    assert "[system]\nYou add. 0" in done.output


def test_a_backend_without_a_chat_refuses_messages_before_the_first_request(tmp_path: Path) -> None:
    """The bundled model has no chat template, as loading shows; a role that is not used needs none."""
    with pytest.raises(CapabilityError, match=r"the prompt 'io' .* several messages, needs chat"):
        Agent(YamlTask(TASK), "io", backend="seed", model="mini").load()
    words = ["solve", "--task", "game24", "--model", "mini", "--set"]
    done = CliRunner().invoke(app, [*words, "sampling.propose.thinking=false", "--input", "1 2 3 4"])
    assert done.exit_code != 0
    assert "sampling.propose.thinking of the task 'game24' needs chat" in done.output.replace("\n", " ")


def test_settings_of_a_chat_are_given_on_the_command_line_and_kept_in_the_journal(tmp_path: Path) -> None:
    """Single keys of a mapping as well; a resumed run has them again."""
    options = {
        "sampling.io.thinking": "64",
        "sampling.io.template.reasoning_effort": "low",
        "sampling.io.template": '{"tools": null}',
        "sampling.io.extra_body.top_a": "0.5",
        "sampling.io.temperature": "1",
    }
    backend, path = ScriptedBackend(lambda request: "2"), tmp_path / "run.jsonl"
    Agent(YamlTask(TASK), "io", backend=backend, options=options).solve("1 + 1", journal=path)
    [request, *_] = backend.requests
    assert request.chat == Chat(BEFORE, 64, {"reasoning_effort": "low", "tools": None}, {"top_a": 0.5})
    settings = journal.recorded(journal.read(path))["settings"]["sampling"]
    assert settings["io"]["template"] == {"reasoning_effort": "low", "tools": None}
    again: dict[str, Any] = {f"sampling.io.{name}": value for name, value in settings["io"].items()}
    assert Agent(YamlTask(TASK), "io", backend=ScriptedBackend([]), options=again).settings["sampling"] == settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampling.io.thinkng": "true"}, "Did you mean 'thinking'?"),
        ({"sampling.oi.thinking": "true"}, "has no role"),
        ({"sampling.io.thinking": "maybe"}, "true, false, or the most tokens"),
        ({"sampling.io.thinking": "300"}, "leave no room"),
        ({"sampling.io.extra_body.max_tokens": "3"}, "set sampling.ROLE.max_tokens"),
        ({"sampling.io.template": "3"}, "expected a mapping"),
        ({"sampling.io.thinking": "8", "sampling.io.num_beams": "2"}, "beams cannot end thinking"),
    ],
)
def test_wrong_settings_on_the_command_line_are_one_line(options: dict[str, str], words: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")) as caught:
        Agent(YamlTask(TASK), "io", backend=ScriptedBackend([]), options=options)
    assert len(str(caught.value).splitlines()) == 1


def _written(folder: Path) -> Path:
    path = folder / "sums.yaml"
    path.write_text(TASK)
    return path


def test_a_journal_with_damaged_messages_is_refused(tmp_path: Path) -> None:
    """The fault is named with its line."""
    path = tmp_path / "run.jsonl"
    Agent(YamlTask(TASK), "io", backend=ScriptedBackend(lambda request: "2")).solve("1 + 1", journal=path)
    lines = path.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if '"messages"' in line)
    damaged = json.loads(lines[place])
    damaged["messages"][0]["content"] = 3
    lines[place] = json.dumps(damaged)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(Exception, match=r"messages\.0\.content"):
        journal.read(path)
