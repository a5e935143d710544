"""Attention over tiles in plain operations of torch, and graphs over the Triton kernel: plain attention's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import triton_cases
from seed_tools import SHAPE, Naive, ask, save_model, told
from test_seed_graphs import opened
from test_seed_sliding import long_requests, network
from test_triton_attention import CASES, NEAR
from triton_child import Ask, needs_triton

from treeagent.backends.seed.executor import attention_tiles, shared_runs
from treeagent.backends.seed.executor.attention_tiles import most_integers, most_rows

FAULTY = {"window": 9, "softcap": 2.0, "sinks": True, "seed": 8, "texts": 2, "nodes": [5, 1], "longest": 24}


@pytest.mark.parametrize("name", CASES)
def test_operations_of_torch_have_the_contract_of_the_kernel(name: str) -> None:
    """Over the same random forests, with all parameters; padding of a pass gets zeros."""
    case = CASES[name]
    result = triton_cases.run({**case, "kernel": False})
    assert result["error"] < NEAR[case.get("dtype", "float32")]
    assert result["padding"] == 0


@pytest.mark.parametrize("twin", ["bits", "keys", "rows", "positions", "window", "softcap", "sinks", "heads"])
def test_operations_of_torch_read_all_of_the_table(twin: str) -> None:
    """In float64 the error is rounding; with one thing wrong it is far above that. Only the kernel reads rows."""
    right = triton_cases.run({**FAULTY, "dtype": "float64", "kernel": False})
    wrong = triton_cases.run({**FAULTY, "dtype": "float64", "kernel": False, "twin": twin})
    assert right["error"] < 1e-12
    assert (wrong["error"] > 1e-2) == (twin != "rows")


@pytest.mark.parametrize("seed", range(6))
def test_keys_before_the_window_of_all_layers_have_no_tiles(seed: int) -> None:
    """Fewer tiles, and the same numbers; with those of a window half as long, others."""
    case = {"dtype": "float64", "kernel": False, "window": 9, "longest": 70, "keys": 4, "seed": seed, "least": 1}
    right = triton_cases.run({**case, "trimmed": 9})
    assert right["error"] < 1e-12
    assert right["trimmed"] > 0
    assert triton_cases.run({**case, "trimmed": 5})["error"] > 1e-2


@needs_triton
def test_graphs_start_the_kernel_over_tables_that_change(interpreter: Ask, tmp_path: Path) -> None:
    """Passes of two sizes have plain calls' logits, from kernels that were recorded once; one layer has a window.

    Where passes write their tables elsewhere, the graph reads an old table, or one that was freed: both are found.
    """
    shape = {**SHAPE, "num_key_value_heads": 1, "sliding_window": 9, "use_sliding_window": True}
    folder = save_model(tmp_path / "model", transformers.Qwen2Config(**shape, max_window_layers=1))
    result = interpreter("graphed", {"folder": folder})
    assert result["worst"] < 1e-4
    assert result["replayed"] == 4  # layers and head of two passes
    assert result["launched"] == 2 * SHAPE["num_hidden_layers"] * 2  # two kernels a layer in each size
    assert result["stale"] > 1e-2
    assert "was freed" in result["freed"]


def test_graphs_of_layers_with_windows_write_three_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of plain decoding, drafts across the window's edge among them, by graphs over operations of torch."""
    monkeypatch.setattr(attention_tiles, "KEYS", 32)
    folder, requests = network("Mistral", tmp_path), long_requests()
    backend, (recorder,) = opened((folder, ""), monkeypatch, drafter="ngram", draft_tokens=3)
    assert told(ask(backend, *requests)) == Naive(folder, "float64").expected(requests)
    assert recorder.replayed > 20


@pytest.mark.parametrize("queries", [1, 3, 16])
def test_the_memory_of_a_table_holds_any_pass_of_its_size(queries: int) -> None:
    """Random forests: the integers and rows of no table are more than its size has."""
    for seed in range(20):
        case: dict[str, Any] = {**triton_cases.DEFAULT, "seed": seed, "texts": 2 + seed % 7, "nodes": [1, 40, 7]}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attention_tiles, "KEYS", 8)
            patch.setattr(shared_runs, "LEAST", 1)
            layout = triton_cases.forest_layout(case, queries)
            tokens, count = layout.tokens + seed % 3, layout.count + seed % 2
            tiles = layout.on(torch.device("cpu"), tokens, count)
            assert len(tiles.tables) <= most_integers(tokens, count, queries)
            assert layout.on(torch.device("cpu")).rows <= most_rows(tokens, count, queries) == tiles.rows
