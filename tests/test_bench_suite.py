"""``treeagent bench --suite papers``: methods, arithmetic, and real runs on ``mini``. No time is asserted.

The file of such a run is also what the renderer of the documents' tables is tried on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_tables
import pytest
import typer
from rich.console import Console
from seed_tools import fixed_costs
from typer.testing import CliRunner, Result

from treeagent.backends.bench.command import bench
from treeagent.backends.bench.config.methods import BASELINE, METHODS, NODES, OWN, Method, exits, select_methods
from treeagent.backends.bench.config.modes import PLAIN, find
from treeagent.backends.bench.config.plan import BenchGrid, BenchOptions, BenchSettings, make_grid
from treeagent.backends.bench.equality import TokenDifference
from treeagent.backends.bench.results import report
from treeagent.backends.bench.results.plot import draw
from treeagent.backends.bench.results.rows import BenchRow, Estimate, GridCell, estimate, summarise
from treeagent.backends.bench.results.runs import BenchRun, PlanResult
from treeagent.backends.bench.results.verdict import AutoVerdict, auto_verdict
from treeagent.backends.bench.runners.backend import BackendRunner
from treeagent.backends.bench.runners.base import Measurement
from treeagent.backends.bench.workloads import prompts as workload
from treeagent.backends.bench.workloads import texts
from treeagent.backends.models import catalog as models
from treeagent.backends.seed.drafters.registry import DrafterSpec, size
from treeagent.errors import BackendError, ConfigError, TreeagentError, UnknownNameError
from treeagent.request import Sampling

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(bench)


COMMON = ["--suite", "papers", "-m", "mini", "-w", "mini", "--branches", "2", "--device", "cpu", "--threads", "1"]
FEW = ["--methods", "n-gram tables,auto"]


def call(*words: str) -> Result:
    """Run ``bench --suite papers`` in this process on two prompts of ``mini``; raise an error meant for the user."""
    result = CliRunner().invoke(app, [*COMMON, "--max-tokens", "6", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module", autouse=True)
def times() -> Iterator[None]:
    """Engines do not measure this machine."""
    with fixed_costs():
        yield


# Blocksworld


def moved(text: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What lies on what after the moves of a worked example, each of which must be allowed; and what was wanted."""
    state, rest = text.split("\nGoal: ")
    goal, plan_ = rest.split("My plan is as follows:\n")
    on = dict(part.removeprefix("the ").split(" block is on the ") for part in facts(state))
    held = None
    for move in plan_.splitlines():
        words = [word for word in move.split() if word in texts.COLOURS]
        free = all(word not in {below.removesuffix(" block") for below in on.values()} for word in words[:1])
        if move.startswith(("pick up", "unstack")):
            assert held is None, move
            assert free, move
            assert on.pop(words[0]) == (f"{words[1]} block" if "unstack" in move else "table"), move
            held = words[0]
        elif move.startswith(("put down", "stack")):
            assert held == words[0], move
            below = f"{words[1]} block" if len(words) > 1 else "table"
            assert below == "table" or (words[1] in on and below not in on.values()), move
            on[held], held = below, None
        else:
            assert move == "done"
            break
    wanted = {tuple(part.removeprefix("the ").split(" block is on the ")) for part in facts(goal)}
    return set(on.items()), wanted  # type: ignore[return-value]


def facts(text: str) -> list[str]:
    """The sentences about what lies on what."""
    return text.partition(".")[0].split(", ")


def test_worked_examples_of_blocksworld_reach_their_goals_by_allowed_moves() -> None:
    """They are played."""
    examples = texts.STACK.split("State: ")[1:]
    assert len(examples) == 2
    for example in examples:
        reached, wanted = moved(example)
        assert wanted <= reached


def test_a_prompt_of_blocksworld_has_four_or_five_blocks_and_an_open_goal() -> None:
    """All sizes come up; what is wanted is never so already; free blocks are those that nothing lies on."""
    sizes = set()
    for prompt in workload.builtin_prompts("blocksworld", 60, 5):
        assert prompt.startswith(texts.STACK)
        assert prompt.endswith("My plan is as follows:\n")
        own = prompt[len(texts.STACK) + len("State: ") :]
        on, wanted = moved(own)
        assert not wanted <= on
        sizes.add(len(on))
        free = {block for block, _ in on} - {below.removesuffix(" block") for _, below in on}
        said = own.split(". ")[1].lower()
        assert {colour for colour in texts.COLOURS if f"the {colour} block" in said} == free
    assert sizes == {4, 5}


