"""DFlash heads draft blocks as chains and best-first trees: what they read, what becomes of texts, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dflash_tools import PlainDFlash, save_dflash
from head_laws import drawn_texts
from head_tools import engine, with_memory_for
from safetensors.torch import load_file, save_file
from seed_tools import FAMILIES, FEW, MIX, Naive, ask, clean, request, save_model, told
from state_families import write_model
from toy_laws import p_value, softmax

from treeagent.backends.seed.drafters.heads import block_drafter, block_runner
from treeagent.backends.seed.drafters.heads.block_cache import BlockCache
from treeagent.backends.seed.drafters.heads.block_drafter import BlockDrafter
from treeagent.backends.seed.drafters.model import tree_shapes
from treeagent.backends.seed.drafters.model.tree_builder import TreeBuilder
from treeagent.backends.seed.executor.attention_rule import AttentionRule
from treeagent.backends.seed.executor.attention_tiles import TileLayout
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.tree_attention import AttentionContext, attend_forest
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache
from treeagent.errors import ModelError

WINDOWS = ("full_attention", "sliding_attention", "full_attention")
KINDS: dict[str, dict[str, Any]] = {
    "z-lab": {},
    "speculators": {"speculators": True, "drafted": 90, "embedded": True},
    "windows": {"kinds": WINDOWS},
    "windows both ways": {"speculators": True, "kinds": WINDOWS, "sliding_window_non_causal": True},
    "from the anchor": {"speculators": True, "sample_from_anchor": True},
    "capped": {"output_multiplier": 1.5, "final_logit_softcapping": 4.0},
}
"""Arguments of :func:`save_dflash`."""
ASKED = [
    request(0, 0, max_tokens=7),
    request(3, 1, 2, temperature=0.7, max_tokens=6),
    request(2, 2, 2, temperature=1.3, max_tokens=6),
    *FEW[2:4],
]
Folders = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A tiny target and its random head, each written once."""
    known: dict[tuple[str, str], tuple[str, str]] = {}

    def write(kind: str = "z-lab", family: str = "llama") -> tuple[str, str]:
        if (kind, family) not in known:
            folder = tmp_path_factory.mktemp("dflash")
            hybrid = family not in FAMILIES
            target = write_model(folder, family) if hybrid else save_model(folder / family, FAMILIES[family])
            known[kind, family] = target, save_dflash(folder / "head-draft", target, **KINDS[kind])
        return known[kind, family]

    return write


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", ["auto", "model", "dynamic", "rsd-c:2x2", "rsd-s:3x2"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "Qwen3.5"])
def test_texts_are_those_of_plain_decoding(folders: Folders, family: str, kind: str, name: str) -> None:
    """At every temperature, by chains and by trees, and with so little memory that branches are preempted."""
    target, head = folders(kind, family)
    dtype = "float32" if family == "Qwen3.5" else "float64"
    backend = engine(target, head, dtype, drafter=name)
    for slots in (10_000, 150):
        read = backend.meter()
        assert told(ask(with_memory_for(backend, slots), *ASKED)) == Naive(target, dtype).expected(ASKED)
        clean(backend)
        assert read()["draft_passes"] > 0
        assert read()["drafter"] == ("ngram+dynamic" if name == "auto" else name)


