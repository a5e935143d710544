"""EAGLE-3 heads draft from their target's states: what they read, what becomes of texts, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from head_laws import drawn_texts
from head_tools import Heard, PlainHead, engine, save_head, with_memory_for
from safetensors.torch import load_file, save_file
from seed_tools import FAMILIES, FEW, MIX, Naive, ask, clean, fixed_costs, request, save_model, told
from toy_laws import p_value, softmax

from treeagent.backends.models.int8 import quantize
from treeagent.backends.seed.drafters.heads import eagle3_compiled, pair_cache, pair_runner
from treeagent.backends.seed.drafters.heads.head_drafter import HeadDrafter
from treeagent.backends.seed.drafters.model import tree_shapes
from treeagent.backends.seed.kernels import library
from treeagent.errors import ModelError

Folders = Callable[..., tuple[str, str]]


def instructions() -> int:
    """What the compiled kernels have of the processor; 0 without kernels."""
    try:
        return int(library.load().instructions())
    except library.NoKernels:
        return 0


DRAFTERS = ("model", "dynamic", "rsd-c:2x2", "rsd-s:3x2", "ngram+model", "merged+dynamic")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A tiny target and its random head, each written once."""
    known: dict[Any, tuple[str, str]] = {}

    def write(family: str = "llama", *, speculators: bool = False) -> tuple[str, str]:
        if (family, speculators) not in known:
            folder = tmp_path_factory.mktemp("heads")
            target = save_model(folder / family, FAMILIES[family])
            head = save_head(
                folder / "head-draft", target, drafted=100 if speculators else None, speculators=speculators
            )
            known[family, speculators] = target, head
        return known[family, speculators]

    return write


@pytest.mark.sampled(11)
@pytest.mark.parametrize("policy", ["rounds", "fcfs", "serial"])
@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize("speculators", [False, True])
def test_texts_are_those_of_plain_decoding(folders: Folders, name: str, policy: str, speculators: bool) -> None:
    """At every temperature, with drafts of trees accepted, and with so little memory that branches are preempted."""
    target, head = folders("llama" if policy != "fcfs" else "gpt2", speculators=speculators)
    backend = engine(target, head, drafter=name, policy=policy)
    for slots in (10_000, 150):
        read = backend.meter()
        assert told(ask(with_memory_for(backend, slots), *FEW)) == Naive(target, "float64").expected(FEW)
        clean(backend)
        assert read()["draft_passes"] > 0
        if slots == 10_000 and not speculators and "model" not in name:  # a random head's chain seldom guesses right
            assert read()["accepted"] > 0


