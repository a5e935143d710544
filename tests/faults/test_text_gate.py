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

from treeagent import Agent, Completion, ConfigError, Evaluator, InputError, Judgement, Reply, Task, Usage, YamlTask
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


# Blanks


def test_code_keeps_its_indentation() -> None:
    """Field case 4: the input's blanks and the steps' reach prompt, state and answer."""
    yaml = FREE.replace("depth: 2", 'depth: 2\nsampling: {sample: {n: 1, stop: ["\\n"]}}').replace(
        '  propose: "P {{ state }}\\n"\n', ""
    )
    head = "def f(x):\n    '''Two  spaces.'''"
    backend = ScriptedBackend(["    if x:", "        return 1  "])
    result = Agent(YamlTask(yaml), "greedy", backend=backend, evaluator=Same()).solve(f"\n{head}\r\n")
    assert backend.requests[0].prompt == f"Problem: {head}\n"
    assert backend.requests[1].prompt == f"Problem: {head}\n    if x:\n"
    assert result.path == ("    if x:", "        return 1  ")
    assert result.answer == "    if x:\n        return 1  "
    assert result.tree[2].state == f"{head}\n    if x:\n        return 1  "


def test_the_printed_path_keeps_its_indentation(tmp_path: Path) -> None:
    """What a person reads is the code as well."""
    words = ("--task", str(tmp_path / "free.yaml"), "--search", "io", "--input", "go")
    printed = call(*words, rules=r'[{match: ".", text: "    if x:\n        return 1"}]', at=tmp_path).stdout
    assert "1.     if x:\n             return 1" in printed


@pytest.mark.parametrize(
    ("separator", "completion", "steps"),
    [
        ("\n", " a\r\n\r\n  b \rc\n", [" a", "  b ", "c"]),
        ("\n\n", "a\r\n b\r\n\r\nc\n\nd", ["a\r\n b", "c", "d"]),
        ("###", "\n a\nb \n###\r\n\r\n### c", [" a\nb ", " c"]),
        ("\n", "x\u2028y\x0cz", ["x\u2028y\x0cz"]),
        ("\n", " \n\t\n", []),
    ],
)
def test_lists_are_split_at_every_kind_of_line_break(separator: str, completion: str, steps: list[str]) -> None:
    """A separator with a line break stands for all three; pieces lose their outer line breaks only."""
    task = YamlTask(FREE + f"thought: {{separator: {json.dumps(separator)}}}\n")
    root = task.root("hello")
    assert [step.text for step in task.read_thoughts("propose", completion, "hello", root, [])] == steps
    assert [step.text for step in task.read_thoughts("sample", completion, "hello", root, [])] == steps[:1]


@pytest.mark.parametrize(
    ("pattern", "piece", "text", "fault"),
    [
        (r"\d+", "  12 ", "12", None),
        (r"\s*(?P<text>\d+)\s*", "  12 ", "12", None),
        (r"(?P<text> *\d+) *", "  12 ", "  12", None),
        (r".*\d+.*", "  12 ", "  12 ", None),
        (r"\d+", " x ", " x ", "unparsed"),
    ],
)
def test_a_pattern_says_which_blanks_belong_to_a_step(pattern: str, piece: str, text: str, fault: str | None) -> None:
    """A piece that matches without its blanks is the step without them; a group ``text`` is the step."""
    task = YamlTask(FREE + f"thought: {{pattern: '{pattern}'}}\n")
    (step,) = task.read_thoughts("propose", piece, "hello", task.root("hello"), [])
    assert (step.text, step.fault) == (text, fault)


