"""Time limits hold inside Python: patterns, templates and YAML of users and tasks cannot hang a run or fill memory."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from treeagent import Agent, Budget, ConfigError, InputError, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.patterns import Deadline, Pattern, PatternLimitError

PATH = Path("own.yaml")
TASK = r"""
name: slow
description: A pattern that can be matched in many ways.
metadata: {version: 1}
input: {description: anything, examples: ["go"]}
depth: 1
thought: {pattern: '(\w|\w\w)+\?[.!]'}
prompts: {propose: "P {{ input }}", value: "V {{ state }}", io: "I {{ input }}"}
"""
TWENTY = TASK.replace("propose:", "sample:") + "sampling: {sample: {n: 20}}\n"
"""Twenty completions at once."""
HOSTILE = "a" * 60 + "? b!"
"""Exponential for the pattern of TASK."""


def problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(ConfigError) as caught:
        YamlTask(text, PATH)
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


# Patterns


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a second for a text: what is shown does not depend on how long the limit is."""
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.2,))


@pytest.mark.usefixtures("short_limit")
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"(\w+\s?)+\.", "first we add the two numbers that are left and then we look at what comes out of it"),
        (r"(\w|\w\w)+\?[.!]", HOSTILE),
        (r"(a|a)*b\d", "a" * 40 + "b"),
        (r"(x+x+)+[yz]", "x" * 5_000),
        (r"\s*\s*\s*[xy]", " " * 50_000),
        (r".*.*.*.*[xy]", "a" * 50_000),
        (r"(?s)(?:.|\n)*[zy]", "a\n" * 400_000),
    ],
)
def test_no_match_takes_longer_than_its_limit(source: str, text: str) -> None:
    """Every kind of backtracking ends; what cannot be decided in time is said, not guessed."""
    began = time.process_time()
    with suppress(PatternLimitError):
        assert Pattern(source).fullmatch(text) is None
    assert time.process_time() - began < 1


@pytest.mark.usefixtures("short_limit")
def test_a_text_of_many_pieces_has_one_limit() -> None:
    """A thousand hostile pieces in one completion take about as long as one, and every piece is accounted for."""
    task = YamlTask(TASK, PATH)
    began = time.process_time()
    steps = task.read_thoughts("propose", f"{HOSTILE}\n" * 1000, "go", task.root("go"), [])
    assert time.process_time() - began < 3
    assert [step.fault for step in steps] == ["unparsed"] * 1000
    assert "takes longer than 1 s" in str(steps[0].reason)


