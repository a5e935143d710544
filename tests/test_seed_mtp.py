"""MTP layers inside checkpoints draft: what they read, what becomes of texts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from head_laws import drawn_texts
from head_tools import Heard, engine, with_memory_for
from mtp_tools import TARGETS, PlainMtp, save_alone, save_mtp, write_config
from safetensors.torch import load_file, save_file
from seed_tools import Naive, ask, clean, request, told
from state_families import DELTA
from tiny_model import tokenizer
from toy_laws import p_value, softmax

from treeagent.backends.seed.drafters.heads import head_runner
from treeagent.backends.seed.drafters.heads.head_config import read_own_layer
from treeagent.backends.seed.drafters.model import tree_shapes
from treeagent.errors import ModelError

ASKED = [
    request(2, 0, max_tokens=7),
    request(3, 1, 2, temperature=0.7, max_tokens=5),
    request(3, 2, temperature=1.3, max_tokens=6),
    request(2, 3, temperature=1.0, top_k=5, max_tokens=5),
]
"""Greedy and sampled texts, of prompts with a common beginning."""
Folders = Callable[[str], tuple[str, str, str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A tiny target, its MTP layer and how the names of its tensors begin; each is written once."""
    known: dict[str, tuple[str, str, str]] = {}

    def write(family: str) -> tuple[str, str, str]:
        if family not in known:
            folder, start = tmp_path_factory.mktemp("mtp"), TARGETS[family][2]
            target = save_mtp(folder / "target", family)
            alone = start == "mtp_layers.0."
            known[family] = target, save_alone(folder / "layer", target) if alone else target, start
        return known[family]

    return write


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", ["model", "dynamic", "rsd-c:2x2", "ngram+model"])
@pytest.mark.parametrize("family", TARGETS)
def test_texts_are_those_of_plain_decoding(folders: Folders, family: str, name: str) -> None:
    """At every temperature, by chains and by trees, and with so little memory that branches are preempted."""
    target, head, _ = folders(family)
    backend = engine(target, head, "float32", drafter=name)
    for slots in (10_000, 150):
        read = backend.meter()
        assert told(ask(with_memory_for(backend, slots), *ASKED)) == Naive(target, "float32").expected(ASKED)
        clean(backend)
        assert read()["draft_passes"] > 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("family", TARGETS)
