"""The Triton kernel of attention gives plain attention's numbers; on a CPU in its interpreter, in a child process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from test_seed_sliding import FAMILIES, network
from triton_child import Ask, child, needs_triton

from treeagent.backends.seed.executor import attention_choice
from treeagent.backends.seed.executor.attention_choice import AttentionChoice, choose_attention

NEAR = {"float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}
"""Largest error by dtype, over values of size 1."""


CASES: dict[str, dict[str, Any]] = {
    "float32": {"seed": 1},
    "bfloat16, group of three": {"dtype": "bfloat16", "kinds": [(2, 3, 12)], "seed": 2, "texts": 3},
    "float16, all parameters": {"dtype": "float16", "window": 9, "softcap": 2.0, "sinks": True, "seed": 3},
    "sliding window": {"window": 7, "seed": 4, "least": 1},
    "soft cap and sinks": {"softcap": 0.7, "sinks": True, "seed": 5},
    "head sizes by layer": {"kinds": [(2, 1, 8), (1, 2, 24)], "seed": 6, "texts": 3, "longest": 20},
    "wide tiles, several blocks": {
        "kinds": [(1, 4, 8)], "queries": 16, "nodes": [2, 34], "texts": 2, "longest": 200, "keys": 128, "seed": 7,
    },
    "rows of a window": {"window": 7, "rows": "right", "seed": 9, "least": 1, "texts": 5},
    "rows, bfloat16, all parameters, padded": {
        "dtype": "bfloat16", "kinds": [(1, 3, 20), (2, 2, 80)], "window": 11, "softcap": 2.0, "sinks": True,
        "rows": "right", "seed": 10, "texts": 3, "padded": True, "queries": 16,
    },
    "rows, float16, several blocks": {
        "dtype": "float16", "kinds": [(1, 2, 8)], "window": 70, "rows": "right", "texts": 2, "longest": 200,
        "keys": 128, "seed": 13,
    },
    "rows of all layers": {
        "window": 7, "rows": "right", "trimmed": 7, "seed": 6, "least": 1, "keys": 8, "longest": 60,
    },
    "padded to a larger size": {"padded": True, "window": 9, "sinks": True, "texts": 3, "seed": 8},
}  # fmt: skip


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_forests_attend_as_plain_attention_does(ask: Ask, name: str) -> None:
    """Ragged texts that share beginnings, trees and chains after them, keys split among tiles, slots nobody wrote."""
    case = CASES[name]
    result = ask("run", case)
    assert result["error"] < NEAR[case.get("dtype", "float32")]
    assert result["padding"] == 0
    assert result["shared"]
    assert result["rows"] > 1
    assert result["trees"]
    assert result["longest"] > (case.get("window") or 0)
    assert result["outside"] > 0 or not case.get("window")


@needs_triton
@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(10, 50))
def test_any_mixture_of_parameters_is_right(ask: Ask, seed: int) -> None:
    """Dtype, heads, window, cap, sinks and cuts drawn at random."""
    case = {
        "dtype": ["float32", "float32", "bfloat16", "float16"][seed % 4],
        "kinds": [(1 + seed % 3, [1, 3, 4, 8][seed // 2 % 4], [8, 16, 20, 64][seed // 3 % 4])],
        "window": [None, 1, 5, 16][seed // 5 % 4],
        "softcap": [None, 1.5, 30.0][seed % 3],
        "sinks": seed % 5 < 2,
        "seed": seed,
        "texts": 2 + seed % 5,
        "nodes": [1, 4, 33, 2],
        "keys": [8, 32, 256][seed // 2 % 3],
        "queries": [1, 4, 16][seed // 3 % 3],
        "least": [1, 20, 10**6][seed // 4 % 3],
        "padded": seed % 7 == 0,
    }
    case["rows"] = "right" if case["window"] and seed % 2 else None
    assert ask("run", case)["error"] < 2 * NEAR[case["dtype"]]


@needs_triton
@pytest.mark.parametrize("over", [None, "right"], ids=["slots", "rows"])
@pytest.mark.parametrize("twin", ["bits", "keys", "rows", "positions", "window", "softcap", "sinks", "heads"])
def test_a_kernel_with_one_fault_is_found_out(interpreter: Ask, twin: str, over: str | None) -> None:
    """What one of its tables or parameters says is wrong: the error is far above the bound of the other tests."""
    case = {"window": 9, "softcap": 2.0, "sinks": True, "seed": 8, "texts": 2, "nodes": [5, 1], "longest": 24}
    assert not interpreter("run", {**case, "twin": twin, "rows": over})["error"] < 1e-2  # it may be NaN


@needs_triton
@pytest.mark.parametrize("rows", ["slots", "few"])
def test_a_wrong_table_of_rows_is_found_out(interpreter: Ask, rows: str) -> None:
    """Numbers of slots in it, or one row too few of each text; the right one is within the bound."""
    case = {"window": 9, "seed": 8, "texts": 3, "nodes": [5, 1], "longest": 24}
    assert interpreter("run", {**case, "rows": "right"})["error"] < NEAR["float32"]
    assert not interpreter("run", {**case, "rows": rows})["error"] < 1e-2  # it may be NaN


@needs_triton
@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_networks_run_with_the_kernel(interpreter: Ask, tmp_path: Path, family: str) -> None:
    """The trial at load holds a network whose attention is the kernel against its plain forward."""
    loaded = interpreter("load_model", network(family, tmp_path))
    assert loaded["tile_queries"] == 4
    assert loaded["kernels"].endswith(", attention in Triton, draws on the GPU")


@needs_triton
def test_the_trial_finds_a_kernel_that_computes_something_else(interpreter: Ask) -> None:
    """At load it says nothing of the right kernel, and names the difference of a wrong one."""
    result = interpreter("trial", "float32")
    assert result["fault"] is None
    assert "head size 8: its results differ from plain ones by" in result["broken"]


@needs_triton
@pytest.mark.exhaustive
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    "shape",
    [("bfloat16", 8, 4, 128, 16), ("float32", 3, 3, 64, 16), ("float32", 1, 8, 512, 2), ("bfloat16", 1, 8, 512, 4)],
    ids=str,
)
def test_the_kernels_compile_for_a_gpu(tmp_path: Path, capability: int, shape: tuple[Any, ...]) -> None:
    """Without one: in the 99 KiB that any such GPU has for a block of threads, no float32 rounded to TF32."""
    with child(TRITON_CACHE_DIR=str(tmp_path), TRITON_DEFAULT_FP_FUSION="1") as ask:
        built = ask("compile_for", [capability, *shape])
    assert built["shared"] <= 99 * 1024
    assert built["spills"] == 0
    assert built["tensor cores"] == (shape[0] != "float32")
    assert not built["tf32"]


CUDA = torch.device("cuda:0")


@pytest.mark.parametrize(
    ("dtype", "layers", "heads", "why"),
    [
        (torch.float64, [(2, 64)], 4, "the kernel computes no float64"),
        (torch.float32, [(2, 64), (1, 640)], 4, "a head size of 640 is above 512"),
        (torch.float32, [(3, 64)], 4, "4 query heads are not shared evenly by the key heads"),
        (torch.float16, [(2, 64)], 4, "no triton: pip install triton"),
        (torch.bfloat16, [(2, 64)], 4, "compute capability 7.5 is below 8.0"),
        (torch.float32, [(2, 64)], 4, "head size 64: RuntimeError: no C compiler"),
    ],
    ids=["float64", "head size", "heads", "no triton", "old", "fails"],
)
def test_a_gpu_without_the_kernel_says_why(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, layers: list[tuple[int, int]], heads: int, why: str
) -> None:
    """In one line, from a device that is only asked for its capability."""
    monkeypatch.setattr(attention_choice, "find_spec", lambda name: None if "no triton" in why else name)
    monkeypatch.setattr(attention_choice, "capability", lambda device: (7, 5) if "7.5" in why else (9, 0))
    monkeypatch.setattr(attention_choice, "trial", lambda *what: why if "compiler" in why else None)
    assert choose_attention(CUDA, dtype, layers, heads) == AttentionChoice(why=why)
    assert choose_attention(torch.device("cpu"), dtype, layers, heads) is None


@pytest.mark.parametrize(
    ("heads", "layers", "queries"), [(8, [(8, 64)], 16), (9, [(3, 64)], 16), (32, [(8, 64), (1, 512)], 1)]
)
def test_a_gpu_takes_the_kernel(
    monkeypatch: pytest.MonkeyPatch, heads: int, layers: list[tuple[int, int]], queries: int
) -> None:
    """The more query heads share a key head, the fewer queries a tile has."""
    monkeypatch.setattr(attention_choice, "find_spec", lambda name: name)
    monkeypatch.setattr(attention_choice, "capability", lambda device: (9, 0))
    monkeypatch.setattr(attention_choice, "trial", lambda *what: None)
    choice = choose_attention(CUDA, torch.bfloat16, layers, heads)
    assert choice == AttentionChoice(queries)
    assert str(choice) == "attention in Triton"


def test_the_tests_leave_triton_alone() -> None:
    """Nothing here has turned the interpreter on for the tests of other files."""
    assert "TRITON_INTERPRET" not in os.environ
