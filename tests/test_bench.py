"""``treeagent bench``: its workloads, its arithmetic, and every mode on a tiny real model. No time is asserted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import typer
from rich.console import Console
from tiny_model import save_tiny_model
from typer.testing import CliRunner

from treeagent import Task, Thought
from treeagent.backends.bench import measure
from treeagent.backends.bench.command import bench
from treeagent.backends.bench.config.modes import MODES, NAMED, PEER, PLAIN, SERIAL
from treeagent.backends.bench.config.plan import BenchOptions, BenchSettings, make_grid
from treeagent.backends.bench.equality import TokenDifference, first_difference
from treeagent.backends.bench.measure import order
from treeagent.backends.bench.results import report
from treeagent.backends.bench.results.rows import Estimate, summarise
from treeagent.backends.bench.results.runs import BenchRun, PlanResult
from treeagent.backends.bench.runners import generate as generating
from treeagent.backends.bench.runners.backend import HopelessDrafter, backend_runner
from treeagent.backends.bench.runners.base import Measurement
from treeagent.backends.bench.workloads import prompts as workload
from treeagent.backends.bench.workloads import texts
from treeagent.backends.seed.executor.weights import WeightCache
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.display.board import StepBoard
from treeagent.errors import ConfigError, TreeagentError, UnknownNameError
from treeagent.request import Sampling

PROMPTS = ["24", "Numbers: 4 5 6 steps", "a longer prompt, so that rows are padded: abc abc", "xyz xyz xyz"]
TRANSFORMERS = [name for name in MODES if name.startswith("transformers-")]
SEEDS = [name for name in MODES if name.startswith("seed")]

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(bench)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a draft that is like it, and prompts."""
    there = tmp_path_factory.mktemp("bench")
    save_tiny_model(there / "model", eos_bias=1.0)
    save_tiny_model(there / "draft", seed=1, eos_bias=1.0)
    (there / "prompts.txt").write_text("\n".join(PROMPTS))
    return there


def call(*words):
    """Run the command in this process; an error meant for the user is raised."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(folder, *words, modes, tokens=12):
    """Run modes on the tiny model."""
    common = ["--model", str(folder / "model"), "--prompts", str(folder / "prompts.txt"), "--max-tokens", str(tokens)]
    return call(*common, "--modes", ",".join(modes), "--threads", "1", *words)


def made(**changes):
    """A grid with defaults."""
    fields = BenchSettings.__dataclass_fields__
    settings = {"model": "mini", "device": "cpu", **{name: changes.pop(name) for name in [*changes] if name in fields}}
    common = {"sampling": Sampling(max_tokens=8), **changes}
    return make_grid(BenchOptions(settings=BenchSettings(**settings), **common))


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


# Arithmetic, on given seconds


REFERENCE = ((1, 2), (3, 4))


def fake(name, seconds, outputs=REFERENCE, branches=2, repeat=0, figures=None):
    """A run that took so long."""
    return BenchRun(MODES[name], branches, repeat, Measurement(tuple(outputs), seconds, figures or {}))


def cells_of(grid, runs, reference=REFERENCE):
    """The cells of a grid of one plan."""
    return summarise(grid, [PlanResult(grid.plans[0], tuple(runs), reference)])


def rows_of(grid, runs, reference=REFERENCE):
    """The rows of all cells."""
    return [row for cell in cells_of(grid, runs, reference) for row in cell.rows]


def shown(grid, runs, reference=REFERENCE):
    """The table, and the remarks on a CPU."""
    cells = cells_of(grid, runs, reference)
    return text_of(report.table(grid, cells)), report.remarks(grid, cells, cpu=True)


def test_speed_ups_are_medians_of_ratios_within_a_repeat():
    """A slow minute of the machine that strikes both modes changes nothing."""
    grid = made(modes=[SERIAL, "seed"], repeat=3)
    runs = [fake(SERIAL, seconds, branches=16, repeat=i) for i, seconds in enumerate((4.0, 8.0, 6.0))]
    runs += [fake("seed", seconds, branches=16, repeat=i) for i, seconds in enumerate((2.0, 2.0, 2.0))]
    serial, seed = rows_of(grid, runs)
    assert (serial.seconds, serial.tokens_per_second, serial.speedup) == (6.0, pytest.approx(4 / 6), 1.0)
    assert seed.ratios == (2.0, 4.0, 3.0)
    assert seed.speedup == 3.0
    assert seed.interval is not None
    assert seed.interval[0] < 3 < seed.interval[1]
    assert seed.interval[0] * seed.interval[1] == pytest.approx(24 ** (2 / 3))  # symmetric about the geometric mean
    [_, alone] = rows_of(made(modes=[SERIAL, "seed"]), [run for run in runs if run.repeat == 0])
    assert alone.interval is None


def test_modes_with_fewer_tokens_are_not_faster_for_it():
    """Speed is tokens per second: whose texts end early has less to do."""
    runs = [fake(SERIAL, 4.0, branches=16), fake("seed", 2.0, [(1,), (3,)], branches=16)]
    assert rows_of(made(modes=[SERIAL, "seed"]), runs, None)[1].speedup == 1.0


def test_equality_is_that_of_the_worst_repeat():
    """One differing repeat is a difference; where it is exact, a wrong one."""
    changes = {"modes": ["seed"], "branches": [2], "repeat": 2}
    runs = [fake("seed", 1.0), fake("seed", 1.0, [(1, 2), (3, 5)], repeat=1)]
    [row] = rows_of(made(**changes), runs)
    assert (row.equal, row.compared, row.wrong) == (1, 2, True)
    assert (row.difference, row.difference_repeat) == (TokenDifference(1, 1, 4, 5), 1)
    [coarse] = rows_of(made(**changes, dtype="bfloat16"), runs)
    assert (coarse.equal, coarse.wrong) == (1, False)
    [unchecked] = rows_of(made(**changes), runs, None)
    assert (unchecked.equal, unchecked.wrong) == (None, False)


def test_own_noise_is_not_compared():
    """Above temperature 0 transformers draws tokens of its own, keyed backends the reference's."""
    grid = made(modes=[SERIAL, "seed"], branches=[2], temperatures=(1.0,), baseline=SERIAL)
    runs = [fake(name, 1.0, [(9, 9), (9, 9)]) for name in (SERIAL, "seed")]
    serial, seed = rows_of(grid, runs)
    assert (serial.equal, serial.wrong, seed.equal, seed.wrong) == (None, False, 0, True)
    table, _ = shown(grid, runs)
    assert "own noise" in table
    assert "0/2 DIFFERS" in table


