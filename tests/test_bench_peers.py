"""Other engines as modes of the benchmark: the process of a peer, its protocol, and modes in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bench_tables
import gguf
import numpy as np
import pytest
from safetensors.torch import load_file
from tiny_model import save_tiny_model

from treeagent.backends.bench.peers import gguf_file, worker
from treeagent.backends.bench.results import record, report
from treeagent.backends.bench.runners import peer as running
from treeagent.backends.bench.suite import GridMeasurement
from treeagent.backends.models import catalog
from treeagent.errors import ConfigError, TreeagentError, UnknownNameError

FAKE = """
from pathlib import Path
import json

class FakePeer:
    version = "fake 1"

    def __init__(self, job):
        if job["dtype"] == "int8":
            raise ValueError("no such numbers here")
        self._resets = 0
        self._job = job
        print("noise of a library", flush=True)

    def reset(self):
        self._resets += 1

    def complete(self, prompts, max_tokens):
        if max_tokens == 99:
            raise SystemExit("gone")
        return [[self._resets, len(prompts), len(ids)][:max_tokens] for ids in prompts]

open_peer = FakePeer
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A peer whose tokens say how often it was reset, how many prompts came together, and how long a prompt was."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    monkeypatch.setitem(running.SCRIPTS, "vllm-cpu", script)
    return script


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model."""
    folder = tmp_path_factory.mktemp("peers")
    save_tiny_model(folder / "model", eos_bias=1.0)
    (folder / "prompts.txt").write_text("24\nxyz\nabc abc\n")
    return str(folder / "model")


def measured(model: str, modes: str, *words: str) -> GridMeasurement:
    """A benchmark of three prompts, carried out."""
    common = ["-m", model, "--prompts", str(Path(model).parent / "prompts.txt"), "--max-tokens", "6", "--threads", "1"]
    grid = bench_tables.planned([*common, "--device", "cpu", "--modes", modes, *words])
    measurement = GridMeasurement(grid, quiet=True)
    measurement.measure()
    return measurement


def outputs_of(work: GridMeasurement, mode: str) -> list[Any]:
    """The tokens of every run of a mode."""
    runs = [run.measurement for run in work.results[0].runs if run.mode.name == mode]
    return [run.outputs for run in runs if run is not None]


def test_the_worker_speaks_lines_of_json_and_keeps_an_engines_noise_off_them(fake: Path) -> None:
    """A version, then a reply for every run; an engine's exception is a reply, too."""
    job = {"dtype": "float32", "options": {}}
    lines = [job, {"batches": [[[7, 8]], [[9]]], "max_tokens": 3}, {"batches": 1}]
    done = subprocess.run(
        [sys.executable, worker.__file__, str(fake)], input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ready, reply, error = map(json.loads, done.stdout.splitlines())
    assert ready["version"] == "fake 1"
    assert reply["outputs"] == [[1, 1, 2], [1, 1, 1]]
    assert reply["seconds"] >= 0
    assert error["error"].startswith("TypeError")
    assert "noise" in done.stderr


def test_a_peer_runs_in_turn_with_modes_of_this_package(fake: Path, model: str) -> None:
    """It gets the ids of every prompt, is reset before every run, and a difference of its tokens is no error."""
    peers = ["--peers", f"vllm-cpu={sys.executable}"]
    work = measured(model, "transformers-serial,vllm-cpu,vllm-cpu@at_once=2", *peers, "--repeat", "2")
    [cell] = work.cells(explain=False)
    _, together, pairs = cell.rows
    assert not together.wrong
    assert together.equal == 0
    assert together.figures["version"] == "fake 1"
    outputs = outputs_of(work, "vllm-cpu")
    lengths = [prompt[2] for prompt in outputs[0]]
    assert [[tokens[:2] for tokens in each] for each in outputs] == [[(2, 3)] * 3, [(3, 3)] * 3]  # 1: the warm-up
    [first, _] = outputs_of(work, "vllm-cpu@at_once=2")
    assert first == ((2, 2, lengths[0]), (2, 2, lengths[1]), (2, 1, lengths[2]))
    assert pairs.label == "vllm-cpu@at_once=2"


def test_the_failure_of_a_peer_is_a_row_and_the_others_run(fake: Path, model: str) -> None:
    """Whether it cannot load, or its process ends."""
    peers = ["--peers", f"vllm-cpu={sys.executable}"]
    for mode, tokens, reason in (("vllm-cpu@dtype=int8", "6", "no such numbers here"), ("vllm-cpu", "99", "gone")):
        words = [*peers, "--max-tokens", tokens]
        [cell] = measured(model, f"transformers-batched,{mode}", *words).cells(explain=False)
        own, peer = cell.rows
        assert own.repeats == 1
        assert reason in (peer.error or "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--modes", "vllm-cpu"], "name its Python with --peers vllm-cpu=PYTHON"),
        (["--modes", "seed", "--peers", "vllm=python"], "Did you mean 'vllm-cpu'"),
        (["--modes", "seed", "--peers", "vllm-cpu=/nowhere/python"], "there is no /nowhere/python"),
        (["--modes", "seed", "--peers", "vllm-cpu"], "expected vllm-cpu=PYTHON"),
        (["--modes", "vllm-cpu", "--peers", f"vllm-cpu={sys.executable}", "--temperature", "1"], "temperature 0 only"),
        (["--modes", "seed@at_once=0"], "expected a number"),
        (["--modes", "vllm-cpu@lookup=3", "--peers", f"vllm-cpu={sys.executable}"], "takes no option"),
    ],
)
def test_a_peer_that_cannot_run_is_refused_in_one_line(words: list[str], reason: str) -> None:
    """Before anything is loaded."""
    with pytest.raises((ConfigError, UnknownNameError), match=reason) as error:
        GridMeasurement(bench_tables.planned(["-m", "mini", *words]), quiet=True)
    assert "\n" not in str(error.value)


