"""The measurement of .gguf files and adapters."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import transformers
from seed_tools import SHAPE, save_model

from treeagent.backends.bench import weight_files
from treeagent.backends.bench.peers import gguf_file


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_files_are_measured_and_results_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process rather than in ones of their own; a second call adds to the first one's results."""
    monkeypatch.setattr(gguf_file, "NO_MERGES", ["2 4"])
    monkeypatch.setattr(weight_files, "PASSES", 2)

    def here(kind: str, where: Path, threads: int) -> object:
        return weight_files.measure_adapters(where) if kind == "adapters" else weight_files.measure(where, threads)

    monkeypatch.setattr(weight_files, "_in_process", here)
    config = transformers.LlamaConfig(**{**SHAPE, "intermediate_size": 64}, num_key_value_heads=2)
    model, file = save_model(tmp_path / "model", config), tmp_path / "said.json"
    for _ in range(2):
        words = ["--model", model, "--types", "float32,q4_k_m,adapters", "--repeat", "1", "--json", str(file)]
        weight_files.main([*words, "--files", str(tmp_path), "--threads", "1"])
    said = json.loads(file.read_text())
    assert {kind: len(runs) for kind, runs in said["runs"].items()} == {"float32": 2, "q4_k_m": 2, "adapters": 2}
    assert said["file_bytes"]["q4_k_m"] == (tmp_path / "q4_k_m.gguf").stat().st_size
    assert all(run["rows_16_median"] >= run["rows_16_least"] > 0 for run in said["runs"]["q4_k_m"])
    assert all(run["one_pass_median"] >= run["one_pass_least"] > 0 for run in said["runs"]["adapters"])
