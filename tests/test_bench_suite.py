"""``treeagent bench --suite papers``: real runs on ``mini``, their file and their tables. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench_tables
import pytest
from suite_runs import COMMON, FEW, app, call
from suite_runs import times as times  # noqa: PLC0414  the fixture
from typer.testing import CliRunner, Result

from treeagent.backends.bench.config.methods import BASELINE, select_methods
from treeagent.backends.bench.config.modes import PLAIN
from treeagent.backends.bench.runners.backend import BackendRunner
from treeagent.backends.bench.runners.base import Measurement
from treeagent.errors import BackendError, TreeagentError


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
