"""All measurements of a GPU as one command: its parts, its budget, what it keeps, and what the page shows of it."""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_tables
import gpu_bars
import gpu_tables
import pytest
import torch
from safetensors import SafetensorError
from test_results import table

from treeagent.backends.bench import widen
from treeagent.backends.bench.gpu.__main__ import main
from treeagent.backends.bench.gpu.passes import counted_launches, measure_passes
from treeagent.backends.bench.gpu.session import STATE, GpuSession, run_command
from treeagent.backends.bench.gpu.steps import GpuOptions, GpuStep, gpu_steps
from treeagent.backends.bench.widened import checkpoint
from treeagent.errors import ConfigError

PAGE = Path(__file__).parents[1] / "docs" / "results" / "gpu.md"

SIZES = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 32}
"""Of a shape that is somewhat larger than that of ``mini``."""


def step(name: str, code: str = "", least: float = 0.0, most: float = 20.0) -> GpuStep:
    """A measurement that runs a line of Python."""
    return GpuStep(name, f"what {name} is", (sys.executable, "-c", code), least, most)


def silent(line: str) -> None:
    """Show nothing."""


def test_every_command_is_one_that_its_program_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks are planned, the widening is parsed, and each file of the page is written by one of them."""
    (tmp_path / "widened").mkdir()
    steps = gpu_steps(GpuOptions(tmp_path))
    widened: list[Any] = []
    monkeypatch.setattr(widen, "run", lambda options: widened.append(options) or 0)
    kinds = []
    for each in steps:
        module, *words = each.command[2:]
        kinds.append(module)
        if module == "treeagent":
            grid = bench_tables.planned(words[1:])
            assert grid.settings.device == "cuda"
        elif module == "treeagent.backends.bench.widen":
            assert widen.main(words) == 0
    assert len(widened) == 1
    assert sum(each.most for each in steps) <= 600
    assert all(each.least <= each.most for each in steps)
    assert {"treeagent", "pytest", "treeagent.backends.bench.gpu"} <= set(kinds)
    written = {Path(word).name for each in steps for word in each.command if word.endswith(".json")}
    quoted = {Path(name).name for name in re.findall(r"<!-- table: (\S*/gpu\S*) -->", PAGE.read_text())}
    assert written | {STATE} == quoted


def test_what_the_time_did_not_allow_is_measured_by_the_next_call(tmp_path: Path) -> None:
    """Nothing is measured twice; what failed or was interrupted comes after what is open.

    What was interrupted at its limit gets all the time that is left.
    """
    calls: list[str] = []
    limits: dict[str, float] = {}
    answers: dict[str, int | None] = {"a": 0, "b": 1, "c": None}

    def run(of: GpuStep, seconds: float) -> tuple[int | None, str]:
        calls.append(of.name)
        limits[of.name] = seconds
        return answers[of.name], "first\nthe reason"

    steps = [step("a"), step("b"), step("c"), step("d", least=100)]
    session = GpuSession(tmp_path, steps, run)
    session.measure(50, silent)
    assert calls == ["a", "b", "c"]
    assert max(limits.values()) <= 20
    states = {name: one["state"] for name, one in json.loads((tmp_path / STATE).read_text())["steps"].items()}
    assert states == {"a": "done", "b": "failed", "c": "partial", "d": "open"}
    assert session.outcomes["b"].said.endswith("the reason")
    answers |= {"b": 0, "c": 0, "d": 0}
    again = GpuSession(tmp_path, steps, run)
    again.measure(1000, silent)
    assert calls[3:] == ["d", "b", "c"]
    assert max(limits["b"], limits["d"]) <= 20
    assert limits["c"] > 900
    assert again.whole
    again.measure(1000, silent, steps[:1], again=True)
    assert calls[6:] == ["a"]


def test_a_measurement_is_interrupted_as_by_ctrl_c(tmp_path: Path) -> None:
    """It can write what it knows; its exit code and its last words are kept."""
    file = tmp_path / "known"
    wait = "import threading\ntry: threading.Event().wait(60)\nexcept KeyboardInterrupt: "
    code = f"{wait}open({str(file)!r}, 'w').write('some')"
    assert run_command(step("slow", code), 4)[0] is None
    assert file.read_text() == "some"
    assert run_command(step("bad", "print('why'); raise SystemExit(3)"), 20) == (3, "why\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "tees"], "no measurement is called 'tees'"),
        (["--branches", "1,x"], "whole numbers"),
        (["--budget", "0"], "must be positive"),
        (["--device", "gpu"], "no device is called"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Before anything is measured."""
    assert main(["--out", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_none_of_its_own_is_named(tmp_path: Path) -> None:
    """It is not overwritten."""
    (tmp_path / STATE).write_text("[]")
    with pytest.raises(ConfigError, match=r"gpu\.json is no file of this command"):
        GpuSession(tmp_path, [step("a")])


def test_the_page_shows_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run on the CPU: passes of ``mini`` with their bounds, the state of the rest, and the tables of both."""
    report = measure_passes("mini", "float32", "cpu", rows=(1, 4))
    assert [line["rows"] for line in report["passes"]] == [1, 4]
    assert all(line["share"] > 0 for line in report["passes"])
    assert report["passes"][1]["bytes"] > report["passes"][0]["bytes"] > 4 * 1_000_000
    text = gpu_tables.markdown(report)
    assert "| 4 | " in text
    assert "`mini` in float32 on CPU" in text
    assert "(widened: a in the shape of b)" in gpu_tables.markdown(
        {**report, "widened": "widened: a in the shape of b"}
    )
    GpuSession(tmp_path, [step("a")], lambda *_: (0, "")).measure(9, silent)
    assert "| what a is | done | 0 |" in table(str(tmp_path / STATE))
    assert main(["--out", str(tmp_path), "--list"]) == 4
    assert "open     trees:" in capsys.readouterr().out
    trees = {"kind": "trees", "device": "cuda", "puzzles": ["1 2"], "same": [False], "thoughts": [9]}
    assert "| 1 2 | no | 9 | 0.25 | 1.50 |" in gpu_tables.markdown({**trees, "seconds": {"cuda": [0.25], "cpu": [1.5]}})


def test_launches_of_a_pass_are_what_a_profile_has_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the host's calls; nothing is profiled on a CPU."""
    kinds, done = torch.autograd.DeviceType, []
    events = [SimpleNamespace(device_type=kind) for kind in (kinds.CPU, kinds.CUDA, kinds.CUDA, kinds.CPU)]
    profile = nullcontext(SimpleNamespace(events=lambda: events))
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: profile)
    assert counted_launches(lambda: done.append(1), torch.device("cuda")) == 2
    assert counted_launches(lambda: done.append(2), torch.device("cpu")) is None
    assert done == [1]


def test_every_bar_has_a_line_that_is_filled(tmp_path: Path) -> None:
    """Open without files; met and not met by figures on either side of it."""
    gpu_files = {word for each in gpu_steps(GpuOptions(tmp_path)) for word in each.command if word.endswith(".json")}
    assert {f"{bar.file}.json" for bar in gpu_bars.BARS} <= {Path(word).name for word in gpu_files}
    writes = {step.name: [Path(word).stem for word in step.command] for step in gpu_steps(GpuOptions(tmp_path))}
    assert all(bar.file in writes[bar.step] for bar in gpu_bars.BARS)
    assert gpu_bars.bars(tmp_path).count(f"| {gpu_bars.OPEN} |") == len(gpu_bars.BARS)
    modes = {
        "transformers-batched": 100.0, "transformers-continuous": 120.0, "transformers-static": 150.0,
        "seed-nodraft": 200.0, "seed": 1100.0, "seed-model": 300.0, gpu_bars.BEAMS: 50.0, gpu_bars.DSBD: 80.0,
        gpu_bars.SERIAL: 90.0, gpu_bars.FCFS: 310.0,
    }  # fmt: skip
    score = {"mean": -20.0, "error": None}
    rows = [
        {"mode": mode, "tokens_per_second": pace, "overhead": 0.125, "score": score} for mode, pace in modes.items()
    ]
    cells = {"cells": [{"branches": count, "rows": rows} for count in (4, 16)]}
    lines = [
        {"rows": count, "share": 0.4, "reading_share": share} for count, share in ((1, 0.8), (16, 0.71), (64, 0.2))
    ]
    trees = {"device": "cuda", "seconds": {"cuda": [2.0, 0.25]}, "same": [True, True]}
    for name in {bar.file for bar in gpu_bars.BARS}:
        content = trees if name == "gpu-trees" else {"passes": lines} if "passes" in name else cells
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    said = gpu_bars.bars(tmp_path).splitlines()[2:]
    figures = [line.split(" | ")[-1].removesuffix(" |") for line in said]
    assert figures == [
        *["2.50: met"] * 2, *["11.00: met"] * 2, "71 %: met", "1.67: met", "1.33: not met", "2.50: met", "2.00: met",
        "1.60: met", "0.00", "0.97: not met", "3.33: met", *["12 %: not met"] * 3, "0.25: met", "100 %: met",
    ]  # fmt: skip


def test_a_widened_model_that_is_there_is_compared_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an earlier call was interrupted in the comparison; of another shape or type of numbers it is refused."""
    shape, out = tmp_path / "like.json", tmp_path / "wide"
    shape.write_text(json.dumps({**SIZES, "hidden_size": 224, "num_hidden_layers": 4, "intermediate_size": 576}))
    words = ["--model", "mini", "--like", str(shape), "--out", str(out), "--device", "cpu", "--quiet"]
    assert widen.main([*words, "--no-check"]) == 0
    weights = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert widen.main([*words, "--tokens", "8"]) == 0
    assert "the same function" in capsys.readouterr().out
    assert weights == {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert widen.main([*words, "--dtype", "float32"]) == 2
    assert "exists; give another --out" in capsys.readouterr().err

    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    assert widen.main([*words, "--out", str(tmp_path / "other")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["like.json", "wide"]


@pytest.mark.exhaustive
def test_a_dry_run_on_the_cpu_measures_everything(tmp_path: Path) -> None:
    """With ``mini``, which is widened a little."""
    shape = tmp_path / "like.json"
    shape.write_text(json.dumps({**SIZES, "hidden_size": 256, "num_hidden_layers": 5, "intermediate_size": 640}))
    words = ["--out", str(tmp_path), "--device", "cpu", "--model", "mini", "--like", str(shape), "--workload", "mini"]
    words += ["--branches", "1,2", "--max-tokens", "4", "--dtypes", "float32,bfloat16"]
    code = main([*words, "--budget", "1500"])
    steps = json.loads((tmp_path / STATE).read_text())["steps"]
    assert {name: one["said"] for name, one in steps.items() if one["state"] != "done"} == {}
    assert code == 0
    for path in tmp_path.glob("gpu*.json"):
        assert "\n| " in "\n" + table(str(path))
