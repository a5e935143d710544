"""Templates and YAML of a task file cannot hang a run, fill memory or end in a traceback, whatever they ask for."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from treeagent import ConfigError, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.taskfile import templates

resource = pytest.importorskip("resource")
PATH = Path("own.yaml")
TASK = """name: plain
description: A task with one prompt.
metadata: {version: 1}
input: {description: anything, examples: ["go"]}
depth: 1
prompts: {propose: "P {{ input }}"}
"""


def problems(text: str) -> list[tuple[int | None, str, str]]:
    """Line, key and message of every problem of a file."""
    with pytest.raises(ConfigError) as caught:
        YamlTask(text, PATH)
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


LARGE = (
    "{{ 9**(9**9) }}",
    "{{ 10**5000 }}",
    "{{ -(10**4299) * 10 }}",
    "{{ 'a' * 10**10 }}",
    "{{ [1] * 10**9 }}",
    "{{ '%s' % ((1,)*10**8,) }}",
    "{{ '%99999999d' % 1 }}",
    "{{ '%*d' % (99999999, 1) }}",
    "{{ '%.99999999f' % 1 }}",
    "{{ '{:99999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 99999999) }}",
    "{{ '%(a)999999999s'|format(a=1) }}",
    "{{ 'a'|center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a\tb'.expandtabs(10**9) }}",
    "{{ ('a'*900000).replace('a', 'b'*900000) }}",
    "{{ ('a'*900000)|replace('a', 'b'*900000) }}",
    "{{ ('x'*900000).join(['a']*90000) }}",
    "{{ (['a']*90000)|join('x'*900000) }}",
    "{{ 'aaaa'.translate({97: 'b'*900000}) }}",
    "{{ (1).to_bytes(10**9, 'big') }}",
    "{{ 1.5|round(10**8, 'ceil') }}",
    "{{ ('a\n'*400000)|indent(1000) }}",
    "{{ [1]|batch(10**8, 'x')|list }}",
    "{{ [1]|slice(10**8)|list }}",
    "{{ {'a': 1}|tojson(indent=10**9) }}",
    "{{ ('<!--a-->'*100000)|striptags }}",
    "{{ ('a'*900000)|wordwrap(1) }}",
    "{{ ([[1]]*90000)|sum(start=[]) }}",
    "{{ ['x']|map('center', 10**9)|list }}",
    "{% filter center(10**8) %}a{% endfilter %}",
    "{% set a=[1]*100 %}{% set b=[a]*100 %}{% set c=[b]*100 %}{% set d=[c]*100 %}{{ d }}",
    "{% set a=(1,) %}" + "{% set a=(a,a) %}" * 40 + "{{ a }}",
    "{% set n=namespace(s='aa') %}{% for i in range(100) %}{% set n.s=n.s+n.s %}{% endfor %}{{ n.s }}",
    "{% set n=namespace(s='aa') %}{% for i in range(100) %}{% set n.s=n.s~n.s %}{% endfor %}{{ n.s }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}{{ 'a'*1000 }}{% endfor %}",
    "{% for i in range(100000) %}" + "a" * 100 + "{% endfor %}",
    "{% set x %}{% for i in range(100000) %}" + "a" * 100 + "{% endfor %}{% endset %}{{ x }}",
    "{% set b='a'*1000000 %}{% for i in range(100000) %}{{ 1 if 'c' in b }}{% endfor %}",
    "{% set b='a'*1000000 %}{% for i in range(100000) %}{{ 1 if b[1:] }}{% endfor %}",
    "{% set b='a'*1000000 %}{% for i in range(100000) %}{{ b.count('b') }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(40) }}",
    "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ lipsum(n=1000000) }}",
    "{{ range(10**9) }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "+".join(["1"] * 3000) + " }}",
    "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "{{ " + "9" * 5000 + " }}",
    "{{ 1e999 | int }}",
    "{{ 5 | indent }}",
    "{{ cycler() }}",
    "{% include 'x' %}",
)


@pytest.mark.parametrize("source", LARGE, ids=[str(n) for n in range(len(LARGE))])
def test_a_template_that_asks_for_too_much_is_a_fault_of_its_key(source: str) -> None:
    """Within a second and 100 MiB: a problem with file, line and key, never a hang, a traceback or a full memory."""
    text = TASK.replace('"P {{ input }}"', json.dumps(source))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.thread_time()
    [(line, key, _), *_] = problems(text)
    assert time.thread_time() - began < 1.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert (line, key) == (6, "prompts.propose")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for i in range(3) %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/3 2/3 3/3 "),
        ("{% for a, b in [(1, 2)] if a < b %}{{ a ~ b }}{% else %}-{% endfor %}", "12"),
        ("{{ 'a b'.split() | map('upper') | join(', ') }}", "A, B"),
        ("{{ '%05.2f' % 3.14159 }} {{ '{:>4}'.format(7) }} {{ 'x' * 3 }}", "03.14    7 xxx"),
        ("{{ 2 ** 10 }} {{ 7 % 4 }} {{ (1, 2) + (3,) }} {{ [1, 2][1:] }}", "1024 3 (1, 2, 3) [2]"),
        ("{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(9) }}", "9876543210"),
        ("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}", "<x>"),
        ("{{ input | default('d') | replace('o', '0') | center(6) }}", "  g0  "),
        ("{% set n = namespace(k=0) %}{% for i in [1, 2] %}{% set n.k = n.k + i %}{% endfor %}{{ n.k }}", "3"),
        ("{{ {'a': 1} | tojson }} {{ 'g' in input }} {{ [3, 1] | sort }} {{ [1, 2] | sum }}", '{"a": 1} True [1, 3] 3'),
        ("{{ ''.join(range(3) | map('string')) }}{{ ','.join(['a', 'b']) }}", "012a,b"),
        ("{% for i in [[1, [2]]] recursive %}{{ i if i is number else loop(i) }}{% endfor %}", "12"),
        ("{{ range(50000) | list | length }}", "50000"),
        ("{{ 1000000 | default(2000000) }}", "1000000"),
    ],
)
def test_templates_within_the_limits_mean_what_they_meant(source: str, text: str) -> None:
    """Loops, macros, filters, methods and operators give Jinja's own results."""
    assert templates.render(source, {"input": "go"}) == text