def text_of(table):
    """What a table looks like."""
    console = Console(width=300)
    with console.capture() as taken:
        console.print(table)
    return taken.get()


def test_figures_of_the_engine_have_columns_where_there_are_any():
    """Acceptance, overhead and memory of the median run; a mode without them shows a dash."""
    figures = {"block_efficiency": 2.5, "drafted": 40, "accepted": 30, "overhead": 0.125, "kv_peak_bytes": 3 * 2**20}
    grid = made(modes=[SERIAL, "seed"], branches=[2])
    assert "KV peak" not in shown(grid, [fake(SERIAL, 1.0)])[0]
    runs = [fake(SERIAL, 1.0), fake("seed", 1.0, figures=figures)]
    assert rows_of(grid, runs)[1].block_efficiency == Estimate(2.5, None)
    line = next(line for line in shown(grid, runs)[0].splitlines() if "│ seed " in line)
    assert [cell.strip() for cell in line.split("│")[-5:-1]] == ["2.50", "75 %", "12.5 %", "3.0 MiB"]


def test_scaling_is_the_factor_for_twice_as_many_branches():
    """Time per token of 4 branches against 1 is two doublings."""
    grid = made(scaling=True, branches=[1, 4])
    runs = [fake("seed", 1.0, [(1, 2)], branches=1), fake("seed", 1.0, [(1, 2)] * 4, branches=4)]
    assert [row.per_doubling for row in rows_of(grid, runs, None)] == [None, pytest.approx(0.5)]
    assert "0.50x" in shown(grid, runs, None)[0]


def test_failures_are_reported():
    """Other modes keep their rows."""
    grid = made(modes=[SERIAL, "seed"], branches=[2])
    runs = [fake(SERIAL, 1.0), BenchRun(MODES["seed"], 2, 0, None, "seed: no memory")]
    table, remarks = shown(grid, runs)
    assert "failed" in table
    assert remarks == ["seed: no memory"]
    assert rows_of(grid, runs)[0].speedup == 1.0


def test_equality_without_outputs_is_reported():
    """Empty texts are equal, which shows nothing."""
    grid, runs = made(modes=[SERIAL], branches=[2]), [fake(SERIAL, 1.0, [(), ()])]
    [row] = rows_of(grid, runs, ((), ()))
    assert (row.equal, row.tokens_per_second, row.speedup) == (2, None, None)
    assert shown(grid, runs, ((), ()))[1][0].startswith("no mode generated any token")


