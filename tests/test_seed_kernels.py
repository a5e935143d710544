"""Compiled kernels: the numbers of the decoder in torch, rows that stand alone, and what happens without a compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from seed_tools import FAMILIES, MIX, Naive, ask, clean, fixed_costs, save_model, told

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache

CPU = torch.device("cpu")


def compiled() -> bool:
    """Whether this machine has the kernels."""
    try:
        return bool(library.load().instructions() == 2)
    except library.NoKernels:
        return False


needs_kernels = pytest.mark.skipif(not compiled(), reason="no C compiler, or no 8-bit dot products")


class Passes:
    """Passes of one model over a pool of its own."""

    def __init__(self, folder: str, dtype: str) -> None:
        self.weights = Weights(load_model(Path(folder), dtype, CPU), Path(folder))
        self.pool = SlotPool(self.weights.layers, self.weights.dtype, CPU, limit=1000)
        self.forest = RadixCache(self.pool)
        self.contexts = [self.read([5 + 3 * row + i % 7 for i in range(9 + 5 * row)]) for row in range(5)]

    def read(self, tokens: list[int]) -> np.ndarray:
        """Slots of a text."""
        slots = self.pool.allocate(len(tokens))
        self.run([Segment(tokens, slots, np.zeros(0, dtype=np.int64), self.forest.root, wanted=range(len(tokens)))])
        return slots

    def run(self, segments: list[Segment]) -> torch.Tensor:
        """Logits of a pass."""
        weights = self.weights
        with torch.inference_mode():
            return weights.decoder(make_forward_batch(segments, weights.dtype, CPU, weights.in_place), self.pool)

    def segments(self) -> list[Segment]:
        """A chain, a tree and single tokens after texts of different lengths."""
        trees = ([7, 8, 9], None), ([4, 5, 6, 7, 8], [-1, 0, 0, 1, -1]), ([9], None), ([3, 4], [-1, -1]), ([2], None)
        return [
            Segment(tokens, self.pool.allocate(len(tokens)), context, self.forest.root, parents, range(len(tokens)))
            for (tokens, parents), context in zip(trees, self.contexts, strict=True)
        ]


@pytest.fixture(scope="module", params=["llama", "llama-mha", "qwen3", "mistral"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model: with grouped heads, biases, norms of heads, or all alike."""
    return save_model(tmp_path_factory.mktemp("kernels") / request.param, FAMILIES[request.param])


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "int8", "int8+float32"])
def test_kernels_compute_what_torch_computes(folder: str, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Over chains and trees; bit by bit for an 8-bit target, whose numbers are rounded from float64."""
    fast = Passes(folder, dtype)
    monkeypatch.setenv(library.SWITCH, "off")
    slow = Passes(folder, dtype)
    assert (fast.weights.kernels, slow.weights.kernels) == ("compiled", f"torch ({library.SWITCH}=off)")
    pairs = [(one, other) for one, other in zip(fast.segments(), slow.segments(), strict=True)]
    for one, other in pairs:  # one by one, as torch packs segments in another order
        left, right = fast.run([one]), slow.run([other])
        if dtype == "int8":
            assert torch.equal(left, right)
        else:
            step = 0.2 if dtype == "int8+float32" else 1e-4
            assert float((left - right).abs().max()) <= step * float(right.abs().max())


@pytest.fixture(scope="module")
def rounded(folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same model, with all weights rounded to bfloat16 and stored in float32."""
    network = load_model(Path(folder), "float32", CPU).network
    weights = {name: weight.bfloat16().float() for name, weight in network.state_dict().items()}
    where = tmp_path_factory.mktemp("rounded") / "model"
    shutil.copytree(folder, where)
    save_file(weights, where / "model.safetensors", metadata={"format": "pt"})
    return str(where)


@needs_kernels
def test_widened_weights_are_rounded_and_nothing_else(
    folder: str, rounded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit what float32 computes with the rounded weights; other weights are seen."""
    monkeypatch.setenv(library.SWITCH, "widen")
    half, same, other = Passes(folder, "bfloat16"), Passes(rounded, "float32"), Passes(folder, "float32")
    assert half.weights.kernels == "compiled (bfloat16 widened to float32)"
    left, right, unequal = (passes.run(passes.segments()) for passes in (half, same, other))
    assert torch.equal(left, right)
    assert not torch.equal(left, unequal)


@needs_kernels
@pytest.mark.parametrize(
    ("dtype", "switch"),
    [("float32", ""), ("bfloat16", ""), ("bfloat16", "widen"), ("int8", ""), ("int8+float32", "")],
)
@pytest.mark.parametrize("threads", [1, 2, 5])  # 5: more than some steps have items
def test_a_row_is_the_same_in_any_pass(
    folder: str, monkeypatch: pytest.MonkeyPatch, dtype: str, switch: str, threads: int
) -> None:
    """Bit by bit, in float32 too: all at once, one by one, and token by token along a path of the tree."""
    monkeypatch.setenv(library.SWITCH, switch)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        passes = Passes(folder, dtype)
        segments = passes.segments()
        together = passes.run(segments)
        assert torch.equal(together, torch.cat([passes.run([segment]) for segment in segments]))
        tree, path = segments[1], [0, 1, 3]
        context = tree.context
        for place in path:
            slot = passes.pool.allocate(1)
            one = Segment([tree.tokens[place]], slot, context, tree.node, wanted=[0])
            assert torch.equal(passes.run([one])[0], together[3 + place])
            context = np.concatenate((context, slot))
    finally:
        torch.set_num_threads(before)


@needs_kernels
def test_a_wrong_tree_would_be_seen(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the test before: a token that sees all of the tree, and not its ancestors only."""
    passes = Passes(folder, "float32")
    segments = passes.segments()
    right = passes.run(segments)
    n = len(segments[1].tokens)
    monkeypatch.setattr(Segment, "visible", lambda self: np.tri(len(self.tokens), dtype=np.bool_))
    wrong = passes.run(segments)
    assert torch.equal(wrong[:3], right[:3])
    assert not torch.equal(wrong[3 : 3 + n], right[3 : 3 + n])


@needs_kernels
@pytest.mark.parametrize("drafter", ["none", "ngram", "suffix"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_texts_are_those_of_the_model_alone(
    folder: str, rounded: str, monkeypatch: pytest.MonkeyPatch, dtype: str, drafter: str
) -> None:
    """Token for token against naive decoding by transformers, greedy and sampled, with and without drafts."""
    monkeypatch.setenv(library.SWITCH, "widen")
    backend = SeedBackend(folder, device="cpu", dtype=dtype, drafter=drafter, draft_tokens=4)
    with fixed_costs():
        backend.load()
    meter = backend.meter()
    naive = Naive(rounded, "float32") if dtype == "bfloat16" else Naive(folder, dtype)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    assert str(meter()["kernels"]).split(" (")[0] == "compiled"
    clean(backend)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("exit 1", "failed with exit code 1"),
        ("echo >&2; exit 3", "failed with exit code 3"),
        ("echo 'no such flag' >&2; exit 2", "no such flag"),
        ("", "Error"),
    ],
)
def test_without_a_working_compiler_torch_is_used(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, reason: str
) -> None:
    """The reason is kept, nothing is raised, and nothing is left in the cache but a folder."""
    script = tmp_path / "cc"
    script.write_text(f"#!/bin/sh\n{compiler}\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path / "cache"))
    weights = Weights(load_model(Path(folder), "float32", CPU), folder)
    assert weights.kernels.startswith("torch (")
    assert reason in weights.kernels
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_other_numbers_run_in_torch(folder: str) -> None:
    """And the reason is named."""
    weights = Weights(load_model(Path(folder), "float16", CPU), folder)
    assert weights.kernels.startswith("torch (")
    assert not weights.in_place
