"""A packed forest pass gives the logits of plain passes; what cannot be run so is refused at load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from seed_tools import FAMILIES, SHAPE, Naive, fixed_costs, save_model, tokenizer_size
from torch import nn

from treeagent.backends.local import model_thread as worker
from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import (
    forward_batch as forest,
)
from treeagent.backends.seed.executor import (
    model_runner as runner,
)
from treeagent.backends.seed.executor import (
    packed_linear as linears,
)
from treeagent.backends.seed.executor import (
    tree_attention as attention,
)
from treeagent.backends.seed.executor.attention_rule import AttentionRule
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.prefill import PrefillChunk
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.kv_cache.page_table import PageTable
from treeagent.errors import ModelError
from treeagent.request import ScoreRequest

Folders = Callable[[str], str]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A tiny model of each family, written once."""
    known: dict[str, str] = {}

    def folder(family: str) -> str:
        if family not in known:
            known[family] = save_model(tmp_path_factory.mktemp(family), FAMILIES[family])
        return known[family]

    return folder


def load(folder: str, dtype: str = "float64") -> ModelRunner:
    def made() -> ModelRunner:
        return ModelRunner(Weights(load_model(Path(folder), dtype, torch.device("cpu")), folder), memory=1 << 24)

    return worker.run(made)


def texts(seed: int) -> list[list[int]]:
    """Prompts of any length, many of which share beginnings."""
    chance = random.Random(seed)
    known: list[list[int]] = [[]]
    for _ in range(8):
        stem = chance.choice(known)[: chance.randint(0, 40)]
        known.append(stem + [chance.randrange(tokenizer_size()) for _ in range(chance.choice([1, 1, 2, 9, 30]))])
    return known[1:]


def tree(chance: random.Random) -> tuple[list[int], list[int]]:
    """Tokens and parents of a random tree, a chain now and then."""
    size = chance.choice([1, 1, 2, 5, 14])
    chain = chance.random() < 0.3
    parents = [node - 1 if chain else chance.randint(-1, node - 1) for node in range(size)]
    return [chance.randrange(tokenizer_size()) for _ in parents], parents


def pass_over(
    engine: ModelRunner, prompts: list[list[int]], chance: random.Random, limit: int
) -> list[tuple[Segment, int]]:
    """Read prompts in passes of ``limit`` tokens; the last one also holds a tree after every prompt.

    Returns each tree's span and the first row of its logits, which are left in ``engine.logits``.
    """
    branches = [PageTable(engine.forest, prompt[:-1]) for prompt in prompts]
    spans: list[Segment] = []
    while True:
        reading = PrefillChunk(branches, limit)
        if len(reading.ready) == len(branches):
            for branch, prompt in zip(branches, prompts, strict=True):
                tokens, parents = tree(chance)
                tokens, parents = [prompt[-1], *tokens], [-1, *(parent + 1 for parent in parents)]
                slots = branch.take(len(tokens))
                wanted = range(len(tokens))
                spans.append(Segment(tokens, slots, branch.table, branch.node, parents, wanted))
        logits, rows = engine.forward([*reading.spans, *spans])
        reading.done()
        if spans:
            engine.forest.check()
            engine.logits = logits  # type: ignore[attr-defined]
            return list(zip(spans, [row.start for row in rows[len(reading.spans) :]], strict=True))


def compare(engine: ModelRunner, naive: Naive, prompts: list[list[int]], seed: int, limit: int) -> float:
    """The greatest difference of any logit of any node of any tree from a plain pass over its path."""
    worst = 0.0
    verified = worker.run(lambda: pass_over(engine, prompts, random.Random(seed), limit))
    for prompt, (span, first) in zip(prompts, verified, strict=True):
        assert span.parents is not None
        paths: list[list[int]] = []
        for token, parent in zip(span.tokens, span.parents, strict=True):
            paths.append([*(paths[parent] if parent >= 0 else prompt[:-1]), token])
        for node, path in enumerate(paths):
            plain = naive.logits(path)[-1]
            worst = max(worst, float((engine.logits[first + node] - plain).abs().max()))  # type: ignore[attr-defined]
    return worst