def test_runs_that_were_delayed_are_reported():
    """Where the process had no core for a good part of a run; on a GPU nothing follows from that."""
    grid = made(modes=[SERIAL], branches=[2], repeat=2)
    measured = [Measurement(REFERENCE, 2.0, cpu_seconds=cpu) for cpu in (0.5, 3.9)]
    cells = cells_of(grid, [BenchRun(MODES[SERIAL], 2, i, each) for i, each in enumerate(measured)])
    assert cells[0].rows[0].disturbed == 1
    assert report.remarks(grid, cells, cpu=False) == []
    assert report.remarks(grid, cells, cpu=True)[0].startswith("1 of 2 runs were held up")


def test_differences_have_a_place():
    """The first prompt and position that differ; a text that ends early differs at its end."""
    assert first_difference([(1, 2), (3, 4)], [(1, 2), (3, 4)]) is None
    assert first_difference([(1, 2), (3, 4)], [(1, 2), (7, 4)]) == TokenDifference(1, 0, 3, 7)
    assert first_difference([(1, 2)], [(1,)]) == TokenDifference(0, 1, 2, None)
    assert "the end of the text" in str(TokenDifference(0, 1, 2, None, 1e-6))


def test_texts_are_cut_at_their_end():
    """What follows an end-of-text token is padding."""
    assert generating.cut([5, 6, 0, 7, 0], frozenset({0, 9})) == (5, 6)
    assert generating.cut([5, 6], frozenset()) == (5, 6)


# Real runs


@pytest.fixture(scope="module")
def measured(folder):
    """Every mode of transformers and the plain backend, in float64; what was printed, and the file."""
    out = folder / "out.json"
    result = run(
        folder, "--draft", str(folder / "draft"), "--dtype", "float64", "--repeat", "2", "--branches", "1,4", "--json",
        str(out), "--plot", str(folder / "out.png"), modes=[*TRANSFORMERS, PLAIN],
    )  # fmt: skip
    return result, json.loads(out.read_text())


def test_all_ways_to_decode_give_the_same_tokens(measured):
    """Serial, batched, by lookup, assisted, continuous and the plain backend, with texts that end early."""
    result, found = measured
    assert result.exit_code == 0, result.output
    rows = [row for cell in found["cells"] for row in cell["rows"]]
    assert {row["mode"] for row in rows} == {*TRANSFORMERS, PLAIN}
    assert all(row["equal"] == row["compared"] == row["branches"] and row["exact"] for row in rows)
    assert {run["digest"] for run in found["cells"][1]["runs"]} == {*found["cells"][1]["references"]}
    assert rows[-1]["tokens"] < 4 * 12


def test_the_file_holds_everything(measured, folder):
    """Machine, workload, settings, medians, and every run's seconds."""
    _, found = measured
    assert found["machine"]["threads"] == 1
    assert found["machine"]["torch"]
    assert found["settings"]["branches"] == [cell["branches"] for cell in found["cells"]] == [1, 4]
    assert found["settings"]["dtype"] == "float64"
    assert found["settings"]["reference"]["mode"] == found["settings"]["baseline"] == SERIAL
    for cell in found["cells"]:
        assert len(cell["runs"]) == 2 * 7
        for row in cell["rows"]:
            own = [run["seconds"] for run in cell["runs"] if run["mode"] == row["mode"]]
            assert row["seconds"] == pytest.approx(sum(own) / 2)
            assert len(row["ratios"]) == 2
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_and_the_progress_can_be_read(measured):
    """Every mode in full on standard output, every step on standard error."""
    result, _ = measured
    for mode in (*TRANSFORMERS, PLAIN):
        assert mode in result.stdout
    assert "4/4" in result.stdout
    assert "[1/28] transformers-serial, 1 branches, repeat 1 of 2 ..." in result.stderr
    assert "tokens/s" in result.stderr


def test_samples_are_held_against_the_keyed_backend(folder):
    """At a positive temperature transformers' own modes draw their own noise, and everything else is the same."""
    words = ["--temperature", "1", "--top-k", "20", "--top-p", "0.9", "-q", "--reopen"]
    result = run(folder, *words, modes=[PLAIN, SERIAL, "transformers-batched"])
    assert result.exit_code == 0, result.output
    assert "4/4" in result.stdout
    assert result.stdout.count("own noise") == 2
    assert result.stderr == ""


