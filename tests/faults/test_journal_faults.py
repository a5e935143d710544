"""Journals from elsewhere: edited ones, ones that name code or addresses, and two writers on one."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from cli_tools import call
from helpers import Oracle

from treeagent import Agent, Journal, JournalError, TreeagentError
from treeagent.backends.replay import ReplayBackend
from treeagent.jsonl import strict
from treeagent.runtime.journal import read, recorded_run
from treeagent.runtime.journal_tree import rebuild
from treeagent.viewer.run_data import run_data

MANY = int(os.environ.get("TREEAGENT_MUTATIONS", "300"))
"""Cases of an exhaustive run."""

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """The lines of a journal with every type of event but those of failures and rounds."""
    path = tmp_path_factory.mktemp("whole") / "run.jsonl"
    Agent("game24", "bfs", backend=Oracle(), evaluator="value").solve("4 9 10 13", journal=path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def use(path: Path) -> None:
    """Everything that reads a journal."""
    rebuild(read(path))
    run_data(read(path), path.name)
    ReplayBackend(path)
    recorded_run(path)
    Agent.from_journal(path, allow_code=True)
    Journal(path, resume=True).close()


def edited(lines: Lines, place: int, key: str, value: Any) -> Lines:
    """The lines with one value changed, or removed where it is ``...``."""
    changed = copy.deepcopy(lines)
    *outer, last = key.split(".")
    target: Any = changed[place]
    for name in outer:
        target = target[int(name)] if isinstance(target, list) else target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return changed


def write(path: Path, lines: Lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def first(lines: Lines, kind: str) -> int:
    """Index of the first line of a type."""
    return next(index for index, line in enumerate(lines) if line["type"] == kind)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("run", "settings.task", ["x"]),
        ("run", "settings.task", ...),
        ("run", "settings.backend.name", 5),
        ("run", "settings.backend.name", ...),
        ("run", "settings.backend.options", []),
        ("run", "settings.backend", "seed"),
        ("run", "settings.search", ["bfs"]),
        ("run", "settings.search.name", None),
        ("run", "settings.evaluator", 3),
        ("run", "settings.evaluator.name", {}),
        ("run", "settings.evaluator_model", 7),
        ("run", "settings.evaluator_model", {"name": "seed"}),
        ("run", "settings.variables", [1]),
        ("run", "settings.variables", {"a": [1]}),
        ("run", "settings.legality", "yes"),
        ("run", "settings.task_version", "1"),
        ("run", "settings", ...),
        ("run", "settings", []),
        ("run", "input", ...),
        ("run", "input", 24),
        ("run", "seed", "0"),
        ("run", "seed", ...),
        ("run", "budget", 5),
        ("run", "budget.calls", "many"),
        ("run", "budget.calls", -1),
        ("run", "budget.apples", 3),
        ("thought", "id", 7),
        ("thought", "id", 0),
        ("thought", "id", "1"),
        ("thought", "parent", 9),
        ("thought", "parent", 1),
        ("thought", "parent", None),
        ("thought", "path", [3, 4]),
        ("thought", "path", "0"),
        ("thought", "depth", 10**9),
        ("thought", "text", None),
        ("thought", "state", 5),
        ("thought", "terminal", "no"),
        ("thought", "sample", ...),
        ("judged", "id", 1000),
        ("judged", "labels", [5]),
        ("judged", "labels", "sure"),
        ("judged", "value", "high"),
        ("judged", "unparsed", -1),
        ("judged", "requests", [1]),
        ("answer", "id", -1),
        ("answer", "answer", 24),
        ("completion", "completions", {}),
        ("completion", "completions.0.text", None),
        ("completion", "completions.0.tokens", ["a"]),
        ("completion", "completions.0.finish", 1),
        ("completion", "id", ["a"]),
        ("completion", "usage", None),
        ("completion", "usage.calls", "1"),
        ("completion", "usage.completion_tokens", 10**4000),
        ("completion", "prompt", ...),
        ("completion", "thought", "root"),
        ("completion", "seconds", "soon"),
        ("end", "thought", 1000),
        ("end", "thought", -1),
        ("end", "thought", "1"),
        ("end", "thought", ...),
        ("end", "solved", "yes"),
        ("end", "usage.calls", None),
        ("end", "counts.thoughts", "many"),
        ("end", "seconds", None),
    ],
)
def test_an_edited_journal_is_one_error_with_file_line_and_key(
    kind: str, key: str, value: Any, lines: Lines, tmp_path: Path
) -> None:
    """Whoever reads it first says what is wrong, and where."""
    place = first(lines, kind)
    path = write(tmp_path / "run.jsonl", edited(lines, place, key, value))
    content = path.read_bytes()
    with pytest.raises(JournalError) as fault:
        use(path)
    assert f"{path}:{place + 1}: " in str(fault.value)
    assert any(part in str(fault.value) for part in key.split(".")), str(fault.value)
    assert len(str(fault.value)) < 500
    assert path.read_bytes() == content
    for command in (("resume", "--allow-code"), ("view",), ("export",)):
        if call(command[0], str(path), *command[1:]).exit_code == 2:
            break
    else:
        raise AssertionError("no command refuses it")


def test_a_search_option_cannot_be_one_of_the_backend(lines: Lines, tmp_path: Path) -> None:
    """Its name with a dot would pass by the check of addresses."""
    path = write(tmp_path / "run.jsonl", edited(lines, 0, "settings.search", {"name": "bfs", "backend.base_url": "x"}))
    with pytest.raises(JournalError, match=r"run\.jsonl:1: .*settings\.search: .*has no dot"):
        Agent.from_journal(path, allow_code=True)


def test_a_record_nested_without_end_is_refused(lines: Lines, tmp_path: Path) -> None:
    """It would fail those who walk through it."""
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    path = write(tmp_path / "run.jsonl", edited(lines, 0, "settings", {"deep": deep}))
    with pytest.raises(JournalError, match="nested more than 100 levels"):
        read(path)


def test_journals_of_before_open_with_their_infinities(lines: Lines, tmp_path: Path) -> None:
    """NaN and Infinity, which are no JSON, were written once: unknown, or as a log-probability minus infinity."""
    path = tmp_path / "run.jsonl"
    usage = {"calls": 1, "prompt_tokens": 1, "completion_tokens": 0, "dollars": None}
    scores = {"type": "scores", "t": 0.1, "id": "s", "prompt": "p", "continuations": ["a", "b"]}
    scores |= {"logprobs": [float("-inf"), -1.5], "lengths": [1, 1], "usage": usage}
    path.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], scores]))
    assert "-Infinity" in path.read_text()
    journal = Journal(path, resume=True)
    journal.close()
    assert journal.scores["s"].logprobs == (float("-inf"), -1.5)


def test_what_is_written_is_strict_json(tmp_path: Path) -> None:
    """Null stands for what JSON cannot say."""
    text = strict({"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": (float("-inf"),)})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, 1.5], "b": {"c": None}, "d": [None]}


@pytest.mark.parametrize("count", [30, pytest.param(MANY, marks=pytest.mark.exhaustive)])
def test_mutated_journals_raise_nothing_but_the_hierarchy(count: int, lines: Lines, tmp_path: Path) -> None:
    """Seeds 0 to ``count``: values replaced by those of other places and kinds, keys and lines removed or doubled."""
    values: list[Any] = [None, True, -1, 10**30, 1.5, "", "x", "\ud800", [], {}, [[]], {"a": 1}, [None], float("nan")]
    for seed in range(count):
        chance = random.Random(seed)
        changed = copy.deepcopy(lines)
        for _ in range(chance.randint(1, 3)):
            target: Any = chance.choice(changed)
            while True:
                keys = list(target) if isinstance(target, dict) else list(range(len(target)))
                if not keys:
                    break
                key = chance.choice(keys)
                if isinstance(target[key], dict | list) and chance.random() < 0.7:
                    target = target[key]
                    continue
                if chance.random() < 0.3:
                    del target[key]
                else:
                    target[key] = chance.choice(values)
                break
        if chance.random() < 0.3:
            changed.insert(chance.randrange(len(changed)), chance.choice(changed))
        if chance.random() < 0.2:
            del changed[chance.randrange(len(changed))]
        path = write(tmp_path / "run.jsonl", changed)
        for step in (
            lambda path: rebuild(read(path)), lambda path: run_data(read(path), "x"), ReplayBackend,
            lambda path: Agent.from_journal(path, allow_code=True), lambda path: Journal(path, resume=True).close(),
        ):  # fmt: skip
            try:
                step(path)
            except TreeagentError:
                pass
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize("raw", [b"\\ud83d", b"\\uD83D", b"\xed\xa0\xbd"])
def test_half_a_character_in_a_journal_of_before_is_replaced_where_it_is_read(
    raw: bytes, lines: Lines, tmp_path: Path
) -> None:
    """Escaped or as bytes; the journal can be resumed."""
    path = write(tmp_path / "run.jsonl", edited(lines, first(lines, "completion"), "completions.0.text", "HALF"))
    path.write_bytes(path.read_bytes().replace(b"HALF", b"a" + raw + b"b \\ud83d\\ude00"))
    [event] = [event for event in read(path) if event.type == "completion"][:1]
    assert event.data["completions"][0]["text"] == "a\ufffdb \U0001f600"
    use(path)