@pytest.mark.sampled(3)
@pytest.mark.parametrize("least", [1, forest.SHARED_LEAST], ids=["cascade", "private"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forest_pass_equals_plain_passes(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, family: str, least: int
) -> None:
    """Random trees after random prompts, read in pieces of any size, with and without cascade attention, in float64."""
    monkeypatch.setattr(forest, "SHARED_LEAST", least)
    plans: list[forest.ForwardBatch] = []
    make_plan = runner.make_forward_batch
    monkeypatch.setattr(runner, "make_forward_batch", lambda *args: plans.append(make_plan(*args)) or plans[-1])
    naive, engine = Naive(folders(family), "float64"), load(folders(family))
    for seed, limit in enumerate((1000, 7, 33)):
        engine.reset_cache()
        assert compare(engine, naive, texts(seed), seed, limit) < 1e-10
    assert any(plan.shared for plan in plans) == (least == 1)
    assert any(plan.padded is not None for plan in plans)  # padded rows too


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("bfloat16", 0.5)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_forest_pass_is_near_in_narrow_numbers(folders: Folders, family: str, dtype: str, tolerance: float) -> None:
    """In float32, with packed weights, logits differ by rounding; in bfloat16 by what its eight bits allow."""
    naive, engine = Naive(folders(family), dtype), load(folders(family), dtype)
    worst = compare(engine, naive, texts(3), 3, 20)
    assert 0 < worst < tolerance


def test_without_torchs_own_kernel_the_pass_is_the_same(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two products and a softmax stand in for the private operator."""
    monkeypatch.setattr(forest, "SHARED_LEAST", 1)
    monkeypatch.setattr(attention, "find_attention_kernel", lambda: None)
    for family in ("llama", "gpt2"):
        assert compare(load(folders(family)), Naive(folders(family), "float64"), texts(5), 5, 50) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", ["rows", "all", "no"])
def test_the_kernel_and_its_stand_in_agree(dtype: torch.dtype, masked: str) -> None:
    """Results and log-sum-exps, whatever the mask's shape."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, 8, generator=generator, dtype=dtype) for n in (5, 7, 7))
    rows = 5 if masked == "rows" else 1
    mask = torch.zeros(3, 1, rows, 7, dtype=dtype)
    mask[:, :, :, 4:] = -torch.inf
    given = None if masked == "no" else mask
    out, lse = attention.attend(q, k, v, given, AttentionRule(0.3))
    plain, plain_lse = attention.attention_with_lse(q, k, v, given, 0.3)
    near = 1e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(out, plain, atol=near)
    assert torch.allclose(lse.to(plain_lse.dtype), plain_lse, atol=near)


class Layer(nn.Module):
    """Linear layers with the names that transformers gives them."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(32, 48, bias), nn.Linear(32, 16), nn.Linear(32, 16, bias)
        self.other = nn.Linear(96, 24, bias)
        self.odd = nn.Bilinear(2, 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., 32) to (..., 24)."""
        return self.other(torch.cat((self.q_proj(x), self.k_proj(x), self.v_proj(x), x[..., :16]), dim=-1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_packed_linears_give_the_plain_products(monkeypatch: pytest.MonkeyPatch, bias: bool, rows: int) -> None:
    """With and without bias, alone and side by side, for one row or many, call after call."""
    monkeypatch.setattr(linears, "LARGE", 0)
    torch.manual_seed(0)
    layer, x = Layer(bias), torch.randn(2, rows, 32)
    with torch.inference_mode():
        plain = layer(x), layer(2 * x)
        packed = linears.pack(layer)
        assert packed in (0, 4)  # 0 where torch has no such operators
        for made, expected in zip((layer(x), layer(2 * x)), plain, strict=True):
            assert torch.allclose(made, expected, atol=1e-5)


def test_linears_stay_as_they_are_where_torch_lacks_the_operators(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, failing or wrong operators cost speed only."""

    def failing(*args: object) -> None:
        raise RuntimeError("no such kernel")

    naive = Naive(folders("llama"), "float32")
    for broken in (failing, lambda weight, rows: 2 * weight):
        monkeypatch.setattr(linears, "LARGE", 0)
        monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", broken)
        layer = Layer(bias=True)
        assert linears.pack(layer) == 0
        assert type(layer.other) is nn.Linear
        assert compare(load(folders("llama"), "float32"), naive, texts(1), 1, 50) < 2e-4


BLOOM = {"vocab_size": tokenizer_size(), "hidden_size": 32, "n_layer": 2, "n_head": 4}
MPT = {"vocab_size": tokenizer_size(), "d_model": 32, "n_layers": 2, "n_heads": 4}
MAMBA = {"vocab_size": tokenizer_size(), "hidden_size": 16, "num_hidden_layers": 1, "state_size": 2}
GEMMA2 = {**SHAPE, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 64}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.BloomConfig(**BLOOM), "attention cannot be replaced"),
        (transformers.MptConfig(**MPT), "attention cannot be replaced"),
        (transformers.MambaConfig(**MAMBA), "keeps no attention cache"),
    ],
    ids=["bloom", "mpt", "mamba"],
)
def test_models_with_another_attention_are_refused_at_load(tmp_path: Path, config: object, reason: str) -> None:
    """With the reason and what to do, rather than run wrongly."""
    with pytest.raises(ModelError, match=reason) as raised, fixed_costs():
        SeedBackend(save_model(tmp_path, config), device="cpu").load()
    assert str(tmp_path) in str(raised.value)


def test_a_model_that_computes_something_else_is_refused_at_load(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial at load finds logits that are not the model's own, whatever the cause."""
    monkeypatch.setenv(library.SWITCH, "off")
    right = attention.attend

    def wrong(q: Any, k: Any, v: Any, mask: Any, rule: AttentionRule, **how: Any) -> Any:
        return right(q, k, v, mask, replace(rule, scale=1.1 * rule.scale), **how)

    monkeypatch.setattr(attention, "attend", wrong)
    for family in ("llama", "gpt2"):
        with pytest.raises(ModelError, match="differ from its plain ones"), fixed_costs():
            SeedBackend(folders(family), device="cpu").load()


def test_scores_share_what_they_have_in_common(folders: Folders) -> None:
    """Continuations of one prompt are one tree: every common beginning is computed once."""
    with fixed_costs():
        backend = SeedBackend(folders("llama"), device="cpu", dtype="float64")
        backend.load()
    assert backend.core.parts is not None
    engine, widths = backend.core.parts.scheduler.runner, []
    forward = engine.forward
    engine.forward = lambda spans: widths.append([len(span.tokens) for span in spans]) or forward(spans)  # type: ignore[method-assign]
    scores = asyncio.run(backend.score(ScoreRequest("Judge:", ("sure", "sure", "sums", ""))))
    naive = Naive(folders("llama"), "float64")
    prompt = naive.text.prompt("Judge:")
    for word, value in zip(("sure", "sure", "sums", ""), scores.logprobs, strict=True):
        ids = list(naive.text.scored("Judge:", [word])[0][1])
        logs = naive.logits(prompt + ids).log_softmax(-1)[len(prompt) - 1 : -1]
        assert value == pytest.approx(float(logs[np.arange(len(ids)), ids].sum()), abs=1e-9)
    assert sum(map(sum, widths)) <= len(prompt) + len(naive.text.scored("Judge:", ["sums"])[0][1])