def test_a_rounded_type_is_reported_and_is_no_error(folder):
    """In bfloat16 the reference is still that of float32, made untimed."""
    result = run(folder, "--dtype", "bfloat16", modes=["transformers-batched"], tokens=6)
    assert result.exit_code == 0, result.output
    assert "reference, untimed: transformers-serial in float32" in result.stderr
    assert re.search(r"\d/4 │", result.stdout)


def test_a_wrong_token_is_found(folder, monkeypatch):
    """The mode is marked, the first difference is printed with its gap, and the exit code is 1."""
    real = generating.GenerateRunner._batched

    def spoiled(*arguments):
        rows = real(*arguments)
        if len(rows) > 1:
            rows[2][1] += 1
        return rows

    monkeypatch.setattr(generating.GenerateRunner, "_batched", spoiled)
    result = run(folder, "-q", modes=[SERIAL, "transformers-batched"])
    assert result.exit_code == 1
    assert "3/4 DIFFERS" in result.stdout
    assert re.search(r"prompt 2, position 1: expected token \d+, got token \d+; .* lie [\d.e-]+ apart", result.stdout)


def test_the_other_modes_run_after_one_fails(folder, tmp_path, monkeypatch):
    """Its row says so, the reason follows the table, and the exit code is 3."""

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(generating.GenerateRunner, "_batched", broken)
    result = run(folder, "-q", modes=[SERIAL, "transformers-batched"])
    assert result.exit_code == 3
    assert "transformers-batched failed: RuntimeError: out of memory" in result.stdout
    assert "4/4" in result.stdout
    with pytest.raises(TreeagentError, match="out of memory"):
        run(folder, "-q", "--no-check", modes=["transformers-batched"])


def test_what_was_measured_before_ctrl_c_is_shown(folder, monkeypatch):
    """The table has the modes that were done."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generating.GenerateRunner, "_batched", interrupted)
    common = ["--model", str(folder / "model"), "--prompts", str(folder / "prompts.txt"), "--max-tokens", "4"]
    result = CliRunner().invoke(app, [*common, "-q", "--modes", f"{SERIAL},transformers-batched"])
    assert result.exit_code != 0
    assert SERIAL in result.stdout
    assert "│ transformers-batched" not in result.stdout


def test_prompts_that_do_not_fit_are_refused(folder):
    """Modes would end their texts in different places."""
    with pytest.raises(ConfigError, match="--max-tokens"):
        run(folder, "-q", modes=[SERIAL], tokens=250)


def test_help_needs_no_torch():
    """Importing the command is light."""
    heavy = ("torch", "transformers", "rich.table", "matplotlib", "numpy")
    code = f"import sys, treeagent.backends.bench.command; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_progress_on_a_terminal_leaves_nothing_behind():
    """A bar while a step runs, lines that stay beside it."""
    console = Console(force_terminal=True, width=80, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    board = StepBoard(console, steps=1)
    with board.step("a step", 2) as step:
        step.advance()
    board.say("done")
    console.file.close()


# The engine, first a stand-in that writes down what it is asked


class Engine(TransformersBackend):
    """The plain backend with the engine's extra methods."""

    log: list = []  # noqa: RUF012  # one for all, as tests read it

    def __init__(self, model, *, draft=None, drafter="auto", policy="rounds", shelf, **common):
        assert isinstance(shelf, WeightCache)
        super().__init__(model, **common)
        self.log.append(("open", drafter, policy, draft is not None))
        self.live = self.most = 0

    def reset(self, tables=True):
        """Nothing is kept; it is only written down."""
        self.log.append(("reset", tables))

    def meter(self):
        """Made-up figures."""
        return lambda: {"block_efficiency": 1.5, "overhead": 0.25}

    async def generate(self, request):
        """With a count of the requests that are open."""
        self.live += 1
        self.most = max(self.most, self.live)
        self.log.append(("ask", request.key.seed, self.live))
        try:
            return await super().generate(request)
        finally:
            self.live -= 1


@pytest.fixture
def engine(monkeypatch):
    """The stand-in in the engine's place."""
    module = types.ModuleType("treeagent.backends.seed.backend")
    module.SeedBackend = Engine
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Engine, "log", [])
    return Engine