@pytest.mark.parametrize(
    ("family", "dtype", "speculators", "tolerance"),
    [("llama", "float64", True, 1e-9), ("llama", "float32", False, 1e-3), ("gpt2", "float32", True, 1e-3)],
)
def test_the_head_reads_what_it_would_read_alone(
    folders: Folders, family: str, dtype: str, speculators: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits at every node of trees over forked texts equal those of the plain head over the target's own states."""
    monkeypatch.setattr(eagle3_compiled, "quantize", lambda network: None)
    target, head = folders(family, speculators=speculators)
    backend = engine(target, head, dtype, drafter="dynamic", chunk=16, draft_tokens=6)
    heard = Heard(backend, monkeypatch)
    ask(backend, *MIX[:5])
    ask(backend, *FEW)  # partly from the prefix cache
    clean(backend)
    assert len(heard.said) > 200
    assert heard.worst(PlainHead(head, target, getattr(torch, dtype)), 23) < tolerance


@pytest.mark.skipif(instructions() != 2, reason="no C compiler, or no 8-bit dot products")
@pytest.mark.parametrize("rounded", [False, True])
def test_a_compiled_head_is_the_plain_one(
    folders: Folders, tmp_path: Path, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all its norms, in float32 and with weights in 8 bits; texts are those of plain decoding."""
    target, _ = folders()
    norms = {"norm_before_residual": True, "norm_before_fc": True}
    head = save_head(tmp_path / "head-draft", target, drafted=100, speculators=True, **norms)
    plain = PlainHead(head, target, torch.float32)
    if rounded:
        quantize(plain.network)
    else:
        monkeypatch.setattr(eagle3_compiled, "quantize", lambda network: None)
    backend = engine(target, head, "float32", drafter="dynamic", chunk=16, draft_tokens=6)
    heard = Heard(backend, monkeypatch)
    assert told(ask(backend, *FEW)) == Naive(target, "float32").expected(FEW)
    clean(backend)
    assert len(heard.said) > 100
    assert heard.worst(plain, 7) < (2e-2 if rounded else 1e-4)


def test_another_tokens_state_is_noticed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that reads the state beside the right one says something else, and the texts stay the same."""
    target, head = folders()
    backend = engine(target, head, drafter="model")
    heard, forward = Heard(backend, monkeypatch), pair_runner.PairRunner.forward

    def shifted(runner: Any, spans: Any, before: Any = None) -> Any:
        moved = None if before is None else [np.roll(slots, 1) for slots in before]
        return forward(runner, spans, moved)

    monkeypatch.setattr(pair_runner.PairRunner, "forward", shifted)
    assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)
    assert heard.worst(PlainHead(head, target, torch.float64), 3) > 1e-3


def test_a_prompt_is_read_once_for_all_its_texts(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight texts of one prompt: its pairs are computed in one of them."""
    target, head = folders()
    backend = engine(target, head, drafter="model", draft_tokens=1)
    read: list[int] = []
    catch_up = pair_cache.PairCache.catch_up

    def counting(cache: Any, builders: Any) -> torch.Tensor:
        forward = cache._pairs.forward
        with pytest.MonkeyPatch.context() as patch:

            def count(spans: Any, before: Any) -> Any:
                read.append(sum(len(span.tokens) for span in spans))
                return forward(spans, before)

            patch.setattr(cache._pairs, "forward", count)
            return catch_up(cache, builders)

    monkeypatch.setattr(pair_cache.PairCache, "catch_up", counting)
    asked = request(0, 0, 8, temperature=1.0, max_tokens=4)
    ask(backend, asked)
    prompt = len(Naive(target, "float64").text.prompt(asked.prompt))
    assert prompt <= read[0] < prompt + 40
    assert len(read) > 1
    assert max(read[1:]) < 40


def test_the_pool_may_grow_before_the_head_drafts(folders: Folders) -> None:
    """A prompt is admitted while other texts are drafted for: what the head keeps by slot grows between passes."""
    target, head = folders()
    backend = engine(target, head, drafter="model")
    ask(backend, *FEW)
    parts = backend.core.parts
    assert parts is not None
    drafter, forest = parts.scheduler.speculator.drafter, parts.scheduler.runner.forest
    assert isinstance(drafter, HeadDrafter)
    more = forest.allocate(2 * forest.pool.capacity)
    assert len(drafter._cache._runner.unread(more)) == len(more)
    forest.pool.free(more)
    assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)


@pytest.mark.exhaustive
def test_the_law_of_texts_is_the_targets_under_rejection(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact chi-square over texts of two tokens, by how likely these are; a head that misstates its law fails it."""
    target, head = folders()
    assert p_value(*drawn_texts(target, head, 1200)) > 1e-4
    monkeypatch.setattr(tree_shapes, "softmax_rows", lambda scores: np.stack([softmax(3 * row) for row in scores]))
    assert p_value(*drawn_texts(target, head, 1200)) < 1e-6


def changed(head: str, folder: Path, tensors: Callable[[dict[str, torch.Tensor]], Any], **said: Any) -> str:
    """A copy of a head with other tensors or another configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = json.loads((Path(head) / "config.json").read_text())
    layer = said.pop("layer", {})
    whole["transformer_layer_config"] |= layer
    (folder / "config.json").write_text(json.dumps(whole | said))
    held = load_file(Path(head) / "model.safetensors")
    tensors(held)
    save_file(held, folder / "model.safetensors")
    return str(folder)


def nothing(tensors: dict[str, torch.Tensor]) -> None:
    """Leave all as they are."""


OTHER = {"speculators_config": {"verifier": {"name_or_path": "Qwen/Qwen3-8B"}}}
REFUSED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], dict[str, Any], str]] = {
    "missing": (lambda held: held.pop("fc.weight"), {}, r"lacks 1 of its weights \(such as fc.weight\)"),
    "width": (
        lambda held: held.update({"norm.weight": torch.ones(5)}),
        {},
        "norm.weight of 5, and its config.json says 32",
    ),
    "other target": (nothing, OTHER, "made for Qwen/Qwen3-8B, and the target is .*llama"),
    "other width": (nothing, {"target_hidden_size": 64}, r"hidden size 64.*has a hidden size of 32"),
    "other layers": (nothing, {"eagle_aux_hidden_state_layer_ids": [1, 2, 30]}, "layers 1, 2, 30.* and 2 layers"),
    "vocabulary": (nothing, {"layer": {"vocab_size": 9}}, "vocabulary of .* tokens, and the target has"),
    "no map": (lambda held: (held.pop("d2t"), held.pop("t2d")), {}, "drafts 100 of .* has no map"),
    "maps": (lambda held: held["t2d"].logical_not_(), {}, "maps of its vocabulary that contradict"),
    "kind": (
        nothing,
        {"speculators_model_type": "medusa"},
        "head of the kind 'medusa'.*'eagle3', 'mtp', 'dflash' can run",
    ),
    "two layers": (nothing, {"layer": {"num_hidden_layers": 2}}, "has 2 layer.*Expected one layer"),
    "no number": (nothing, {"draft_vocab_size": "many"}, "config.json has draft_vocab_size"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_head_that_does_not_fit_is_refused_in_one_line(folders: Folders, tmp_path: Path, fault: str) -> None:
    """The message names the head, what is wrong and what was expected."""
    target, head = folders(speculators=True)
    tensors, said, match = REFUSED[fault]
    wrong = changed(head, tmp_path / "wrong-head", tensors, **said)
    with pytest.raises(ModelError, match=match) as error:
        engine(target, wrong)
    assert "\n" not in str(error.value)
    assert "wrong-head" in str(error.value)


def test_options_of_draft_models_are_refused(folders: Folders) -> None:
    """A head has no exits and no precision of its own."""
    target, head = folders()
    with pytest.raises(ModelError, match="exit is for draft models"):
        engine(target, head, exit="adaptive")


def test_another_model_cannot_use_the_head(folders: Folders, tmp_path: Path) -> None:
    """A judge of another model with the same options is refused by the head's name of its target."""
    target, head = folders(speculators=True)
    other = save_model(tmp_path / "judge", FAMILIES["llama"], seed=1)
    backend = engine(target, head)
    with fixed_costs(), pytest.raises(ModelError, match=r"made for .*llama, and the target is .*judge"):
        backend.with_model(other).load()