def test_the_layer_reads_what_it_would_read_alone(
    folders: Folders, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits at the nodes of trees over forked texts equal those of transformers' own layer over the whole text."""
    target, head, start = folders(family)
    backend = engine(target, head, "float32", drafter="dynamic", chunk=16)
    heard = Heard(backend, monkeypatch)
    ask(backend, *ASKED)
    ask(backend, *ASKED[1:3])  # partly from the prefix cache
    clean(backend)
    assert len(heard.said) > 50
    assert heard.worst(PlainMtp(head, target, start, torch.float32), 9) < 1e-3


def test_another_tokens_state_is_noticed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that reads the states of no token says something else, and the texts stay the same."""
    target, head, start = folders("Qwen3.5")
    take = head_runner.HeadRunner._take
    monkeypatch.setattr(
        head_runner.HeadRunner, "_take", lambda own, slots, states: take(own, slots, [0 * state for state in states])
    )
    backend = engine(target, head, "float32", drafter="model")
    heard = Heard(backend, monkeypatch)
    assert told(ask(backend, *ASKED)) == Naive(target, "float32").expected(ASKED)
    assert heard.worst(PlainMtp(head, target, start, torch.float32), 3) > 1e-2


def test_experts_may_be_stored_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the checkpoints of the hub."""
    whole = save_mtp(tmp_path / "stacked", "Qwen3-Next")
    target = save_mtp(tmp_path / "apart", "Qwen3-Next", apart=True)
    backend = engine(target, target, "float32", drafter="model")
    heard = Heard(backend, monkeypatch)
    ask(backend, ASKED[1])
    assert heard.worst(PlainMtp(whole, target, "mtp.", torch.float32), 3) < 1e-3


def test_the_text_part_of_a_checkpoint_that_sees_pictures_drafts(tmp_path: Path) -> None:
    """The checkpoints of Qwen3.5 on the hub are of this kind."""
    target, within = tmp_path / "seeing", save_mtp(tmp_path / "within", "Qwen3.5")
    seen = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen3_5Config(text_config=dict(DELTA), vision_config=seen)
    torch.manual_seed(0)
    transformers.Qwen3_5ForConditionalGeneration(config).save_pretrained(target)
    tokenizer().save_pretrained(target)
    held = load_file(target / "model.safetensors")
    own = {name: tensor for name, tensor in load_file(f"{within}/model.safetensors").items() if name.startswith("mtp.")}
    save_file(held | own, target / "model.safetensors", metadata={"format": "pt"})
    backend = engine(str(target), str(target), "float32", drafter="model")
    read = backend.meter()
    assert told(ask(backend, *ASKED[:2])) == Naive(str(target), "float32").expected(ASKED[:2])
    assert read()["draft_passes"] > 0


def test_the_layer_is_chosen_by_the_targets_own_path(folders: Folders) -> None:
    """However the path is spelt; a checkpoint without such a layer drafts as a whole, as before."""
    target, _, _ = folders("Qwen3.5")
    backend = engine(target, f"{target}/../target", "float32")
    assert backend.core.parts is not None
    runner = backend.core.parts.draft_runner
    assert runner is not None
    assert 0 < runner.parameters < backend.core.parts.scheduler.runner.parameters


@pytest.mark.exhaustive
def test_the_law_of_texts_is_the_targets_under_rejection(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact chi-square over texts of two tokens; a layer whose law is misstated fails it."""
    target, head, _ = folders("Qwen3.5")
    assert p_value(*drawn_texts(target, head, 1200)) > 1e-4
    monkeypatch.setattr(tree_shapes, "softmax_rows", lambda scores: np.stack([softmax(3 * row) for row in scores]))
    assert p_value(*drawn_texts(target, head, 1200)) < 1e-6


def quantised(held: dict[str, torch.Tensor]) -> None:
    """Weights in 8 bits, whose scales would be elsewhere."""
    held["mtp.fc.weight"] = held["mtp.fc.weight"].to(torch.float8_e4m3fn)


REFUSED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any] | None, dict[str, Any], str]] = {
    "missing": (lambda held: held.pop("mtp.fc.weight"), {}, r"lacks 1 of its weights \(such as projection.weight\)"),
    "width": (
        lambda held: held.update({"mtp.norm.weight": torch.ones(5)}),
        {},
        "has norm.weight of 5, and its config.json says 32",
    ),
    "quantised": (quantised, {}, "projection.weight in float8_e4m3fn. Expected weights that are not quantised"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_layer_that_cannot_run_is_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    """The message names the checkpoint, what is wrong and what was expected."""
    change, said, match = REFUSED[fault]
    target = save_mtp(tmp_path / "wrong-mtp", "Qwen3.5", change=change, **said)
    with pytest.raises(ModelError, match=match) as error:
        engine(target, target, "float32")
    assert "\n" not in str(error.value)
    assert "wrong-mtp" in str(error.value)


def numbered(held: dict[str, torch.Tensor]) -> None:
    """Names that no layout has."""
    for name in list(held):
        held[f"other.{name}"] = held.pop(name)


ALONE: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any] | None, dict[str, Any], str]] = {
    "target": (None, {"speculators_config": {"verifier": {"name_or_path": "Qwen/Qwen3-8B"}}}, "made for Qwen/Qwen3-8B"),
    "width": (None, {"layer": {"hidden_size": 64}}, "hidden size 64.*has a hidden size of 32"),
    "vocabulary": (None, {"layer": {"vocab_size": 9}}, "for a vocabulary of 9 tokens, and the target has"),
    "type": (None, {"layer": {"model_type": "mistral"}}, "MTP layer of the type 'mistral'; those of qwen3, .* can run"),
    "names": (numbered, {}, "has no MTP layer in its .*mtp_layers.0"),
}


@pytest.mark.parametrize("fault", ALONE)
def test_a_layer_of_another_target_is_refused_in_one_line(folders: Folders, tmp_path: Path, fault: str) -> None:
    """In the format of ``speculators``, by its configuration."""
    target, _, _ = folders("Qwen3")
    change, said, match = ALONE[fault]
    wrong = save_alone(tmp_path / "wrong-mtp", target, change=change, **said)
    with pytest.raises(ModelError, match=match) as error:
        engine(target, wrong, "float32")
    assert "\n" not in str(error.value)
    assert "wrong-mtp" in str(error.value)


def test_a_family_without_such_layers_is_refused_by_name(tmp_path: Path) -> None:
    """Its own checkpoint holds tensors of an MTP layer that cannot run."""
    target = save_mtp(tmp_path / "wrong-mtp", "Qwen3.5")
    write_config(Path(target), model_type="llama", architectures=["LlamaForCausalLM"])

    with pytest.raises(ModelError, match="type 'llama'"):
        read_own_layer(Path(target), target)