# Methods


def test_methods_are_modes_with_labels_of_their_own() -> None:
    """All names can be read, none is measured twice, and papers are named with their numbers."""
    assert len({method.label for method in METHODS}) == len({method.name for method in METHODS}) == len(METHODS)
    assert {BASELINE, OWN} <= {find(method.name).name for method in METHODS}
    assert all("arXiv" in method.source for method in METHODS if method.source)
    assert replace(METHODS[0], num_beams=4).name == f"{BASELINE}@num_beams=4"


def test_methods_of_papers_draft_equally_much() -> None:
    """Whatever the shape, so many nodes."""
    published = [find(method.name).options for method in METHODS if "draft_tokens" in find(method.name).options]
    assert len(published) == 9
    for options in published:
        assert options["draft_tokens"] == NODES
        choice = DrafterSpec.parse(options["drafter"])
        if choice.numbers:
            assert size(choice.model or "", choice.numbers)[1] == NODES


def test_methods_that_cannot_run_are_left_out(tmp_path: Path) -> None:
    """Those that draft with a model need one; S2D needs one with several exits."""
    without = [method.label for method in select_methods(None)]
    assert without == ["AR", "AR serial", "beams", "n-gram tables", "Token Recycling", "STAND", "auto"]
    everything = [method.label for method in METHODS]
    assert [method.label for method in select_methods("mini-draft")] == [
        label for label in everything if label != "S2D"
    ]
    for listed, told in (([2], ()), ([2, 4], (2, 4)), ("2, 4", ())):
        (tmp_path / "config.json").write_text(json.dumps({"exits": listed}))
        assert exits(str(tmp_path)) == told
    (tmp_path / "config.json").write_text("[")
    assert exits(str(tmp_path)) == ()


def test_some_methods_can_be_chosen_by_their_labels() -> None:
    """The baseline is always among them; an unknown label is refused, and the nearest is named."""
    assert [method.label for method in select_methods(None, ["auto", "STAND"])] == ["AR", "STAND", "auto"]
    result = call("--temperature", "0", "--methods", "auto,n-gram tables", "-q")
    assert result.exit_code == 0, result.output
    assert "│ n-gram tables " in result.stdout
    assert "│ STAND " not in result.stdout
    with pytest.raises(UnknownNameError, match="n-gram tables"):
        call("--methods", "n-gram table", "-q")
    with pytest.raises(ConfigError, match="needs --suite papers"):
        bench_tables.planned(["--methods", "auto"])
    with pytest.raises(UnknownNameError, match="papers"):
        bench_tables.planned(["--suite", "paper"])


@pytest.fixture
def sorted_draft(tmp_path: Path) -> str:
    """The draft of ``mini`` with an exit after its first layer, too, for which it was not trained."""
    [draft] = [named.where for named in models.list_models() if named.name == "mini-draft"]
    folder = Path(shutil.copytree(draft, tmp_path / "sorted"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "exits": [1, config["num_hidden_layers"]]}))
    return str(folder)