def test_the_engine_starts_cold_with_warm_tables_if_so_wished(folder, engine, monkeypatch):
    """Everything is forgotten, tables learn from prompts of another seed, and the forest is forgotten again."""
    monkeypatch.setattr(workload, "builtin_prompts", lambda kind, n, seed: [f"{seed} {i}" for i in range(n)])
    words = ["--model", str(folder / "model"), "--branches", "2", "--warm-seed", "6", "--max-tokens", "4", "-q"]
    result = call(*words, "--modes", "seed-ngram,seed-nodraft", "--draft", str(folder / "draft"), "--no-check")
    assert result.exit_code == 0, result.output
    assert engine.log[0] == ("open", "ngram", "rounds", False)
    kinds = [entry[:2] for entry in engine.log[1:]]
    warm_up = [("reset", True), ("ask", 5)]
    timed = [("reset", True), ("ask", 6), ("ask", 6), ("reset", False), ("ask", 5), ("ask", 5)]
    assert kinds == [*warm_up, *timed, ("open", "none"), *warm_up, *timed]
    assert "25.0 %" in result.stdout


def test_modes_of_the_engine_open_it_as_they_say(folder, engine):
    """Policies, drafters, and the draft where it is used."""
    grid = made(model=str(folder / "model"), draft=str(folder / "draft"))
    for name in SEEDS:
        backend_runner(MODES[name], grid.settings, "float32", WeightCache()).open()
    opened = {name: entry[1:] for name, entry in zip(SEEDS, engine.log, strict=True)}
    assert opened == {
        "seed": ("auto", "rounds", True),
        "seed-nodraft": ("none", "rounds", False),
        "seed-ngram": ("ngram", "rounds", False),
        "seed-model": ("model", "rounds", True),
        "seed-ngram+model": ("ngram+model", "rounds", True),
        "seed-hopeless": (HopelessDrafter, "rounds", False),
        "seed-fcfs": ("auto", "fcfs", True),
        "seed-serial": ("auto", "serial", True),
        "seed-serial-nodraft": ("none", "serial", False),
    }


@pytest.mark.parametrize(("words", "most"), [(["--sequential"], 1), ([], 4)])
def test_prompts_are_sent_at_once_or_one_at_a_time(folder, engine, words, most):
    """One at a time is a single live branch; the forest is forgotten before the first only."""
    result = run(folder, "-q", *words, modes=["seed", "transformers-continuous"], tokens=4)
    assert result.exit_code == 0, result.output
    asked = [entry for entry in engine.log if entry[0] == "ask"][1:]
    assert max(entry[2] for entry in asked) == most
    assert [entry[0] for entry in engine.log].count("reset") == 2
    assert result.stdout.count("4/4") == 2


def test_a_backend_that_reads_another_prompt_is_refused(folder, engine, monkeypatch):
    """Its speed would be that of another workload."""
    monkeypatch.setattr(
        measure, "load_tokenizer", lambda where, chat: types.SimpleNamespace(prompt=lambda text: [1, 2, 3])
    )
    result = run(folder, "-q", modes=[SERIAL, "seed"], tokens=4)
    assert result.exit_code == 3
    assert "the tokenizer makes 3 of it" in result.stdout


def test_unknown_modes_name_their_kind():
    """The error is the one for names."""
    with pytest.raises(UnknownNameError, match="no mode is called 'sed'"):
        made(modes=["sed"])


# The engine itself


@pytest.mark.sampled(2)
@pytest.mark.parametrize("temperature", ["0.8", "0"])
def test_the_engine_gives_the_same_tokens(folder, temperature):
    """All policies and drafters, greedy and sampled, in float64."""
    pytest.importorskip("treeagent.backends.seed.backend")
    words = ["--temperature", temperature, "--dtype", "float64", "--draft", str(folder / "draft"), "-q"]
    result = run(folder, *words, modes=[PLAIN, *SEEDS])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("4/4") == 1 + len(SEEDS)


def test_the_engine_scales(folder, tmp_path):
    """``--scaling`` shows one mode with ever more branches, and draws it."""
    pytest.importorskip("treeagent.backends.seed.backend")
    picture = Path(tmp_path / "scaling.svg")
    words = ["--scaling", "--plot", str(picture), "--model", str(folder / "model"), "-q", "--max-tokens", "8"]
    result = call(*words, "--prompts", str(folder / "prompts.txt"))
    assert result.exit_code == 0, result.output
    assert "per doubling" in result.stdout
    assert picture.stat().st_size > 1000
