"""Text enters at one gate: surrogates, sizes, line ends and blanks of completions, inputs and arguments."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import Agent, Completion, ConfigError, Evaluator, Judgement, Reply, Task, Usage, YamlTask, yaml_text
from treeagent import text as gate
from treeagent.backends.scripted import ScriptedBackend
from treeagent.cli import app
from treeagent.runtime.journal import read
from treeagent.runtime.reply_text import received

FREE = r"""
name: free
description: Any text.
metadata: {version: 1}
input: {description: any text, examples: ["hello"]}
depth: 2
prompts:
  sample: "Problem: {{ input }}\n{% for step in steps %}{{ step }}\n{% endfor %}"
  propose: "P {{ state }}\n"
  value: "{{ state }}\nAnswer:"
  io: "{{ input }}"
"""
LONE, HALF, SIGN = "\ud83d", "a\ud83d", "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Same(Evaluator):
    """Finds every thought equally good."""

    async def judge(self, thoughts, context):
        return [Judgement(1.0) for _ in thoughts]


def call(*words: str, stdin: bytes | str | None = None, rules: str = '[{match: ".", text: "4"}]', at: Path):
    """The command ``solve`` with a scripted backend."""
    (at / "free.yaml").write_text(FREE)
    (at / "rules.yaml").write_text(rules)
    how = ["--backend", "scripted", "--model", str(at / "rules.yaml"), "--quiet"]
    return CliRunner().invoke(app, ["solve", *how, *words], input=stdin)


# The gate


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("grün \U0001f600 \x1b[0m", "grün \U0001f600 \x1b[0m"),
        (HALF, f"a{SIGN}"),
        ("\ud83da", f"{SIGN}a"),
        ("\ude00\ud83d", SIGN * 2),
        ("\udcff", SIGN),
        ("\ud83d\ude00!", "\U0001f600!"),
    ],
)
def test_lone_surrogates_are_replaced(text: str, clean: str) -> None:
    """A half of a pair becomes U+FFFD, two halves their character; everything else stays."""
    assert gate.clean(text) == clean
    assert gate.cleaned({text: [text, 1]}) == {clean: [clean, 1]}
    gate.clean(text).encode()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        ("a\n\n b \n", ["a", "", " b "]),
        ("a\u2028b\x85c\x0cd\x0be\x1cf", ["a\u2028b\x85c\x0cd\x0be\x1cf"]),
    ],
)
def test_lines_end_at_line_breaks_only(text: str, lines: list[str]) -> None:
    """LF, CRLF and CR; not U+2028, NEL, form feed and their like."""
    assert gate.lines(text) == lines


def test_deeply_nested_values_are_refused_and_shared_ones_stay_shared() -> None:
    """A limit instead of a RecursionError; aliases of YAML do not multiply."""
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested deeper"):
        gate.cleaned(nested)
    bomb: list = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    result = gate.cleaned(bomb)
    assert result[0] is result[1]


# Completions


@pytest.mark.parametrize("search", ["greedy", "bfs", "mcts", "io"])
def test_half_an_emoji_in_a_completion_is_one_character(search: str, tmp_path: Path) -> None:
    """The search goes on, the journal can be read, and a resumed run ends alike."""
    path = tmp_path / "run.jsonl"
    agent = Agent(YamlTask(FREE), search, backend=ScriptedBackend(lambda _: HALF), evaluator=Same())
    result = agent.solve("hello", journal=path)
    assert result.answer is not None
    assert SIGN in result.answer
    json.dumps(result.to_json(), ensure_ascii=False).encode()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    again = Agent(YamlTask(FREE), search, backend=ScriptedBackend([]), evaluator=Same())
    assert again.run("hello", journal=path, resume=True).input == "hello"


def test_a_journal_of_before_with_a_surrogate_resumes(tmp_path: Path) -> None:
    """The gate cleans what a journal holds as well."""
    path = tmp_path / "run.jsonl"
    Agent(YamlTask(FREE), "io", backend=ScriptedBackend(lambda _: "ab")).solve("hello", journal=path)
    lines = path.read_text().replace('"text": "ab"', '"text": "a\\ud83d"').splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"completion"' in line or '"type": "run"' in line))
    run = Agent(YamlTask(FREE), "io", backend=ScriptedBackend([])).run("hello", journal=path, resume=True)
    assert asyncio.run(run.result()).answer == f"a{SIGN}"


def test_a_reply_beyond_its_tokens_is_cut_and_counted(tmp_path: Path) -> None:
    """Whatever a backend sends: the journal holds what ``max_tokens`` can hold, and the end is ``length``."""
    backend = ScriptedBackend(lambda _: "x" * 5_000_000)
    path = tmp_path / "run.jsonl"
    result = Agent(YamlTask(FREE), "io", backend=backend).solve("hello", journal=path)
    limit = gate.character_limit(YamlTask(FREE).sampling("io")[0].max_tokens)
    assert result.answer == "x" * limit
    assert path.stat().st_size < 6 * limit
    assert [e.data["completions"][0]["finish"] for e in read(path) if e.type == "completion"] == ["length"]


def test_the_gate_keeps_what_fits() -> None:
    """A sound reply is the same object; tokens that fit no longer are unknown; reasoning is cleaned too."""
    sound = Reply((Completion("a", (1,), ends=(1,)), Completion("b" * 1000)), Usage())
    assert received(sound, 8) is sound
    odd = Reply((Completion("a" * 9999, (1, 2), logprob=-1.0), Completion("b", reasoning=HALF)), Usage())
    cut, thinking = received(odd, 1).completions
    assert (len(cut.text), cut.tokens, cut.logprob, cut.finish) == (1280, None, None, "length")
    assert thinking.reasoning == f"a{SIGN}"
    pair = received(Reply((Completion("\ud83d\ude00", (1, 2), ends=(1, 2)),), Usage()), 8).completions[0]
    assert (pair.text, pair.tokens, pair.ends) == ("\U0001f600", (1, 2), None)


# Arguments and standard input


def test_an_argument_that_is_no_utf8_is_an_input_error(tmp_path: Path) -> None:
    """Field case 10: exit 2 and a line, no traceback; of a program's own argument the surrogate is replaced."""
    (tmp_path / "free.yaml").write_text(FREE)
    (tmp_path / "four.yaml").write_text('[{match: ".", text: "4"}]')
    how = ["--search", "io", "--backend", "scripted", "--model", "four.yaml", "--task", "./free.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "treeagent", "solve", *how, "--input", b"hello\xff"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"not UTF-8" in done.stderr
    result = Agent(YamlTask(FREE), "io", backend=ScriptedBackend(lambda _: "x")).solve("hello\udcff")
    assert result.input == f"hello{SIGN}"


@pytest.mark.parametrize(
    ("stdin", "inputs"),
    [
        ("What\u2028is 3+1?\n".encode(), ["What\u2028is 3+1?"]),
        (b"\xef\xbb\xbfone\r\n  two  \rthree\n\n", ["one", "  two  ", "three"]),
        ("a\x85b\x0cc\n".encode(), ["a\x85b\x0cc"]),
    ],
)
def test_standard_input_has_an_input_a_line(stdin: bytes, inputs: list[str], tmp_path: Path) -> None:
    """A byte order mark is nothing, and lines end at line breaks only."""
    done = call("--task", str(tmp_path / "free.yaml"), "--search", "io", "--json", stdin=stdin, at=tmp_path)
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == inputs


@pytest.mark.parametrize("given", ["\ufeff4 9 10 13", "4\xa09 10 13"])
def test_marks_and_hard_blanks_do_not_spoil_an_input(given: str, tmp_path: Path) -> None:
    """Field case d."""
    done = call("--task", "game24", "--search", "io", "--json", "--input", given, at=tmp_path)
    assert json.loads(done.stdout)["input"] == "4 9 10 13"


def test_standard_input_has_a_largest_size(tmp_path: Path, monkeypatch) -> None:
    """It is refused, not read into memory."""
    monkeypatch.setattr("treeagent.cli.inputs.INPUT_BYTES", 100)
    done = call("--task", str(tmp_path / "free.yaml"), stdin=b"x" * 101, at=tmp_path)
    assert (done.exit_code, "standard input has more than" in done.stderr) == (2, True)


# Task files


def test_a_surrogate_in_a_task_file_is_replaced() -> None:
    """YAML and templates can write one as an escape; a label would go to the backend."""
    text = FREE.replace('"{{ input }}"', "\"\\ud83d {{ input }} {{ '\\\\ud83d' }}\"")
    task = YamlTask(text + 'evaluate: {labels: {"a\\ud83d": 1.0, b: 0.0}}\n')
    assert list(task.labels) == [f"a{SIGN}", "b"]
    assert task.prompt("io", "x", task.root("x"), []) == f"{SIGN} x {SIGN}"


def test_a_task_file_has_a_largest_size_and_may_begin_with_a_mark(tmp_path: Path) -> None:
    """A message instead of minutes; a byte order mark is nothing."""
    path = tmp_path / "free.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FREE.replace("\n", "\r\n").encode())
    assert Task.load(path).name == "free"
    path.write_text(FREE + "#" * yaml_text.LONGEST)
    with pytest.raises(ConfigError, match="has more than"):
        Task.load(path)


def test_a_variable_keeps_its_blanks(tmp_path: Path) -> None:
    """A text is as given; a number or a truth value may have blanks around it."""
    path = tmp_path / "own.yaml"
    path.write_text(
        FREE.replace('"{{ input }}"', '"{{ sep }}|{{ n }}|{{ flag }}"') + "variables: {sep: a, n: 1, flag: no}\n"
    )
    words = ["--var", "sep=  x ", "--var", "n= 5 ", "--var", "flag= true "]
    assert "  x |5|True\n" in CliRunner().invoke(app, ["tasks", "show", str(path), *words]).stdout
