"""Heads with the files of those on the hub: what configurations say, what tensors are called, which are refused.

The fields are those of published heads, the sizes are tiny and the weights random.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dflash_tools import save_dflash
from head_tools import Heard, PlainHead, engine, save_head
from mtp_tools import save_mtp
from safetensors.torch import load_file, save_file
from seed_tools import FAMILIES, FEW, Naive, ask, clean, save_model, scheduler, told

from treeagent.backends.seed.drafters.heads import block_drafter
from treeagent.backends.seed.drafters.heads.checkpoint import read_tensors
from treeagent.backends.seed.drafters.heads.eagle3_decoder import PlainEagle3Decoder
from treeagent.errors import ModelError

OWN = {"bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "initializer_range": 0.02, "pretraining_tp": 1,
       "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": False,
       "torch_dtype": "bfloat16", "use_cache": True}  # fmt: skip
LONG = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}  # fmt: skip
PART = {"use_aux_hidden_state": True, "use_input_layernorm_in_first_layer": True, "use_last_layernorm": True,
        "use_mtp_layernorm": False}  # fmt: skip
EAGLE3: dict[str, tuple[dict[str, Any], dict[str, str], tuple[int, int, int]]] = {
    "SafeAILab": ({**OWN, "rope_scaling": LONG}, {}, (1, 1, 0)),
    "SpecForge": ({**OWN, "eagle_config": {**PART, "eagle_aux_hidden_state_layer_ids": [0, -1, 0]}}, {}, (1, 0, 1)),
    "Model Optimizer": (
        {**OWN, "eagle_config": {**PART, "eagle_aux_hidden_state_layer_ids": []}},
        {"midlayer.": "layers.0."},
        (1, 1, 0),
    ),
    "AngelSlim": ({**OWN, "model_type": "llama", "head_dim": 8, "eagle_config": None}, {"": "model."}, (1, 1, 0)),
    "vLLM": (
        {
            **{"architectures": ["Eagle3LlamaForCausalLM"], "norm_before_fc": True, "num_aux_hidden_states": 3},
            "eagle_aux_hidden_state_layer_ids": [0, 1, 1],
            "eagle_config": {"norm_before_fc": True, "eagle_aux_hidden_state_layer_ids": [0, 1, 1]},
        },
        {},
        (0, 1, 1),
    ),
    "EAGLE-3.1": ({**OWN, "fc_norm": True, "norm_output": True}, {"input_norm.": "fc_norm."}, (1, 1, 0)),
}
"""Fields, what starts of tensors' names are called instead, and the layers of the target whose inputs are read."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama."""
    return save_model(tmp_path_factory.mktemp("targets") / "llama", FAMILIES["llama"])


def eagle3(folder: Path, target: str, kind: str, **said: Any) -> str:
    """A head as people have it."""
    fields, names, _ = EAGLE3[kind]
    head = Path(save_head(folder, target, drafted=100, **fields, **said))
    tensors = read_tensors(head)
    for own, called in names.items():
        tensors = {called + name.removeprefix(own) if name.startswith(own) else name: tensor
                   for name, tensor in tensors.items()}  # fmt: skip
    (head / "pytorch_model.bin").unlink()
    save_file(tensors, head / "model.safetensors")
    return str(head)


@pytest.mark.parametrize("kind", EAGLE3)
def test_published_eagle3_heads_run(kind: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read the layers that their format means, and say what the plain head says; texts are the target's."""
    head = eagle3(tmp_path / "some-head", target, kind)
    backend = engine(target, head, drafter="dynamic")
    assert scheduler(backend).runner._heard == EAGLE3[kind][2]
    heard = Heard(backend, monkeypatch)
    assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)
    clean(backend)
    assert heard.worst(PlainHead(head, target, torch.float64), 7) < 1e-9


