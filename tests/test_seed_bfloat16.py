"""Models in bfloat16 on a processor that multiplies such numbers: logits of a slow reference, texts in any company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from seed_tools import FAMILIES, MIX, ask, clean, fixed_costs, save_model, told
from test_seed_kernels import CPU, Passes
from test_seed_products import kernels, pairwise
from torch import nn

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import profiler
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.kernels import library

pytestmark = pytest.mark.skipif(kernels() is None, reason="no kernels, or no products in bfloat16")

TOKENS = [5 + 3 * (i % 8) + i % 7 for i in range(40)]


class Rounded(nn.Module):
    """A linear layer whose rows are rounded to bfloat16, and summed as the processor does it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        sums = torch.from_numpy(pairwise(x.reshape(-1, x.shape[-1]), self.linear.weight)).view(*x.shape[:-1], -1)
        return sums if self.linear.bias is None else sums + self.linear.bias


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with random weights."""
    return save_model(tmp_path_factory.mktemp("bfloat16") / request.param, FAMILIES[request.param])


def read(passes: Passes) -> torch.Tensor:
    """Logits (T, V) of a text, by the engine."""
    slots = passes.pool.allocate(len(TOKENS))
    nothing = np.zeros(0, dtype=np.int64)
    return passes.run([Segment(TOKENS, slots, nothing, passes.forest.root, wanted=range(len(TOKENS)))]).float()


@torch.inference_mode()
def slow(folder: str, rows_too: bool) -> torch.Tensor:
    """The same by transformers in float32 with weights in bfloat16, and where so asked with rounded rows."""
    network = load_model(Path(folder), "float32", CPU).network
    for parameter in network.parameters():
        parameter.copy_(parameter.bfloat16())
    for parent in list(network.modules()) if rows_too else ():
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, Rounded(child))
    logits: torch.Tensor = network(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0]
    return logits


def test_logits_are_those_of_a_slow_network(folder: str) -> None:
    """Up to the sums of attention, which now and then move a rounding; the twin rounds weights and no rows."""
    fast = Passes(folder, "bfloat16")
    assert fast.weights.kernels == "compiled (products in bfloat16)"
    logits = read(fast)
    near, twin = ((logits - slow(folder, rows)).abs().amax(dim=1) < 1e-4 for rows in (True, False))  # (T,)
    assert near.float().mean() > 0.5
    assert not twin.any()


def test_logits_are_nearer_to_float32_than_those_of_torch(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of the mean squared error: torch rounds every result to bfloat16, not the rows of products alone."""
    right, fast = read(Passes(folder, "float32")), read(Passes(folder, "bfloat16"))
    monkeypatch.setenv(library.SWITCH, "off")
    plain = read(Passes(folder, "bfloat16"))
    assert (fast - right).square().mean() < (plain - right).square().mean()


@pytest.mark.parametrize("drafter", ["ngram", "suffix"])
def test_texts_do_not_depend_on_company_or_drafts(folder: str, monkeypatch: pytest.MonkeyPatch, drafter: str) -> None:
    """Token for token those of one request after another without drafts; with other numbers they would differ."""

    def texts(drafter: str, alone: bool) -> list[list[tuple[str, str]]]:
        backend = SeedBackend(folder, device="cpu", dtype="bfloat16", drafter=drafter, draft_tokens=4)
        with fixed_costs():
            backend.load()
        replies = [reply for one in MIX for reply in ask(backend, one)] if alone else ask(backend, *MIX)
        clean(backend)
        return told(replies)

    assert texts(drafter, alone=False) == (expected := texts("none", alone=True))
    monkeypatch.setenv(library.SWITCH, "widen")
    assert texts(drafter, alone=False) != expected


def test_times_of_passes_are_kept_by_the_products(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widened weights have a cost table of their own."""
    digests = []
    for switch in ("", "widen", ""):
        monkeypatch.setenv(library.SWITCH, switch)
        digests.append(profiler._digest(ModelRunner(Passes(folder, "bfloat16").weights, 10**8), "bfloat16"))
    assert digests[0] == digests[2] != digests[1]