def test_with_a_draft_of_several_exits_s2d_runs_and_others_draft_through_all_layers(sorted_draft: str) -> None:
    """So no two methods are the same; what drafts as much as pays is left as it comes."""
    found = select_methods(sorted_draft)
    assert [method.label for method in found] == [method.label for method in METHODS]
    options = {method.label: find(method.name).options.get("exit") for method in found}
    assert options["S2D"] == "adaptive"
    layers = exits(sorted_draft)[-1]
    assert options["SD"] == options["SeeD fcfs"] == str(layers)
    assert [options[label] for label in ("AR", "SeeD rounds", "dynamic", "auto")] == [None] * 4
    result = call("--draft", sorted_draft, "--temperature", "1", "-q", "--methods", "S2D,SD,auto")
    assert result.exit_code == 0, result.output
    assert "│ S2D " in result.stdout
    assert "not run" not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--modes", "seed"], "leave out --modes"),
        (["--scaling", "--baseline", "seed"], "--baseline and --scaling"),
        (["--prompts", "p.txt"], "--prompts"),
        (["--workload", "mini,gsm9k"], "Did you mean 'gsm8k'"),
        (["--workload", ","], "names no kind"),
        (["--temperature", "0,hot"], "such as 0 or 0,0.2,1"),
        (["--temperature", "-1"], "expected numbers from 0"),
        (["--temperature", "nan"], "expected numbers from 0"),
        (["--warm-seed", "6", "--repeat", "2"], "another one"),
        (["--reference", "transformers-serial", "--temperature", "0,1"], "noise of its own"),
        (["--plot", "picture.gif"], ".png"),
        (["--model", "smolm2"], "Did you mean 'smollm2'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(words: list[str], said: str) -> None:
    """Before any model is loaded."""
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        call(*words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_usual_cells_are_the_papers() -> None:
    """Three kinds of task at three temperatures, each repeat with other prompts."""
    grid = bench_tables.planned(["--suite", "papers", "-m", "mini", "--repeat", "2", "--branches", "4"])
    assert [(plan.workload, plan.sampling.temperature, plan.seed, plan.repeats) for plan in grid.plans] == [
        (kind, temperature, 5 + repeat, (repeat,))
        for kind in ("gsm8k", "writing", "blocksworld")
        for temperature in (0, 0.2, 1)
        for repeat in (0, 1)
    ]
    assert (grid.baseline, grid.reference) == (BASELINE, PLAIN)
    assert not set(grid.plans[0].prompts) & set(grid.plans[1].prompts)


def test_a_grid_of_modes_may_have_several_workloads_and_temperatures() -> None:
    """With the same prompts in every repeat and one reference for all cells."""
    words = ["-m", "mini", "--workload", "mini,value", "--temperature", "0,1", "--branches", "2,4", "--repeat", "2"]
    grid = bench_tables.planned(words)
    assert [(plan.workload, plan.sampling.temperature) for plan in grid.plans] == [
        ("mini", 0), ("mini", 1), ("value", 0), ("value", 1),
    ]  # fmt: skip
    assert {(plan.branches, plan.repeats, plan.reference) for plan in grid.plans} == {((2, 4), (0, 1), PLAIN)}


# Arithmetic, on given seconds

REFERENCE = ((1, 2), (3, 4))
THREE = (Method("AR", BASELINE, ""), Method("tables", "seed-ngram", ""), Method("auto", OWN, ""))


def made(repeats: int = 1) -> BenchGrid:
    """A grid of three methods in one cell."""
    settings = BenchSettings(model="mini", device="cpu")
    labels = ("n-gram tables", "auto")
    options = BenchOptions(
        settings=settings, workloads=("mini",), temperatures=(0.0,), branches=(2,), sampling=Sampling(max_tokens=8),
        suite="papers", methods=labels, repeat=repeats,
    )  # fmt: skip
    return replace(make_grid(options), methods=THREE)


def result(
    grid: BenchGrid,
    repeat: int,
    *seconds: float | None,
    figures: dict[str, Any] | None = None,
    reference: tuple[tuple[int, ...], ...] = REFERENCE,
    failure: str | None = None,
) -> PlanResult:
    """A repeat in which the methods took so long; None failed."""
    runs = [
        BenchRun(mode, 2, repeat, None, "no memory")
        if took is None
        else BenchRun(mode, 2, repeat, Measurement(REFERENCE, took, figures or {}))
        for mode, took in zip(grid.modes, seconds, strict=False)
    ]
    return PlanResult(grid.plans[repeat], tuple(runs), reference, failure)


def rows_of(grid: BenchGrid, *results: PlanResult) -> tuple[BenchRow, ...]:
    """The rows of the one cell."""
    [cell] = summarise(grid, results)
    return cell.rows


def test_an_estimate_is_a_mean_with_its_standard_error() -> None:
    """The standard deviation over the root of how many there are."""
    found = estimate([1.0, 2.0, 3.0, 6.0])
    assert found is not None
    assert found.mean == 3.0
    assert found.error == pytest.approx((14 / 3) ** 0.5 / 2)
    assert estimate([2.5]) == Estimate(2.5, None)
    assert estimate([]) is None


def test_repeats_on_different_prompts_become_one_row() -> None:
    """Speed-ups are medians of ratios within a repeat, with Student's interval; drafted tokens are added up."""
    figures = [
        {"block_efficiency": efficiency, "drafted": drafted, "accepted": 10, "mbsu": 1.5, "kv_peak_bytes": peak}
        for efficiency, drafted, peak in ((1.0, 10, 7), (2.0, 20, 9), (3.0, 30, 8))
    ]
    grid = made(repeats=3)
    results = [result(grid, i, 4.0 * scale, 2.0, 4.0, figures=figures[i]) for i, scale in enumerate((1, 2, 1.5))]
    base, tables, own = rows_of(grid, *results)
    assert (base.speedup, base.ratios) == (1.0, (1.0, 1.0, 1.0))
    assert (tables.speedup, tables.ratios, tables.tokens_per_second) == (3.0, (2.0, 4.0, 3.0), 2.0)
    assert tables.interval is not None
    assert tables.interval[0] < 3 < tables.interval[1]
    assert tables.block_efficiency == Estimate(2.0, 1 / 3**0.5)
    assert (tables.accepted, tables.mbsu, tables.kv_peak_bytes) == (0.5, 1.5, 9)
    assert (tables.equal, tables.compared, tables.exact, tables.repeats) == (6, 6, True, 3)
    assert own.speedup == 1.5
    assert rows_of(grid, *results[:2])[1].interval is None


def test_a_difference_names_its_repeat() -> None:
    """One wrong token in the second repeat; the table says how many are equal and that they must be."""
    grid = made(repeats=2)
    results = [result(grid, 0, 1.0, 1.0, 1.0), result(grid, 1, 1.0, 1.0, 1.0, reference=((1, 2), (3, 9)))]
    [cell] = summarise(grid, results)
    row = cell.rows[1]
    assert (row.equal, row.compared, row.wrong) == (3, 4, True)
    assert (row.difference, row.difference_repeat) == (TokenDifference(1, 1, 9, 4), 1)
    remarks = report.remarks(grid, [cell], cpu=False)
    assert any(line.startswith("tables: differs from the reference and must not: repeat 2, p") for line in remarks)
    console = Console(width=300)
    with console.capture() as taken:
        console.print(report.table(grid, [cell]))
    assert taken.get().count("3/4 DIFFERS") == 3


def test_failures_leave_the_other_repeats_and_methods() -> None:
    """A method that failed once keeps its other ratio; a repeat without any run is said for all."""
    grid = made(repeats=2)
    base, tables, own = rows_of(grid, result(grid, 0, 2.0, None, 1.0), result(grid, 1, 2.0, 1.0, 1.0))
    assert (tables.ratios, tables.speedup, tables.error, tables.repeats) == ((None, 2.0), 2.0, "no memory", 1)
    assert (base.error, own.error) == (None, None)
    assert auto_verdict([base, tables, own]) == AutoVerdict("tables", 1.0, None)
    nothing = rows_of(grid, result(grid, 0, failure="too long"))
    assert [(row.repeats, row.error) for row in nothing] == [(0, "too long")] * 3
    assert auto_verdict(nothing) is None
    assert rows_of(grid, result(grid, 0, 2.0))[1:] == ()  # interrupted after the first


def line(mode: str, *ratios: float) -> BenchRow:
    """A row with these ratios."""
    middle = sorted(ratios)[len(ratios) // 2]
    return BenchRow(mode, mode, 2, len(ratios), 1.0, 4, 1.0, middle, None, ratios)


@pytest.mark.parametrize(
    ("own", "best", "ratio", "said"),
    [
        ((1.95,), (2.0,), 0.975, "within 5 %"),
        ((1.8,), (2.0,), 0.9, "more than 5 % slower"),
        ((2.2,), (2.0,), 1.1, "as fast"),
        ((1.8, 1.8, 1.8), (2.0, 2.0, 2.0), 0.9, "more than 5 % slower"),
        ((1.4, 2.4, 1.8), (2.0, 2.0, 2.0), 0.9, "the interval reaches 1"),
    ],
)
def test_auto_is_held_against_the_fastest_other_method(
    own: tuple[float, ...], best: tuple[float, ...], ratio: float, said: str
) -> None:
    """In the same repeat; 5 %, or an interval that reaches 1."""
    found = auto_verdict([line(BASELINE, *[1.0] * len(own)), line("seed-ngram", *best), line(OWN, *own)])
    assert found is not None
    assert (found.best, found.said) == ("seed-ngram", said)
    assert found.ratio == pytest.approx(ratio)
    assert found.near == ("slower" not in said)
    assert report.auto(found).endswith(f"fixed configuration, seed-ngram: {said}")


def test_beams_are_other_work_than_what_auto_does() -> None:
    """However fast they are, ``auto`` is not held against them."""
    beams = replace(line("seed-ngram@num_beams=4", 9.0), beams=True)
    found = auto_verdict([line(BASELINE, 1.0), beams, line("seed-model", 2.0), line(OWN, 2.0)])
    assert found is not None
    assert found.best == "seed-model"


# Real runs


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, dict[str, Any], Path]:
    """All methods that ``mini`` allows, at two temperatures, three repeats: what was printed, the file, the folder."""
    folder = tmp_path_factory.mktemp("seeds")
    words = ["--draft", "mini-draft", "--temperature", "0,1", "--repeat", "3"]
    result = call(*words, "--json", str(folder / "seeds.json"), "--plot", str(folder / "seeds.png"))
    return result, json.loads((folder / "seeds.json").read_text()), folder


@pytest.mark.exhaustive
def test_all_methods_run_and_give_the_tokens_that_they_should(measured: tuple[Result, dict[str, Any], Path]) -> None:
    """Coupled ones at every temperature the reference's, all of them at temperature 0."""
    result, found, _ = measured
    assert result.exit_code == 0, result.output
    assert [(cell["workload"], cell["temperature"]) for cell in found["cells"]] == [("mini", 0.0), ("mini", 1.0)]
    for cell in found["cells"]:
        assert [each["label"] for each in cell["rows"]] == [method.label for method in select_methods("mini-draft")]
        for each in cell["rows"]:
            free = each["beams"] or (cell["temperature"] > 0 and "verify=recursive" in each["mode"])
            assert (each["equal"], each["exact"]) == ((None, False) if free else (6, True)), each["label"]
            assert each["repeats"] == len(each["ratios"]) == 3
            assert each["block_efficiency"]["error"] >= 0
            assert each["interval"][0] <= each["interval"][1]


@pytest.mark.exhaustive
def test_the_file_holds_every_run(measured: tuple[Result, dict[str, Any], Path]) -> None:
    """Settings, machine, methods, and for each cell its runs with seeds of their own."""
    _, found, folder = measured
    assert found["settings"]["reference"] == {"mode": PLAIN, "dtype": "float32"}
    assert found["settings"]["baseline"] == BASELINE
    assert found["machine"]["threads"] == 1
    count = len(select_methods("mini-draft"))
    for cell in found["cells"]:
        assert [run["seed"] - run["repeat"] for run in cell["runs"]] == [5] * 3 * count
        firsts = [run["mode"] for run in cell["runs"][::count]]
        assert len(set(firsts)) == 3
        assert len({run["digest"] for run in cell["runs"] if run["mode"] == BASELINE}) == 3  # other prompts each time
        assert cell["auto"]["best"] in {each["label"] for each in found["methods"]}
    drafted = {
        each["mode"]: each["block_efficiency"]["mean"]
        for each in found["cells"][1]["rows"]
        if "draft_tok" in each["mode"]
    }
    assert len(drafted) == 8
    assert all(mean > 1 for mean in drafted.values())
    assert (folder / "seeds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.exhaustive
def test_a_table_for_each_cell_is_printed_with_what_it_means(measured: tuple[Result, dict[str, Any], Path]) -> None:
    """Labels, intervals, standard errors, the verdict on ``auto``, papers, and what could not run."""
    result, _, _ = measured
    for said in (
        "mini, greedy: 2 prompts at once (seeds 5 to 7)", "mini, temperature 1: 2 prompts", "│ SeeD fcfs", "± 0.",
        "sampled, own noise", "6/6", "arXiv 2406.18200", "several exits: S2D", "KV peak", "MBSU",
    ):  # fmt: skip
        assert said in result.stdout
    assert result.stdout.count("of the best fixed configuration") == 2
    steps = 2 * 3 * (len(select_methods("mini-draft")) + 1)
    assert f"[{steps}/{steps}]" in result.stderr


@pytest.mark.exhaustive
def test_the_documents_table_is_made_from_the_file(measured: tuple[Result, dict[str, Any], Path]) -> None:
    """A heading, a line for every method of each cell, and their papers at the end."""
    _, found, _ = measured
    text = bench_tables.markdown(found)
    count = len(found["methods"])
    assert text.count("\n| AR | ") == 3
    assert sum(row.startswith("| ") for row in text.splitlines()) == 3 * (count + 2)
    assert "**`mini`, temperature 1**\n\n| method | tokens/s | speed-up | block efficiency |" in text
    assert text.count("`auto` has ") == 2
    assert "2 prompts at once (seeds 5 to 7, one a run); at most 6 new tokens each." in text
    first = found["cells"][0]["rows"][2]
    low, high = first["interval"]
    assert f"| SD | {first['tokens_per_second']:,.1f} | {first['speedup']:.2f} ({low:.2f} - {high:.2f}) |" in text
    first["error"], first["speedup"] = "no\nmemory", None
    first["difference"], first["difference_repeat"] = {"prompt": 1, "position": 2, "gap": 0.5}, 1
    spoiled = bench_tables.markdown(found)
    assert "| failed |" in spoiled
    assert "SD failed: no memory" in spoiled
    assert "SD differs first in repeat 2, prompt 1, token 2 (gap 0.5)." in spoiled


@pytest.mark.exhaustive
def test_models_are_loaded_once_for_all_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each method's runner is made once, and the reference's; without a draft there are five."""
    opened: list[str] = []
    real = BackendRunner.open

    def noted(self: BackendRunner) -> None:
        if self._backend is None:
            opened.append(self._mode.name)
        real(self)

    monkeypatch.setattr(BackendRunner, "open", noted)
    result = call("--temperature", "0,0.5", "--repeat", "2", "-q", "--top-k", "40", "--warm-seed", "9")
    assert result.exit_code == 0, result.output
    assert sorted(opened) == sorted([PLAIN, *(method.name for method in select_methods(None))])
    for said in ("without --draft: SD, ", "at most 6 new tokens each, top-k 40", "warmed by prompts of seed 9"):
        assert said in result.stdout


def test_modes_may_be_loaded_anew_for_every_run() -> None:
    """Where not all of them fit into memory."""
    result = call("--reopen", "--temperature", "1", "-q")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("2/2") == sum(method.num_beams is None for method in select_methods(None))


def failing(monkeypatch: pytest.MonkeyPatch, mode: str, error: BaseException, after: int) -> None:
    """Let a mode's runs beyond the first ``after`` fail."""
    real, done = BackendRunner.run, [0]

    def run(self: BackendRunner, *words: Any) -> Measurement:
        if self._mode.name == mode:
            done[0] += 1
            if done[0] > after:
                raise error
        return real(self, *words)

    monkeypatch.setattr(BackendRunner, "run", run)


def test_the_other_methods_run_after_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every cell; the exit code is 3."""
    failing(monkeypatch, "seed-ngram", BackendError("out of memory"), 0)
    result = call("--temperature", "0,1", "-q", *FEW)
    assert result.exit_code == 3
    assert result.stdout.count("n-gram tables: out of memory") == 2
    assert result.stdout.count("of the best fixed configuration, ") == 2


def test_the_other_cells_run_after_a_reference_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its methods are said to have failed; where nothing at all could run the error is raised."""
    failing(monkeypatch, PLAIN, BackendError("no room"), 1)
    result = call("--temperature", "0,1", "-q", *FEW)
    assert result.exit_code == 3
    assert result.stdout.count(": no room") == 3
    assert result.stdout.count("of the best fixed configuration") == 1
    failing(monkeypatch, PLAIN, BackendError("no room"), 0)
    with pytest.raises(TreeagentError, match="no room"):
        call("--temperature", "0", "-q", *FEW)


def test_what_was_measured_before_ctrl_c_is_shown_and_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first cell whole, the second as far as it came, the third not at all."""
    failing(monkeypatch, "seed-ngram", KeyboardInterrupt(), 2)  # its warming up and one run
    path, picture = tmp_path / "seeds.json", tmp_path / "seeds.svg"
    words = [*COMMON, *FEW, "--max-tokens", "4", "-q"]
    result = CliRunner().invoke(app, [*words, "--temperature", "0,0.5,1", "--json", str(path), "--plot", str(picture)])
    assert result.exit_code != 0
    cells = json.loads(path.read_text())["cells"]
    assert [len(cell["rows"]) for cell in cells] == [3, 1]
    assert "mini, temperature 0.5" in result.stdout
    assert "mini, temperature 1:" not in result.stdout
    assert picture.stat().st_size > 1000


def test_a_picture_has_room_for_what_is_missing(tmp_path: Path) -> None:
    """A method without a speed has no bar."""
    grid = made()
    rows = (replace(line(BASELINE, 1.0), label="AR"), replace(line(OWN, 1.0), label="auto", speedup=None))
    draw(grid, [GridCell("mini", 0.0, 2, (), rows)], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