@pytest.mark.parametrize(
    ("more", "given", "read"),
    [
        ("", "  a  b\t\n", "  a  b\t"),
        ("", "\r\n\na\r\n  b\n", "a\r\n  b"),
        ("", "\ufeffa", "a"),
        ("", "a\u2028b", "a\u2028b"),
        ("normalise: \"{{ input.split() | join(' ') }}\", ", "\xa0 a \xa0\tb ", "a b"),
        ("pattern: '[ab]( [ab])*', ", " a \xa0 b ", "a b"),
        ("pattern: '[ab ]+', ", " a  b ", " a  b "),
    ],
)
def test_inputs_keep_their_blanks_unless_the_task_says_otherwise(more: str, given: str, read: str) -> None:
    """Outer line breaks and a byte order mark go; the rest is for ``normalise`` and ``pattern``."""
    examples = 'examples: ["a"]' if more else 'examples: ["hello"]'
    task = YamlTask(FREE.replace('examples: ["hello"]', more + examples))
    result = Agent(task, "io", backend=ScriptedBackend(lambda _: "x")).solve(given)
    assert result.input == read
    assert task.read_input(read) == read


@pytest.mark.parametrize("given", ["", " ", "\n\r\n", "\t \n", "\ufeff", "\xa0"])
def test_a_blank_input_is_none(given: str) -> None:
    """It is refused as before."""
    with pytest.raises(InputError, match="empty"):
        Agent(YamlTask(FREE), "io", backend=ScriptedBackend(lambda _: "x")).solve(given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("game24", "4  9\t10 13 "),
        ("game24", "\n 4\xa09 10 13\r\n"),
        ("blocksworld", " a is  on the table.\tb is on the table. The hand is empty.  Goal:  a is on\xa0b. "),
        ("blocksworld", "a is on the table\r\nb is on the table\r\nThe hand is empty\r\nGoal: a is on b"),
        ("prontoqa", "Every gorp is a  tandle. Pia is a gorp.\xa0True or  false: Pia is a tandle."),
        ("creative_writing", " One is here.  Two is here.\nThree is here. Four is here. "),
        ("crosswords", " a |  b | c | d | e | f | g | h | i |\tj k  l "),
        ("gsm8k", " How  many\nare 2 and 2?\xa0"),
    ],
)
def test_shipped_tasks_take_blanks_as_they_did(name: str, given: str) -> None:
    """Runs of blanks, tabs, non-breaking blanks and line breaks around an input make no other input of it."""
    task = Task.load(name)
    read = task.read_input(given)
    assert "  " not in read
    assert "\xa0" not in read
    assert read == read.strip()
    assert task.read_input(read) == read


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("game24", "4 + 9 = 13 (left: 10 13 13)"),
        ("blocksworld", "unstack c from a"),
        ("prontoqa", "Every gorp is a tandle. Pia is a tandle."),
        ("crosswords", "h1. ACHES"),
        ("gsm8k", "How many tulips are there? 4 * 6 = 24"),
        ("creative_writing", "1. A plan"),
    ],
)
def test_shipped_tasks_read_steps_as_they_did(name: str, step: str) -> None:
    """Blanks around a step are not the step's."""
    task = Task.load(name)
    input = task.read_input(task.examples[0])
    root = task.root(input)
    role = "propose" if task.has("propose") else "sample"
    (plain,) = task.read_thoughts(role, step, input, root, [])
    assert (plain.text, plain.fault) == (step, None)
    for around in (f"  {step} ", f"\t{step}\r\n", f"\n \n {step}\n\n"):
        assert task.read_thoughts(role, around, input, root, []) == [plain]


def test_votes_count_answers_that_differ_in_outer_blanks_as_one() -> None:
    """Without ``answer.same`` too."""
    backend = ScriptedBackend([" 4", "5", "4\n", "5", "4 "])
    task = YamlTask(FREE.replace('  io: "{{ input }}"', '  cot: "{{ input }}"'))
    assert Agent(task, "cot-sc", backend=backend, options={"k": 5}).solve("2 + 2").answer.strip() == "4"


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
    monkeypatch.setattr("treeagent.cli.arguments.INPUT_BYTES", 100)
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
    path.write_text(FREE + "#" * gate.TASK_BYTES)
    with pytest.raises(ConfigError, match="has more than"):
        Task.load(path)
