"""What ``treeagent bench`` is going to measure: prompts, modes, their order, and what is refused before it begins."""

from __future__ import annotations

import json
import re
from collections import Counter
from fractions import Fraction

import pytest
from bench_runs import call, made
from bench_runs import folder as folder  # noqa: PLC0414  the fixture

from treeagent import Task, Thought
from treeagent.backends.bench.config.modes import MODES, NAMED, PEER, PLAIN, SERIAL
from treeagent.backends.bench.measure import order
from treeagent.backends.bench.workloads import prompts as workload
from treeagent.backends.bench.workloads import texts
from treeagent.errors import ConfigError

# Workloads


@pytest.mark.parametrize("kind", workload.KINDS)
def test_prompts_are_different_and_longer_lists_begin_like_shorter_ones(kind):
    """A seed gives its prompts again; another seed gives others."""
    many = workload.builtin_prompts(kind, 256, 5)
    assert len(set(many)) == 256
    assert many[:16] == workload.builtin_prompts(kind, 16, 5)
    assert len(set(many) & set(workload.builtin_prompts(kind, 256, 6))) < 128


def test_game24_prompts_share_all_but_their_numbers():
    """As the proposals of one search do."""
    found = workload.builtin_prompts("game24", 16, 5)
    assert all(text.startswith(texts.PROPOSE) for text in found)
    assert max(map(len, found)) - len(texts.PROPOSE) < 50


def test_mixed_takes_every_kind_in_equal_parts():
    """The kinds follow each other in turn."""
    kinds = [kind for kind in workload.KINDS if kind not in ("mixed", "mini")]
    drawn = {text: kind for kind in kinds for text in workload.builtin_prompts(kind, 4, 5)}
    assert [drawn[text] for text in workload.builtin_prompts("mixed", 4 * len(kinds), 5)] == kinds * 4


def test_worked_examples_are_right():
    """Every calculation of the instructions is correct, and every step leaves the numbers that it says."""
    for line in "".join((texts.PROPOSE, texts.VALUE, texts.SOLVE)).splitlines():
        if " = " in line:
            left, right = line.split(" (left")[0].split(" = ")
            assert eval(re.sub(r"(\d+)", r"Fraction(\1)", left), {"Fraction": Fraction}) == Fraction(right), line  # noqa: S307
    hand: Counter[str] = Counter()
    for line in texts.PROPOSE.splitlines():
        if line.startswith("Numbers: "):
            hand = Counter(line.split()[1:])
        elif found := re.fullmatch(r"(\d+) . (\d+) = (\d+) \(left: (.*)\)", line):
            a, b, result, rest = found.groups()
            assert Counter(rest.split()) == hand - Counter([a, b]) + Counter([result]), line


def test_the_bundled_model_has_prompts_that_it_was_trained_for():
    """They are those of the task, so that a benchmark needs no model from elsewhere."""
    hand = "2 5 8 11"
    known = Task.load("game24").prompt("propose", hand, Thought(0, None, "", hand, hand, 0), [])
    around = known.split(hand)
    assert all(
        text.startswith(around[0]) and text.endswith(around[1]) for text in workload.builtin_prompts("mini", 16, 5)
    )


def test_a_workload_without_prompts_left_is_an_error():
    """There are 1820 hands of four cards."""
    with pytest.raises(ConfigError, match="no 2000 different prompts"):
        workload.builtin_prompts("game24", 2000, 5)


def test_prompts_come_from_a_file_of_lines_or_of_json(tmp_path):
    """Blank lines are no prompts; JSON texts may have several lines."""
    lines, listed = tmp_path / "p.txt", tmp_path / "p.json"
    lines.write_text("one\n\n two \n")
    listed.write_text(json.dumps(["one\nand more", "two"]))
    assert workload.read_prompts(lines) == ["one", " two "]
    assert workload.read_prompts(listed) == ["one\nand more", "two"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the prompts"),
        (b"\n \n", "there are no prompts"),
        (b"\xff\xfe", "not UTF-8"),
        (b'["a", ', "is not JSON"),
        (b'["a", 3]', "no list of texts"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, said):
    """One clear line tells what is wrong with it."""
    path = tmp_path / "prompts"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        workload.read_prompts(path)
    assert str(path) in str(error.value)


# Plans


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--modes", "transformers-seriell"], "Did you mean 'transformers-serial'"),
        (["--workload", "game42"], "Did you mean 'game24'"),
        (["--modes", "transformers-assisted"], "--draft"),
        (["--baseline", "seed-model"], "--draft"),
        (["--branches", "1,x"], "whole numbers"),
        (["--branches", "0"], "from 1"),
        (["--warm-seed", "5"], "another one"),
        (["--warm-seed", "6", "--prompts", "PROMPTS"], "--prompts"),
        (["--prompts", "PROMPTS", "--branches", "9"], "has 4"),
        (["--temperature", "1", "--reference", "transformers-serial"], "noise of its own"),
        (["--top-p", "0"], "--top-p"),
        (["--plot", "picture.gif"], ".png"),
        (["--json", "/nowhere/at/all.json"], "cannot write"),
        (["--dtype", "float23"], "float32"),
        (["--model", "smolm2"], "Did you mean 'smollm2'"),
        (["--device", "gpu"], "no device"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(folder, words, said):
    """Before any model is loaded."""
    words = [str(folder / "prompts.txt") if word == "PROMPTS" else word for word in words]
    with pytest.raises(ConfigError) as error:
        call("--modes", "transformers-serial", *words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_defaults():
    """Without a draft no mode that needs one, and others on demand; serial is the baseline."""
    usual = made()
    wanted = [name for name, mode in MODES.items() if name not in NAMED and mode.family != PEER]
    assert [mode.name for mode in usual.modes] == [name for name in wanted if not MODES[name].drafts]
    assert (usual.baseline, usual.reference, usual.branches) == (SERIAL, SERIAL, (16,))
    assert [mode.name for mode in made(draft="mini-draft").modes] == wanted
    assert made(temperatures=(1.0,)).reference == PLAIN
    scaling = made(scaling=True)
    assert ([mode.name for mode in scaling.modes], scaling.branches[-1], scaling.reference) == (["seed"], 256, PLAIN)
    own = made(modes=["seed-ngram", "seed"])
    assert own.baseline == "seed-ngram"
    assert [mode.name for mode in made(modes=["seed"], baseline="seed-nodraft").modes] == ["seed-nodraft", "seed"]
    assert made(check=False).reference is None


def test_warming_prompts_are_others():
    """Tables must not have seen what is measured."""
    [warmed] = made(warm_seed=6, branches=[256]).plans
    assert len(warmed.warm) > 200
    assert not set(warmed.warm) & set(warmed.prompts)


def test_runs_alternate():
    """Each repeat begins with the next mode, and holds every mode once."""
    names = [SERIAL, PLAIN, "seed"]
    found = [(repeat, mode.name) for _, repeat, mode in order(made(modes=names, repeat=4).plans[0])]
    firsts = [found[3 * repeat][1] for repeat in range(4)]
    assert firsts == [SERIAL, PLAIN, "seed", SERIAL]
    assert Counter(found) == Counter((repeat, name) for repeat in range(4) for name in names)
