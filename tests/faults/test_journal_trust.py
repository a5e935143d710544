"""What ``resume`` takes from a journal of elsewhere: no code and no address, unless the user says so again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cli_tools import call
from openai_server import Model, Server

from treeagent import Agent, Backend, ConfigError, Reply, Request
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.options import as_json, read_options, same_value
from treeagent.runtime import factory

SECRET = "wJalrXUtnFEMI-not-a-real-key"  # noqa: S105


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers anybody, and a secret of this machine."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with Server(Model("vllm")).listening() as running:
        yield running


@pytest.fixture
def journal(server: Server, tmp_path: Path) -> Path:
    """A journal that would send the secret to the server; the server has seen nothing yet."""
    path = tmp_path / "run.jsonl"
    options = {"backend.base_url": server.url, "backend.server": "vllm", "backend.timeout": "5"}
    agent = Agent("game24", "io", backend="openai", model="toy", options=options)
    agent.solve("4 5 6 10", journal=path)
    first, *_ = path.read_text().splitlines()
    line = json.loads(first)
    line["settings"]["backend"]["options"]["key_variable"] = "AWS_SECRET_ACCESS_KEY"
    path.write_text(json.dumps(line) + "\n")
    server.asked.clear()
    return path


def keys(server: Server) -> set[str]:
    """Everything the server has been sent as a key."""
    return {asked.headers.get("authorization", "") for asked in server.asked}


def test_a_journal_sends_no_secret_and_no_prompt_anywhere(journal: Path, server: Server) -> None:
    """Both options are named in the error, with the words that would confirm them; nothing was sent."""
    result = call("resume", str(journal))
    assert result.exit_code == 2
    assert f"--set backend.base_url={server.url}" in result.stderr
    assert "--set backend.key_variable=AWS_SECRET_ACCESS_KEY" in result.stderr
    assert SECRET not in result.output
    half = call("resume", str(journal), "--set", f"backend.base_url={server.url}")
    assert half.exit_code == 2
    assert "backend.base_url=" not in half.stderr
    assert not server.asked


def test_what_the_user_repeats_or_replaces_is_used(
    journal: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret goes where the user says, and another variable can be named instead."""
    monkeypatch.setenv("MY_KEY", "my-key")
    words = ["resume", str(journal), "--set", f"backend.base_url={server.url}", "--set"]
    assert call(*words, "backend.key_variable=MY_KEY").exit_code in (0, 1)
    assert keys(server) == {"Bearer my-key"}
    server.asked.clear()
    agent, _ = Agent.from_journal(journal, trusted={"backend.base_url": server.url, "backend.key_variable": "MY_KEY"})
    assert isinstance(agent.backend, OpenAIBackend)
    assert (agent.backend.base_url, agent.backend.key_variable, agent.backend.timeout) == (server.url, "MY_KEY", 5.0)


