"""Faulty task files: each fault is one clear error with file, line and key, and nothing leaves the sandbox."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from synthetic import TASK
from task_faults import PATH, Loud, faults

from treeagent import ConfigError, Task, UnknownNameError, YamlTask


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


# One fault each

FAULTS = [
    # old, new, key, message
    ("description: Find", "descripton: Find", "descripton", "unknown key. Did you mean 'description'?"),
    ("description: Find", "descripton: Find", "description", "this key is missing"),
    ("  propose:", "  propse:", "prompts.propse", "unknown key. Did you mean 'propose'?"),
    ("  terminal:", "  teminal:", "thought.teminal", "unknown key. Did you mean 'terminal'?"),
    ("  value: {n: 1}", "  valu: {n: 1}", "sampling.valu", "unknown key. Did you mean 'value'?"),
    (
        "  value: {n: 1}",
        "  value: {temprature: 1}",
        "sampling.value.temprature",
        "unknown key. Did you mean 'temperature'?",
    ),
    ("  value: {n: 1}", "  value: {n: 0}", "sampling.value.n", "greater than or equal to 1 (got 0)"),
    (
        "  value: {n: 1}",
        "  value: {temperature: -1}",
        "sampling.value.temperature",
        "greater than or equal to 0 (got -1)",
    ),
    ("  value: {n: 1}", "  value: {temperature: .nan}", "sampling.value.temperature", "finite number"),
    ("  value: {n: 1}", "  value: {top_p: 1.5}", "sampling.value.top_p", "less than or equal to 1"),
    ("  value: {n: 1}", '  value: {stop: [""]}', "sampling.value.stop.0", "at least 1 character"),
    ("  value: {n: 1}", "  value: {n: 1}\n  value: {n: 2}", "sampling.value", "given twice; first on line"),
    ("depth: 9", "depth: nine", "depth", "valid integer (got 'nine')"),
    ("depth: 9", 'depth: "9"', "depth", "valid integer (got '9')"),
    ("depth: 9", "depth: 0", "depth", "greater than or equal to 1"),
    ("depth: 9", "depth: yes", "depth", "valid integer (got True)"),
    ("depth: 9", "depth: 9\ndepth: 8", "depth", "given twice; first on line"),
    ("name: synthetic", "name: two words", "name", "match"),
    ("metadata: {version: 1}", "metadata: {}", "metadata.version", "missing"),
    ("metadata: {version: 1}", "metadata: 7", "metadata", "(got 7)"),
    ('examples: ["r"]', "examples: []", "input.examples", "at least 1 item"),
    ('examples: ["r"]', 'examples: ["r", "x"]', "input.examples.1", "'x' is not an input of synthetic"),
    ("'r[a-z]*'", "'r[a-z*'", "input.pattern", "not a regular expression"),
    ("'(?P<name>r[a-z]+)(?: end)?'", "'(?P<name>r'", "thought.pattern", "not a regular expression"),
    ("'^answer (?P<answer>\\S+)$'", "'^answer (?P<answer'", "answer.pattern", "not a regular expression"),
    ("v0: 0, ", '"": 0, ', "evaluate.labels.", "at least 1 character"),
    ("v0: 0, ", "v0: .inf, ", "evaluate.labels.v0", "finite number"),
    ("v0: 0, ", "v0: bad, ", "evaluate.labels.v0", "valid number (got 'bad')"),
    ('state: "{{ name }}"', 'state: "{{ nmae }}"', "thought.state", "unknown variable 'nmae'. Did you mean 'name'?"),
    ("name.startswith(parent)", "nme.startswith(parent)", "thought.legal", "unknown variable 'nme'"),
    ("name.startswith(parent)", "name.startswith(parent", "thought.legal", "not a valid expression"),
    ("name.startswith(parent)", "name }} {{ name", "thought.legal", "not a valid expression"),
    ("text.endswith(' end')", "text is wibble", "thought.terminal", "wibble"),
    ("value of {{ state }}", "value of {{ stat }}", "prompts.value", "unknown variable 'stat'. Did you mean 'state'?"),
    ("value of {{ state }}", "value of {{ state", "prompts.value", "not a valid template"),
    ("value of {{ state }}", "value of {{ state | wibble }}", "prompts.value", "wibble"),
    ("value of {{ state }}", "value of {{ choices }}", "prompts.value", "unknown variable 'choices'"),
    ("value of {{ state }}", "value of {{ state.nothing }}", "prompts.value", "undefined"),
    ("value of {{ state }}", "value of {{ state.__class__ }}", "prompts.value", "unsafe"),
    ("value of {{ state }}", "value of {{ 1 / 0 }}", "prompts.value", "ZeroDivisionError"),
    ("value of {{ state }}", "value of {{ range(10 ** 9) | list }}", "prompts.value", "OverflowError"),
    ("depth: 9", "depth: 9\nvariables: {state: 1}", "variables.state", "taken by a built-in field"),
    ("depth: 9", "depth: 9\nchecker: game25", "checker", "no checker is called 'game25'. Did you mean 'game24'?"),
    ("depth: 9", "depth: 9\nthought: {separator: ''}", "thought", "given twice"),
    ('terminal: "', 'separator: ""\n  terminal: "', "thought.separator", "at least 1 character"),
]


@pytest.mark.parametrize(("old", "new", "key", "message"), FAULTS, ids=[f"{k}-{n[:24]}" for _, n, k, _ in FAULTS])
def test_a_fault_is_reported_with_file_line_and_key(old: str, new: str, key: str, message: str) -> None:
    """Each fault names its place and what is wrong, with the nearest valid name where there is one."""
    assert old in TASK
    text = TASK.replace(old, new)
    found = faults(text)
    matching = [fault for fault in found if fault[1] == key]
    assert matching, found
    assert any(message in fault[2] for fault in matching), matching
    if message != "this key is missing":
        at = next(line for line, fault_key, _ in found if fault_key == key)
        last = key.rstrip(".").rsplit(".", 1)[-1]
        if not last.isdigit() and "given twice" not in message and "missing" not in message:
            assert last in text.splitlines()[at - 1]  # type: ignore[operator]


def test_all_faults_are_reported_at_once() -> None:
    """Schema, regular expressions, templates, variables and checker: one error lists everything, by line."""
    text = TASK
    for old, new in [
        ("depth: 9", "depth: many\nchecker: game25\nfoo: 1"),
        ("'r[a-z]*'", "'r[a-z*'"),
        ("value of {{ state }}", "value of {{ stat }}"),
        ("io of {{ input }}", "io of {{ input"),
        ("  value: {n: 1}", "  value: {n: 1, m: 2}"),
        ("v0: 0, ", "v0: 0, v0: 1, "),
        ('state: "{{ name }}"', 'state: "{{ nmae }}"'),
    ]:
        assert old in text
        text = text.replace(old, new)
    found = faults(text.replace("depth: many", "depth: 9\ndepth: 9"))
    expected = ["checker", "depth", "evaluate.labels.v0", "foo", "input.pattern", "prompts.io", "prompts.value",
                "sampling.value.m", "thought.state"]  # fmt: skip
    assert sorted(key for _, key, _ in found) == expected
    lines = [line for line, _, _ in found]
    assert lines == sorted(lines)
    assert {"depth", "foo", "input.pattern"} <= {key for _, key, _ in faults(text)}


def test_faults_in_block_scalars_have_their_own_line() -> None:
    """The line is that of the fault within the text, not of the key."""
    text = TASK.replace(
        '  value: "value of {{ state }}\\n"', "  value: |\n    one\n    two {{ stat }}\n    three {{ wrong }}"
    )
    lines = [(line, key) for line, key, _ in faults(text)]
    assert lines == [(line_of(text, "stat }"), "prompts.value"), (line_of(text, "wrong"), "prompts.value")]


def test_a_bad_pattern_causes_no_false_alarm() -> None:
    """The groups of a pattern that cannot be read are not called unknown."""
    assert [key for _, key, _ in faults(TASK.replace("'(?P<name>r[a-z]+)(?: end)?'", "'(?P<name>r'"))] == [
        "thought.pattern"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "~",
        "just text",
        "- a\n- b",
        "name: [unclosed",
        "name: 'unclosed",
        "\tname: x",
        "name: x\n name: y",
        "a: &a [*a]",
        "a: *nowhere",
        "name: 2024-99-99",
        "? [a, b]\n: c",
        "1: 2\ntrue: 3\nnull: 4",
        "name: x\n---\nname: y",
        "name: !!python/object/apply:os.system ['true']",
        "\x00",
        "name: \x07",
        "<<: 3",
        "[" * 5000,
    ],
)
def test_what_is_no_task_file_is_one_clear_error(text: str) -> None:
    """Malformed YAML of any kind is a ConfigError that names the file, and runs nothing."""
    with pytest.raises(ConfigError, match=r"own\.yaml"):
        YamlTask(text, PATH)


def test_a_task_without_a_way_to_think_is_refused() -> None:
    """One of propose, sample, io and cot is needed."""
    text = re.sub(r"(?m)^  (propose|sample|io|cot): .*\n", "", TASK)
    assert [(key, "propose, sample, io, cot" in message) for _, key, message in faults(text)] == [("prompts", True)]


# Loading


def test_unknown_tasks_suggest_the_nearest() -> None:
    """The nearest registered name, and that a path will do."""
    with pytest.raises(UnknownNameError, match=r"Did you mean 'game24'.*YAML file"):
        Task.load("game42")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_an_unreadable_file_is_a_clear_error(content: bytes | None, tmp_path: Path) -> None:
    """Not there, not text, a folder."""
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_bytes(content)
    for given in (path, str(path), tmp_path):
        with pytest.raises(ConfigError, match="task file"):
            Task.load(given)


# Safety


@pytest.mark.parametrize(
    "escape",
    [
        "''.__class__.__mro__[1].__subclasses__()",
        "''['__class__']",
        "(''|attr('__class__')).__mro__",
        "self.__init__.__globals__",
        "cycler.__init__.__globals__.os",
        "lipsum.__globals__['os'].popen('id').read()",
        "joiner.__init__.__globals__",
        "steps.append('x')",
        "'{0.__class__}'.format(1)",
        "'%s'.format_map({})['__class__']",
        "namespace.__init__.__globals__",
        "range.__class__",
    ],
)
def test_templates_cannot_leave_the_sandbox(escape: str) -> None:
    """Attribute escapes and changing what is passed in fail, in prompts at once and in thoughts as unparsed steps."""
    with pytest.raises(ConfigError) as caught:
        YamlTask(
            TASK.replace("value of {{ state }}", f"value of {{{{ {escape} }}}}").replace('\\n"\n  vote', '"\n  vote'),
            PATH,
        )
    assert all(problem.key == "prompts.value" for problem in caught.value.problems)
    quiet = TASK.replace('legal: "name.startswith(parent)"', f"legal: >-\n    {escape}")
    try:
        sneaky = YamlTask(quiet)
    except ConfigError:
        return
    assert [piece.fault for piece in sneaky.read_thoughts("propose", "ra", "r", sneaky.root("r"), [])] == ["unparsed"]


def test_code_from_a_file_needs_permission() -> None:
    """``package.module:Class`` is refused unless the user allows code; a registered checker needs no permission."""
    text = TASK.replace("depth: 9", "depth: 9\nchecker: task_faults:Loud")
    Loud.made = 0
    assert [(key, "--allow-code" in message) for _, key, message in faults(text)] == [("checker", True)]
    assert Loud.made == 0
    YamlTask(text, PATH, allow_code=True)
    assert Loud.made == 1
    for wrong in (f"{__name__}:Nothing", "no.such.module:X", "json:JSONDecoder", ":X"):
        [(_, key, _)] = faults(TASK.replace("depth: 9", f"depth: 9\nchecker: {wrong!r}"), allow_code=True)
        assert key == "checker"
