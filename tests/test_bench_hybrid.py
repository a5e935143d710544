"""The benchmark of a random model with Qwen3.5's shape, with a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from treeagent.backends.bench.hybrid import main
from treeagent.backends.bench.snapshots import PrefixReuse, reusable_tokens

TINY = ["--layers", "4", "--hidden", "64", "--intermediate", "96", "--branches", "4", "--max-tokens", "6"]


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


def test_modes_and_prefix_reuse_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All modes write the same tokens, and nearly all reusable tokens are reused."""
    file = tmp_path / "hybrid.json"
    modes = "transformers-batched,seed-nodraft"
    assert main([*TINY, "--repeat", "1", "--modes", modes, "--out", str(file), "--quiet"]) == 0
    written = json.loads(file.read_text())
    rows = written["cells"][0]["rows"]
    assert [row["mode"] for row in rows] == modes.split(",")
    assert [row["equal"] for row in rows] == [4, 4]
    reuse = written["prefix_reuse"]
    assert 0.95 <= reuse["share"] <= 1
    assert reuse["reused"] <= reuse["reusable"] <= reuse["common"] < reuse["prompt"]
    out = capsys.readouterr().out
    assert "prompt tokens" in out
    assert "qwen3.5-random, float32" in out
    assert written["settings"]["model"] == "qwen3.5-random"
    for text in (out, file.read_text()):
        assert "treeagent-hybrid-" not in text, "the folder is a temporary one"


def test_tokens_are_reusable_up_to_a_snapshot() -> None:
    """Where prompts end or part, and within a batch wherever they part; nothing of the first prompt."""
    first, second, third = [1, 2, 3, 4, 0], [1, 2, 3, 5, 0], [1, 2, 3, 4, 6, 0]
    assert reusable_tokens([[first]]) == (0, 0)
    assert reusable_tokens([[first, second]]) == (3, 3)
    assert reusable_tokens([[first], [second]]) == (3, 0)
    assert reusable_tokens([[first], [second], [third, second]]) == (3 + 4 + 4, 0 + 4 + 4)
    assert PrefixReuse(8, 0, 0, 0).share is None


def test_a_wrong_shape_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is written."""
    assert main(["--layers", "6", "--out", str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err == "error: --layers must be a multiple of 4, not 6\n"