def test_the_norms_of_eagle31_matter(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head whose drafted states are not normed says something else."""
    head = eagle3(tmp_path / "some-head", target, "EAGLE-3.1")
    through = PlainEagle3Decoder.through

    def plain(own: PlainEagle3Decoder, *arguments: Any) -> torch.Tensor:
        own._norms_output = False
        out = through(own, *arguments)
        own._norms_output = True
        return out

    monkeypatch.setattr(PlainEagle3Decoder, "through", plain)
    backend = engine(target, head, drafter="model")
    heard = Heard(backend, monkeypatch)
    assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)
    assert heard.worst(PlainHead(head, target, torch.float64), 3) > 1e-3


OTHER_EAGLE: dict[str, tuple[dict[str, Any], str]] = {
    "MLA": ({"architectures": ["Eagle3DeepseekV2ForCausalLM"], "model_type": "deepseek_v3"}, "type 'deepseek_v3'"),
    "Llama 4": ({"model_type": "llama4_text"}, "type 'llama4_text'"),
    "P-EAGLE": ({"architectures": ["LlamaPEagleDraftModel"]}, "head of the kind 'peagle'"),
    "EAGLE": ({"eagle_config": {"use_aux_hidden_state": False}}, "as EAGLE and EAGLE-2 do"),
    "layers": ({"num_hidden_layers": 4}, "has 4 layer"),
    "both norms": ({"fc_norm": True, "norm_before_fc": True}, "both together and one by one"),
    "DSpark": ({"architectures": ["Qwen3DSparkModel"]}, "head of the kind 'dspark'"),
    "DFlash 2": ({"architectures": ["DFlash2DraftModel"]}, "head of the kind 'dflash2'"),
}


@pytest.mark.parametrize("kind", OTHER_EAGLE)
def test_other_published_heads_are_refused_by_name(kind: str, target: str, tmp_path: Path) -> None:
    """In one line."""
    said, match = OTHER_EAGLE[kind]
    head = save_head(tmp_path / "some-head", target, drafted=100)
    path = Path(head) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    with pytest.raises(ModelError, match=match) as error:
        engine(target, head)
    assert "\n" not in str(error.value)
    assert "some-head" in str(error.value)


DFLASH: dict[str, dict[str, Any]] = {
    "z-lab": {
        "auto_map": {"AutoModel": "dflash.DFlashDraftModel"}, "num_target_layers": 2, "max_window_layers": 3,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 4.0, "original_max_position_embeddings": 64,
                         "rope_type": "yarn", "type": "yarn"},
    },
    "SGLang": {"dflash_config": {"mask_token_id": 5, "target_layer_ids": [0, 1], "block_size": 6, "causal": False}},
}  # fmt: skip


@pytest.mark.parametrize("kind", DFLASH)
def test_published_dflash_heads_run(kind: str, target: str, tmp_path: Path) -> None:
    """With fields of either origin."""
    head = save_dflash(tmp_path / "some-head", target, **DFLASH[kind])
    backend = engine(target, head)
    read = backend.meter()
    assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)
    clean(backend)
    assert read()["draft_passes"] > 0


def test_a_dflash_head_of_other_layers_is_refused(target: str, tmp_path: Path) -> None:
    """By their type, rather than by what they lack."""
    head = save_dflash(
        tmp_path / "some-head", target, model_type="deepseek_v3", architectures=["DeepseekDFlashDraftModel"]
    )
    with pytest.raises(ModelError, match="some-head has layers of the type 'deepseek_v3'"):
        engine(target, head)


@pytest.mark.parametrize("start", ["model.mtp_block.0.", "model.mtp_layers.0.", "mtp_emb_norm.0."])
def test_an_mtp_layer_in_another_layout_is_refused(start: str, tmp_path: Path) -> None:
    """As Ernie and MiMo have it: the checkpoint would draft as a whole, as slowly as the target."""
    folder = Path(save_mtp(tmp_path / "some-target", "Qwen3.5", mtp_num_hidden_layers=1))
    held = load_file(folder / "model.safetensors")
    renamed = {start + name.removeprefix("mtp.") if name.startswith("mtp.") else name: tensor
               for name, tensor in held.items()}  # fmt: skip
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"MTP layer whose tensors are called otherwise.*{start}") as error:
        engine(str(folder), str(folder), "float32")
    assert "\n" not in str(error.value)


def test_memory_is_shared_with_the_head(target: str, tmp_path: Path) -> None:
    """What a head keeps of a token takes a part of ``kv_memory``, and is in the figure of its peak."""
    head = save_head(tmp_path / "some-head", target)
    plain, beside = engine(target, None), engine(target, head)  # type: ignore[arg-type]
    pools = [scheduler(backend).runner.forest.pool for backend in (plain, beside)]
    kept = (2 * 2 * 8 + 32) * 8  # keys and values of 2 heads of 8, and a state of 32, in float64
    assert pools[1].slot_bytes == pools[0].slot_bytes + kept
    assert pools[1].limit == 2 * 10**9 // pools[1].slot_bytes < pools[0].limit
    ask(beside, *FEW)
    figures = beside.meter()()
    assert figures["kv_peak_bytes"] == figures["kv_peak_tokens"] * pools[1].slot_bytes


def test_a_tree_of_few_candidates_keeps_the_texts(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a place's likeliest tokens leave out is never drafted, and changes nothing else."""
    monkeypatch.setattr(block_drafter, "LIKELIEST", 3)
    backend = engine(target, save_dflash(tmp_path / "some-head", target), drafter="dynamic")
    read = backend.meter()
    assert told(ask(backend, *FEW)) == Naive(target, "float64").expected(FEW)
    clean(backend)
    assert read()["drafted"] > 0
