"""Scores by models with states beside keys and values: long texts are cut into pieces, chains and trees alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seed_tools import HEAD
from state_families import WHOLE, write_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import state_plan
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.state_layers.delta_rule import DeltaRule
from treeagent.backends.seed.executor.state_pass import StatePass
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache
from treeagent.backends.seed.kv_cache.state_store import StateStore
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.request import ScoreRequest

HEADS, SIZE = 4, 2
"""Of the matrix states whose memory is measured: few numbers of a state beside those between tokens."""


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See the base class."""
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def largest(parents: Sequence[int], *, final: bool = True) -> int:
    """Numbers of the largest tensor of one layer's recurrence over a tree that begins a text."""
    device, count = torch.device("cpu"), len(parents)
    store = StateStore({0: (((3, 4), torch.float32), ((HEADS, SIZE, SIZE), torch.float32))}, device, 10**7)
    node = RadixCache(SlotPool([(1, 1)], torch.float32, device, 1)).root
    nothing = np.zeros(0, dtype=np.int64)
    segment = Segment([1] * count, np.arange(count), nothing, node, parents, range(count), final=final)
    parts = [torch.rand(count, HEADS, SIZE) for _ in range(3)]
    rates = -torch.rand(count, HEADS), torch.rand(count, HEADS)
    with Largest() as seen:
        StatePass([segment], [0], store, device).run(0, DeltaRule(*parts, *rates))
    return seen.numbers


@pytest.mark.parametrize("step", [1, 2, 40])
def test_memory_of_a_score_grows_with_its_length(step: int) -> None:
    """A chain, a comb, and a trunk with long branches: twice the tokens take twice the memory, and not four times."""
    trees = [[place - (1 if place % step else step) for place in range(count)] for count in (640, 1280)]
    shorter, longer = (largest([max(-1, parent) for parent in tree]) for tree in trees)
    assert longer <= 2.2 * shorter
    assert longer < 1280**2
    assert largest([max(-1, parent) for parent in trees[1]], final=False) >= HEADS * 1280**2  # as drafts are kept


def scored(backend: Any, request: ScoreRequest) -> list[float]:
    """Log-probabilities of the continuations."""
    return list(asyncio.run(backend.score(request)).logprobs)


@pytest.mark.parametrize("family", WHOLE)
def test_scores_of_long_texts_are_those_of_transformers(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one, and of several that part within and after the first pieces; where they do not part there, it shows."""
    folder = write_model(tmp_path, family)
    common = "4 + 5 = 9 (left: 6 9) " * 6
    ends = ("9 - 6 = 3", "6 * 9 = 54 " * 5, "6 + 9 = 15 " * 8)
    several = ScoreRequest(HEAD, (*(common + end for end in ends), common[:30] + ends[1], "24"))
    single = ScoreRequest(HEAD, (common + ends[2],))
    plain, engine = TransformersBackend(folder, device="cpu", dtype="float32"), SeedBackend(folder, device="cpu")
    for request in (several, single):
        assert scored(engine, request) == pytest.approx(scored(plain, request), abs=2e-3)
    cut = state_plan.cut_tree

    def at_the_end(tree: Any, number: int) -> Any:
        """All branches go on from one place."""
        pieces = cut(tree, number)
        for piece in pieces:
            piece.needed.add(0)
            piece.after = 0
        return pieces

    right = scored(plain, several)
    monkeypatch.setattr(state_plan, "cut_tree", at_the_end)
    if family != "LFM2":  # whose tails know no pieces
        assert scored(engine, several) != pytest.approx(right, abs=2e-3)