def test_a_long_prompt_is_no_fault() -> None:
    """A thousand steps of a hundred characters, shown with a number each."""
    steps = ["x" * 100] * 1000
    text = templates.render("{% for step in steps %}{{ loop.index }}. {{ step }}\n{% endfor %}", {"steps": steps})
    assert len(text) > 100_000


# YAML

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (TASK + BOMB, "", "aliases repeat more than 20,000 values"),
        ("a: &a [*a]", "", "within its own value"),
        ("[" * 100_000, "", "nested too deeply"),
        ("{a: " * 10_000, "", "nested too deeply"),
        ("- " * 10_000, "", "nested too deeply"),
        ("[" + "1," * 100_000 + "]", "", "more than 20,000 values"),
        ("x" * 1_000_001, "", "more than 1,000,000 characters"),
        (TASK.replace("version: 1", "version: !!timestamp zz"), "metadata.version", "'zz' is no timestamp"),
        (TASK.replace("depth: 1", "depth: !!int zz"), "depth", "'zz' is no int"),
        (TASK.replace("depth: 1", "depth: !dragon 1"), "depth", "constructor for the tag '!dragon'"),
        (TASK.replace("depth: 1", "depth: " + "9" * 5000), "depth", "is no int"),
        (TASK.replace("depth: 1", "depth: !!map 1"), "depth", "does not fit"),
        (TASK.replace('["go"]', "!!set {go}"), "input.examples", "does not fit"),
    ],
)  # fmt: skip
def test_hostile_yaml_is_one_clear_error(text: str, key: str, message: str) -> None:
    """Repetition, depth, size and tags: within a second, with file, line and key."""
    began = time.thread_time()
    found = problems(text)
    assert time.thread_time() - began < 2
    assert [what for _, at, what in found if at == key and message in what], found


def test_a_task_file_without_end_is_refused(tmp_path: Path) -> None:
    """No more than a megabyte is read."""
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="it has more than 1 MiB"):
        YamlTask.load(path)


def test_a_script_of_rules_has_the_same_limits(tmp_path: Path) -> None:
    """The scripted backend reads its rules by the same reader."""
    path = tmp_path / "rules.yaml"
    path.write_text("- {match: 'a{99999999}', text: x}\n")
    with pytest.raises(ConfigError, match=r"rules\.yaml:1:0\.match: .*repeats more than"):
        ScriptedBackend.open(str(path), {})
    path.write_text("- &a [*a]")
    with pytest.raises(ConfigError, match="within its own value"):
        ScriptedBackend.open(str(path), {})