def test_modes_of_one_table_may_differ_in_dtype_and_in_prompts_at_once(model: str) -> None:
    """Only those whose numbers are exact must have the reference's tokens."""
    work = measured(model, "transformers-serial,seed@at_once=1,seed@dtype=bfloat16,backend-transformers@dtype=float64")
    [cell] = work.cells(explain=False)
    assert [row.exact for row in cell.rows] == [True, True, False, True]
    assert [row.equal for row in cell.rows if row.exact] == [3, 3, 3]


def test_an_isolated_mode_gives_the_same_tokens_and_has_memory_of_its_own(model: str) -> None:
    """Its process holds one mode; a failure there is raised here."""
    work = measured(model, "seed", "--isolate", "--no-check")
    assert outputs_of(work, "seed") == outputs_of(measured(model, "seed", "--no-check"), "seed")
    [cell] = work.cells(explain=False)
    if sys.platform == "linux":
        assert cell.rows[0].peak_bytes is not None
        assert cell.rows[0].load_peak_bytes is not None
        headers = [column.header for column in report.table(work.grid, [cell]).columns]
        assert {"peak memory", "while loading"} <= {*headers}
    with pytest.raises(TreeagentError, match="context is"):
        measured(model, "transformers-serial", "--isolate", "--no-check", "--max-tokens", "100000")


def test_the_record_names_the_processors_instructions_and_no_place_of_this_machine(fake: Path, model: str) -> None:
    """What decides which kernels run; an interpreter's path is nobody's business."""
    work = measured(model, "transformers-serial,vllm-cpu", "--peers", f"vllm-cpu={sys.executable}")
    machine = record.machine(work.grid.settings.threads, work.device, work.load)
    if sys.platform == "linux":
        assert machine["cpu_flags"] is None or {*machine["cpu_flags"]} <= record.FLAGS
    content: Any = record.to_json(work.grid, work.cells(explain=False), machine, datetime.now(timezone.utc))
    assert sys.executable not in json.dumps(content)
    peaks = [run["peak_bytes"] for run in content["cells"][0]["runs"]]
    assert all(peak > 10**6 for peak in peaks) if sys.platform == "linux" else peaks == [None, None]


def test_memory_that_the_system_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not 0."""
    monkeypatch.setattr(worker, "Path", lambda _: Path("/nowhere/at/all"))
    assert not worker.reset_peak()
    assert worker.peak_bytes() is None


def test_a_checkpoint_becomes_a_file_for_llamacpp(tmp_path: Path) -> None:
    """Matrices in 8 bits, rounded to steps of a block's scale; the rest, names and tokenizer as they are."""
    folder = next(named.where for named in catalog.list_models() if named.name == "mini-draft")
    reader = gguf.GGUFReader(gguf_file.write(folder, tmp_path / "mini.gguf"))
    weights = load_file(folder / "model.safetensors")
    assert len(reader.tensors) == len(weights)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    norm = tensors["output_norm.weight"]
    assert np.array_equal(norm.data, weights["model.norm.weight"].float().numpy())
    down = tensors["blk.0.ffn_down.weight"]
    assert down.tensor_type == gguf.GGMLQuantizationType.Q8_0
    exact = weights["model.layers.0.mlp.down_proj.weight"].float().numpy()
    blocks = exact.reshape(-1, 32)
    error = np.abs(gguf.quants.dequantize(down.data, down.tensor_type).reshape(-1, 32) - blocks)
    assert (error <= np.abs(blocks).max(1, keepdims=True) / 127 * 0.6).all()  # half a step, and a scale of 16 bits
    assert reader.fields["tokenizer.ggml.model"].contents() == "gpt2"
