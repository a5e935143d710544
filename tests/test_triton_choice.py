"""Tokens drawn by the launch on the device are the host's, bit for bit; on a CPU in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from device import DEVICE
from triton_child import Ask, needs_triton

from treeagent.backends.seed.executor import token_choice
from treeagent.backends.seed.executor.token_choice import host_reason

NEAR = 1e-12 if DEVICE.startswith("cuda") else 0.0
"""How far noise may be from the host's: a GPU's logarithm may differ in the last bit."""


@needs_triton
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 30))])
def test_the_device_draws_the_hosts_tokens(ask: Ask, seed: int) -> None:
    """Cuts of all kinds, ties, impossible ids, several blocks; rows without a finite maximum have no token."""
    size = 120 if seed < 20 else 1000
    result = ask("choose", {"seed": seed, "dtype": "bfloat16" if seed % 3 == 2 else "float32", "size": size})
    assert result["drawn"] == result["expected"]
    assert result["worst"] <= NEAR
    assert result["strange"] == [-1, -1, -1, result["drawn"][3]]


@needs_triton
def test_other_noise_is_found_out(interpreter: Ask) -> None:
    """By the comparison above, and by the trial at load, which says nothing of the right kernel."""
    result = interpreter("choose", {"seed": 0, "wrong": 1, "rows": 3})
    assert result["drawn"] != result["expected"]
    result = interpreter("draw_trial", "float32")
    assert result["fault"] is None
    assert result["broken"].endswith("of 6 trial draws differ from the host's")


@needs_triton
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 9))])
def test_all_nodes_of_sampled_drafts_are_drawn_in_one_launch(ask: Ask, seed: int) -> None:
    """Trees of any shape, and none: the host's verdicts; a sequence with logits that are not finite has none.

    Greedy sequences need no draw.
    """
    result = ask("trees", {"seed": seed, "nodes": [0, 5, 9, 1, 12, 2]})
    assert result["device"] == result["host"]
    assert result["host"].endswith(", None]")
    assert result["launches"] == [result["sampled"]]
    assert result["longest"] >= 1


@needs_triton
def test_a_pass_that_reads_prompts_alone_draws_nothing(ask: Ask) -> None:
    """No launch without rows."""
    result = ask("trees", {"seed": 0, "nodes": []})
    assert (result["host"], result["device"], result["launches"]) == ("[]", "[]", [])


@needs_triton
def test_noise_of_another_level_is_found_out(interpreter: Ask) -> None:
    """Nodes whose noise is that of their children have other verdicts than the host's."""
    result = interpreter("trees", {"seed": 0, "nodes": [0, 5, 9, 1, 12, 2], "wrong": 1})
    assert result["device"] != result["host"]


@pytest.mark.parametrize(
    ("dtype", "why"),
    [
        (torch.float64, "the kernel draws from no float64"),
        (torch.float32, "no triton: pip install triton"),
        (torch.float16, "compute capability 7.5 is below 8.0"),
        (torch.bfloat16, "RuntimeError: no C compiler"),
        (torch.float32, None),
    ],
    ids=["float64", "no triton", "old", "fails", "right"],
)
def test_a_gpu_that_does_not_draw_says_why(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, why: str | None
) -> None:
    """In one line, from a device that is only asked for its capability."""
    text = why or ""
    monkeypatch.setattr(token_choice, "find_spec", lambda name: None if "no triton" in text else name)
    monkeypatch.setattr(token_choice, "capability", lambda device: (7, 5) if "7.5" in text else (9, 0))
    monkeypatch.setattr(token_choice, "draw_trial", lambda *what: why)
    host_reason.cache_clear()
    assert host_reason(torch.device("cuda:0"), dtype) == why
    host_reason.cache_clear()