def test_the_address_of_this_machine_need_not_be_repeated(
    journal: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal with the address that is used here anyway, and with no variable of its own, goes on."""
    line = json.loads(journal.read_text())
    del line["settings"]["backend"]["options"]["key_variable"]
    journal.write_text(json.dumps(line) + "\n")
    assert call("resume", str(journal)).exit_code == 2
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    assert call("resume", str(journal)).exit_code in (0, 1)
    assert server.asked


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("b=5", "a journal's settings stand"),
        ("evaluator.samples=2", "a journal's settings stand"),
        ("backend.timeout=5", "backend.timeout cannot be changed"),
        ("evaluator_model.base_url=http://h/v1", "evaluator_backend.base_url cannot be changed"),
        ("backend.=5", "a journal's settings stand"),
    ],
)
def test_resume_changes_no_other_setting(word: str, reason: str, journal: Path, server: Server) -> None:
    """The tree would be another one."""
    words = [f"backend.base_url={server.url}", "backend.key_variable=AWS_SECRET_ACCESS_KEY", word]
    result = call("resume", str(journal), *(part for each in words for part in ("--set", each)))
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not server.asked


def test_a_backend_of_the_evaluators_own_is_held_to_the_same(journal: Path, server: Server) -> None:
    """It is opened from the journal as well."""
    line = json.loads(journal.read_text())
    settings = line["settings"]
    settings["evaluator_model"] = settings["backend"]
    settings["search"], settings["evaluator"] = {"name": "bfs"}, {"name": "value"}
    settings["backend"] = {"name": "openai", "model": "toy", "options": {"base_url": server.url}}
    journal.write_text(json.dumps(line) + "\n")
    trusted = {"backend.base_url": server.url}
    with pytest.raises(ConfigError, match=r"--set evaluator_backend\.base_url=.*\n.*evaluator_backend\.key_variable"):
        Agent.from_journal(journal, trusted=trusted)
    assert not server.asked
    trusted |= {"evaluator_backend.base_url": server.url, "evaluator_model.key_variable": "AWS_SECRET_ACCESS_KEY"}
    assert isinstance(Agent.from_journal(journal, trusted=trusted)[0].judging, OpenAIBackend)


class ThirdParty(Backend):
    """A backend of somebody else, with an address and an endpoint of its own."""

    name = f"{__name__}:ThirdParty"
    opened: ClassVar[list[Mapping[str, Any]]] = []

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> Backend:
        """Keeps what it was given."""
        cls.opened.append(options)
        return cls()

    @classmethod
    def guarded_options(cls) -> Mapping[str, Any]:
        """One option with a default, one without."""
        return {"endpoint": "https://here", "token_file": None}

    async def generate(self, request: Request) -> Reply:
        """Never called."""
        raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "trusted", "opened"),
    [
        ({"endpoint": "https://here", "size": 3}, {}, {"endpoint": "https://here", "size": 3}),
        ({"size": 3}, {}, {"size": 3}),
        ({"endpoint": "https://there"}, {}, None),
        ({"token_file": "/home/me/.token"}, {}, None),
        ({"endpoint": None}, {}, {"endpoint": None}),
        ({"endpoint": "https://there"}, {"backend.endpoint": "https://there"}, {"endpoint": "https://there"}),
        ({"endpoint": "https://there"}, {"backend.endpoint": "https://other"}, {"endpoint": "https://other"}),
    ],
)
def test_a_backend_of_a_third_party_names_its_own_guarded_options(
    options: dict[str, Any], trusted: dict[str, str], opened: dict[str, Any] | None, journal: Path
) -> None:
    """They are held to the same rule."""
    line = json.loads(journal.read_text())
    line["settings"]["backend"] = {"name": ThirdParty.name, "model": None, "options": options}
    journal.write_text(json.dumps(line) + "\n")
    ThirdParty.opened.clear()
    if opened is None:
        with pytest.raises(ConfigError, match=r"is not taken from a journal\. If that is right, repeat it"):
            Agent.from_journal(journal, trusted=trusted, allow_code=True)
        assert not ThirdParty.opened
    else:
        Agent.from_journal(journal, trusted=trusted, allow_code=True)
        assert ThirdParty.opened == [opened]


@pytest.mark.parametrize("part", ["task", "search", "evaluator", "backend", "evaluator_model"])
def test_a_journal_names_no_code(part: str, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported, not even from the current folder, without permission."""
    mark = tmp_path / "imported"
    (tmp_path / "foreign_part.py").write_text(f"open({str(mark)!r}, 'w')\nclass Part: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    line = json.loads(journal.read_text())
    settings = line["settings"]
    settings["search"], settings["evaluator"] = {"name": "bfs"}, {"name": "value"}
    settings["backend"] = {"name": "scripted", "model": "x.yaml", "options": {}}
    name = "foreign_part:Part"
    named = {"name": name, "model": None, "options": {}}
    settings[part] = {"task": name, "search": {"name": name}, "evaluator": {"name": name}}.get(part, named)
    journal.write_text(json.dumps(line) + "\n")
    result = call("resume", str(journal))
    assert result.exit_code == 2
    assert f"{name!r}, which the journal {journal} names, is code outside the registry" in result.stderr
    assert not mark.exists()
    assert call("resume", str(journal), "--allow-code").exit_code == 2  # it is no part of the kind
    assert mark.exists()
    sys.modules.pop("foreign_part", None)


def test_options_of_a_backend_are_numbers_in_the_journal(journal: Path) -> None:
    """And are read again, as are the texts of older journals."""
    options = json.loads(journal.read_text())["settings"]["backend"]["options"]
    assert (options["timeout"], options["concurrency"], options["deterministic"]) == (5.0, 16, False)
    kinds = OpenAIBackend.options
    older = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}
    assert read_options("openai", kinds, older) == read_options("openai", kinds, options)
    assert as_json(read_options("openai", kinds, older)) == options
    assert all(same_value(older[name], options[name]) for name in options)


@pytest.mark.parametrize(
    ("word", "kind"), [(True, int), (2.5, int), ([1], str), (None, str), ({}, bool), ("x", float), (float("inf"), int)]
)
def test_a_value_of_another_kind_is_no_option(word: Any, kind: type) -> None:
    """Each is one error, and none is turned into something else in silence."""
    with pytest.raises(ConfigError, match="option 'a' must be"):
        read_options("x", {"a": kind}, {"a": word})


def test_the_callers_backend_replaces_that_of_the_journal(journal: Path) -> None:
    """Its address then does not matter."""
    agent, _ = Agent.from_journal(journal, backend=factory.open_backend("openai", "toy", {"base_url": "http://h:1"}))
    assert isinstance(agent.backend, OpenAIBackend)
    assert agent.backend.base_url == "http://h:1"