def test_a_text_that_is_too_long_is_unparsed() -> None:
    """A million characters are matched, more are not."""
    assert Pattern("a*").fullmatch("a" * 1_000_000) == {}
    with pytest.raises(PatternLimitError, match="at most 1,000,000"):
        Pattern("a*").fullmatch("a" * 1_000_001)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a{99999999999}", "repetition number is too large"),
        ("a{99999999}", "repeats more than"),
        ("(?:[ab]{1000}){1000}", "repeats more than"),
        ("(" * 5000 + ")" * 5000, "nested too deeply"),
        ("a" * 20_000, "at most 10,000 characters"),
        ("(?P<x>a", "unterminated"),
        (r"\p{L}", "bad escape"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_a_problem_of_its_key(source: str, message: str) -> None:
    """What Python refuses, and what a compiler would need gigabytes for, is one line with file, line and key."""
    [(line, key, what)] = problems(TASK.replace(r"(\w|\w\w)+\?[.!]", source))
    assert (line, key) == (7, "thought.pattern")
    assert message in what


ATOMS = ("a", "b", r"\w", r"\W", r"\d", r"\s", ".", "[ab]", "[^a]", "(a)", "(?:b|a)", "(a|ab)", r"\b", r"\B", "^", "$",
         "(?=a)", "(?<!b)", "(?P<answer>b+)", r"\Z", "(?i:A)", "{e<=1}", "[[:alpha:]]", r"[\s-]", "{", "a&&b",
         )  # fmt: skip
QUANTIFIERS = ("", "", "", "*", "+", "?", "{2}", "*?", "{1,2}")


@settings(max_examples=120, deadline=None)
@example([(r"\w", ""), (r"\b", "")], "\u00b2")
@example([(r"\B", "")], "")
@example([(r"\B", "")], "a\u00b2")
@given(
    st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(QUANTIFIERS)), min_size=1, max_size=5),
    st.text("aab1 \nB{e<=}:]\u0301\u00b2\x1c", max_size=8),
)
def test_patterns_mean_what_they_mean_in_python(parts: list[tuple[str, str]], text: str) -> None:
    """Whole matches, searches and the last group agree with the standard library's ``re``."""
    source = "".join(atom + quantifier for atom, quantifier in parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of set operations to come
            standard = re.compile(source)
    except re.error:
        return
    whole, all_of_it = standard.fullmatch(text), list(standard.finditer(text))
    last = (all_of_it[-1].groupdict().get("answer") or all_of_it[-1][0]) if all_of_it else None
    pattern = Pattern(source)
    assert pattern.fullmatch(text) == (None if whole is None else whole.groupdict())
    assert pattern.last(text, "answer") == last
    assert pattern.search(text) == bool(all_of_it)


@pytest.mark.usefixtures("short_limit")
def test_hostile_inputs_and_answers_end_too() -> None:
    """``input.pattern`` refuses in words, ``answer.pattern`` reads nothing."""
    text = TASK.replace('examples: ["go"]}', "examples: [\"go\"], pattern: '(go|o|g|a|aa)+[!?]*'}")
    task = YamlTask(text + "answer: {pattern: '(\\w|\\w\\w)+\\?[.!]'}\n", PATH)
    with pytest.raises(InputError, match=r"input\.pattern: the pattern .* takes longer"):
        task.read_input("a" * 60 + ".")
    assert task.read_answer(HOSTILE) is None


# In a search


def test_a_search_with_a_limit_of_seconds_ends_in_time() -> None:
    """Twenty completions of fifty hostile lines: ``seconds`` ends the search, and the event loop stays awake."""
    beats: list[float] = []

    async def search() -> Any:
        loop = asyncio.get_running_loop()

        def beat() -> None:
            beats.append(time.monotonic())
            loop.call_later(0.05, beat)

        beat()
        backend = ScriptedBackend(lambda request: f"{HOSTILE}\n" * 50)
        task = YamlTask(TWENTY, PATH)
        return await Agent(task, "bfs", backend=backend, budget=Budget(seconds=1.0)).asolve("go")

    result = asyncio.run(search())
    assert result.ended == "seconds"
    assert beats[-1] - beats[0] < 3
    assert max(later - earlier for earlier, later in pairwise(beats)) < 1


def test_the_patterns_of_a_script_do_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """A rule that takes its whole second is matched beside the loop, and the limit of seconds ends the search."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("- {match: '(\\w|\\w\\w)+\\?[.!]', text: a}\n")
    task = YamlTask(TASK.replace("I {{ input }}", HOSTILE), PATH)
    agent = Agent(task, "io", backend="scripted", model=str(rules), budget=Budget(seconds=0.2))
    began = time.monotonic()
    assert agent.solve("go").ended == "seconds"
    assert time.monotonic() - began < 0.9  # the pattern's own limit is a second


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_first_ctrl_c_ends_a_hostile_search_with_its_best_attempt(tmp_path: Path) -> None:
    """The command stops at once, prints what it has, and does not wait for the match."""
    (tmp_path / "slow.yaml").write_text(TWENTY)
    (tmp_path / "rules.yaml").write_text(f'- {{match: "^P", text: "{HOSTILE}"}}\n')
    words = ["solve", "--task", "slow.yaml", "--backend", "scripted", "--model", "rules.yaml", "--search", "bfs"]
    with subprocess.Popen(
        [sys.executable, "-m", "treeagent", *words],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "1 calls" in line:  # the search has begun, and the first match runs
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "No solution found." in out


def test_the_reason_of_a_dropped_step_is_shown(tmp_path: Path) -> None:
    """A step that a limit drops is counted as unparsed, and the reason stands on standard error and in the journal."""
    (tmp_path / "slow.yaml").write_text(TASK)
    (tmp_path / "rules.yaml").write_text(f'- {{match: "^P", text: "{HOSTILE}"}}\n')
    words = ["solve", "--task", "slow.yaml", "--backend", "scripted", "--model", "rules.yaml", "--max-seconds", "20"]
    done = subprocess.run(
        [sys.executable, "-m", "treeagent", *words, "--search", "bfs", "--journal", "run.jsonl"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "1 unparsed" in done.stdout
    assert "A step could not be read: the pattern" in done.stderr
    assert '"reason":' in (tmp_path / "run.jsonl").read_text().replace('"reason": ', '"reason":')


def test_thoughts_have_the_same_numbers_whether_a_completion_is_slow_or_not() -> None:
    """Slow completions are read in the order of their parents, as fast ones are."""

    def tree(delay: str) -> list[tuple[int, str]]:
        text = TASK.replace(r"(\w|\w\w)+\?[.!]", r"(?:[a-z]|(\w|\w\w)+\?[.!])").replace("depth: 1", "depth: 2")
        lines = "a\nb"
        backend = ScriptedBackend(lambda request: f"{lines}\n{delay}" if request.prompt.startswith("P") else "sure")
        result = Agent(YamlTask(text, PATH), "bfs", backend=backend).solve("go")
        return [(thought.id, thought.text) for thought in result.tree]

    slow = "a" * 29 + "? b!"  # less than half a second, more than the loop waits for
    assert tree(slow) == tree("%")


def test_a_character_beyond_unicode_is_a_fault_of_the_file() -> None:
    """PyYAML raises OverflowError for it."""
    [(_, _, message)] = problems(TASK.replace('"go"', r'"\UFFFFFFFF"'))
    assert message.startswith("not valid YAML")


def test_a_deadline_is_used_up_once() -> None:
    """After its time nothing more begins."""
    deadline = Deadline(0.0)
    with pytest.raises(PatternLimitError), deadline:
        pass


def test_prompts_that_take_long_do_not_add_up() -> None:
    """Thirty branches whose prompts take a third of a second each: ``seconds`` ends the search between two of them."""
    slow = "{% for i in range(100000) %}{% set x = i %}{% endfor %}"
    text = TASK.replace(r"(\w|\w\w)+\?[.!]", ".*").replace("V {{ state }}", f"{slow} {{{{ state }}}}")
    lines = "\n".join(f"step {n}" for n in range(30))
    backend = ScriptedBackend(lambda request: lines if request.prompt.startswith("P") else "sure")
    agent = Agent(YamlTask(text, PATH), "bfs", backend=backend, budget=Budget(seconds=0.5))
    began = time.process_time()
    assert agent.solve("go").ended == "seconds"
    assert time.process_time() - began < 3