def heard(patch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], torch.Tensor]]:
    """Texts and the logits (n, V) of the places after them, of all that is drafted from now on."""
    said: list[tuple[tuple[int, ...], torch.Tensor]] = []
    laws = BlockCache.laws

    def listening(cache: BlockCache, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        found = laws(cache, builders)
        said.extend((tuple(builder.row.tokens), law.clone()) for builder, law in zip(builders, found, strict=True))
        return found

    patch.setattr(BlockCache, "laws", listening)
    return said


def worst(said: Sequence[tuple[tuple[int, ...], torch.Tensor]], plain: PlainDFlash) -> float:
    """The largest difference from the plain head."""
    greatest = 0.0
    for tokens, law in said:
        assert torch.isfinite(law).nonzero()[:, 1].unique().equal(plain.ids)
        for place, logits in enumerate(law):
            expected = plain.logits(tokens, [0] * place)
            greatest = max(greatest, float((logits[plain.ids] - expected).abs().max()))
    return greatest


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_reads_what_it_would_read_alone(folders: Folders, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws of all places after forked texts equal those of the plain head over the target's own states."""
    target, head = folders(kind)
    backend, said = engine(target, head, drafter="dynamic", chunk=16), heard(monkeypatch)
    ask(backend, *MIX[:4])
    ask(backend, *FEW)  # partly from the prefix cache
    clean(backend)
    assert len(said) > 40
    assert worst(said[::9], PlainDFlash(head, target, torch.float64)) < 1e-9


def test_what_a_block_must_see_is_noticed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws differ where a block looks back only, and where keys lie a position off; texts stay the same."""
    target, head = folders()
    forward, read = block_runner.BlockRunner.forward, block_runner.BlockRunner.read

    def causal(runner: Any, spans: Sequence[Segment]) -> Any:
        return forward(runner, [replace(span, mutual=False) for span in spans])

    for name, twin in (("forward", causal), ("read", lambda own, slots, places: read(own, slots, places + 1))):
        with monkeypatch.context() as patch:
            patch.setattr(block_runner.BlockRunner, name, twin)
            backend, said = engine(target, head, drafter="model"), heard(patch)
            assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)
            assert worst(said[:4], PlainDFlash(head, target, torch.float64)) > 1e-3, name


def test_a_tree_has_the_best_paths_of_all(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path that was left out has a higher product of confidences than one of the tree."""
    target, head = folders()
    found: list[tuple[list[Any], Any]] = []
    candidates = BlockDrafter._candidates

    def kept(drafter: BlockDrafter, growing: Sequence[TreeBuilder], shape: Any) -> Any:
        places = candidates(drafter, growing, shape)
        found.extend((own[: builder.levels], builder.draft) for own, builder in zip(places, growing, strict=True))
        return places

    monkeypatch.setattr(BlockDrafter, "_candidates", kept)
    monkeypatch.setattr(block_drafter, "CANDIDATES", 3)
    ask(engine(target, head, drafter="dynamic", draft_tokens=4), *ASKED)
    trees = [(places, draft) for places, draft in found if len(draft) > 3]
    assert len(trees) > 10
    for places, draft in trees:
        values: list[float] = []
        for parent, confidence in zip(draft.parents, draft.confidence, strict=True):
            values.append(confidence * (1.0 if parent < 0 else values[parent]))
        every = [
            float(np.prod(path))
            for depth in range(1, 1 + len(places))
            for path in product(*(place.confidences for place in places[:depth]))
        ]
        assert values == sorted(values, reverse=True)
        assert values[:4] == pytest.approx(sorted(every, reverse=True)[:4])


def test_one_pass_drafts_all_levels(folders: Folders) -> None:
    """Of a chain, too: a round takes one pass of the head."""
    target, head = folders()
    backend = engine(target, head, drafter="model", policy="rounds")
    read = backend.meter()
    ask(backend, *ASKED)
    assert 0 < read()["draft_passes"] <= read()["rounds"]
    assert read()["drafted"] > 2 * read()["draft_passes"]


@pytest.mark.parametrize("name", ["model", "dynamic"])
def test_laws_that_are_not_finite_draft_nothing(folders: Folders, tmp_path: Path, name: str) -> None:
    """A head with a broken weight costs drafts, and no text."""
    target, head = folders()
    (tmp_path / "config.json").write_bytes((Path(head) / "config.json").read_bytes())
    held = load_file(Path(head) / "model.safetensors")
    held["norm.weight"][0] = torch.nan
    save_file(held, tmp_path / "model.safetensors")
    backend = engine(target, str(tmp_path), drafter=name)
    read = backend.meter()
    assert told(ask(backend, *ASKED)) == Naive(target, "float64").expected(ASKED)
    assert read()["draft_passes"] > read()["drafted"] == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["z-lab", "speculators"])
def test_the_law_of_texts_is_the_targets_under_rejection(
    folders: Folders, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact chi-square over texts of two tokens; a head that misstates its law fails it."""
    target, head = folders(kind)
    assert p_value(*drawn_texts(target, head, 1200)) > 1e-4
    monkeypatch.setattr(tree_shapes, "softmax_rows", lambda scores: np.stack([softmax(3 * row) for row in scores]))
    assert p_value(*drawn_texts(target, head, 1200)) < 1e-6


@pytest.mark.parametrize("tiled", [False, True])
def test_the_tokens_of_a_block_see_one_another(tiled: bool) -> None:
    """By calls and by tiles, beside a chain, attention is that over the whole block and its context."""
    generator = torch.Generator().manual_seed(4)
    device, dtype = torch.device("cpu"), torch.float64
    pool = SlotPool([(2, 8)], dtype, device, 100)
    forest = RadixCache(pool)
    slots = forest.allocate(40)
    pool.entries[0].copy_(torch.randn(pool.entries[0].shape, generator=generator, dtype=dtype))
    spans = [
        Segment([1] * 5, slots[:5], slots[5:16], forest.root, wanted=range(5), mutual=True),
        Segment([1] * 5, slots[16:21], slots[21:28], forest.root, wanted=range(5)),
    ]
    query = torch.randn(10, 4, 8, generator=generator, dtype=dtype)
    new = torch.randn(10, 2, 2, 8, generator=generator, dtype=dtype)
    plan = make_forward_batch(spans, dtype, device)
    if tiled:
        plan = replace(make_forward_batch(spans, dtype, device), tiles=TileLayout(spans, 2).on(device, kernel=False))
    place = {int(slot): token for token, slot in enumerate(plan.slots)}
    if tiled:  # a layout has the caller's order
        assert [place[int(slot)] for span in spans for slot in span.slots] == list(range(10))
    out = attend_forest(query, new, 0, AttentionContext(plan, pool), AttentionRule(8**-0.5)).reshape(10, 4, 8)
    for span in spans:
        for token, slot in enumerate(span.slots):
            seen = span.slots if span.mutual else span.slots[: token + 1]
            keys, values = pool.entries[0][np.concatenate((span.context, seen))].repeat_interleave(2, dim=2).unbind(1)
            scores = torch.einsum("hd,khd->hk", query[place[int(slot)]], keys) / 8**0.5
            expected = torch.einsum("hk,khd->hd", scores.softmax(-1), values)
            assert (out[place[int(slot)]] - expected).abs().max() < 1e-12


Change = Callable[[dict[str, torch.Tensor]], Any]
REFUSED: dict[str, tuple[Change | None, dict[str, Any], dict[str, Any], str]] = {
    "missing": (lambda held: held.pop("fc.weight"), {}, {}, r"lacks 1 of its weights \(such as fc.weight\)"),
    "head": (lambda held: held.pop("lm_head.weight"), {}, {}, r"lacks 1 of its weights \(such as lm_head.weight\)"),
    "width": (
        lambda held: held.update({"norm.weight": torch.ones(5)}),
        {},
        {},
        "norm.weight of 5, and its config.json says 32",
    ),
    "embedding": (
        lambda held: held.update({"embed_tokens.weight": torch.ones(3, 32)}),
        {},
        {},
        "embed_tokens.weight of 3x32",
    ),
    "target": (
        None,
        {"speculators_config": {"verifier": {"name_or_path": "Qwen/Qwen3-8B"}}},
        {},
        "made for Qwen/Qwen3-8B, and the target is .*llama",
    ),
    "other width": (None, {"target_hidden_size": 64}, {}, "hidden size 64.*has a hidden size of 32"),
    "other layers": (None, {"aux_hidden_state_layer_ids": [1, 30]}, {}, "layers 1, 30.* and 2 layers"),
    "vocabulary": (None, {}, {"vocab_size": 99}, "vocabulary of .* tokens, and the target has"),
    "maps": (lambda held: held["t2d"].logical_not_(), {}, {}, "maps of its vocabulary that contradict"),
    "no layers": (None, {"aux_hidden_state_layer_ids": None}, {}, "does not say which states of its target it reads"),
    "no mask": (None, {"mask_token_id": None}, {}, "or which token is its mask"),
    "mask": (None, {"mask_token_id": 10_000}, {}, "mask_token_id 10000 .* vocabulary of"),
    "block": (None, {"block_size": 1}, {}, "config.json has block_size: .*greater than or equal to 2"),
    "projector": (None, {"projector_type": "domino"}, {}, "projector 'domino'. Expected a type of 'qwen3'"),
    "later kind": (None, {"speculators_model_type": "dflash2"}, {}, "head of the kind 'dflash2'"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_head_that_does_not_fit_is_refused_in_one_line(folders: Folders, tmp_path: Path, fault: str) -> None:
    """The message names the head, what is wrong and what was expected."""
    target, head = folders("speculators")
    change, said, layer, match = REFUSED[fault]
    wrong = tmp_path / "wrong-head"
    wrong.mkdir()
    whole = json.loads((Path(head) / "config.json").read_text())
    whole["transformer_layer_config"] |= layer
    (wrong / "config.json").write_text(json.dumps(whole | said))
    held = load_file(Path(head) / "model.safetensors")
    if change is not None:
        change(held)
    save_file(held, wrong / "model.safetensors")
    with pytest.raises(ModelError, match=match) as error:
        engine(target, str(wrong))
    assert "\n" not in str(error.value)
    assert "wrong-head" in str(error.value)
