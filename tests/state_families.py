"""Tiny random models of the families with states beside keys and values, as the engine runs them and as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from seed_tools import SHAPE, save_model
from test_seed_sliding import paths, tree_logits

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.executor.weights import Weights

KINDS = ["linear_attention", "full_attention", "linear_attention", "linear_attention"]
DELTA = {
    **{**SHAPE, "num_hidden_layers": 4, "layer_types": KINDS, "num_key_value_heads": 2, "head_dim": 16},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "pad_token_id": 0},
    **{"linear_value_head_dim": 12},
}
EXPERTS = {
    **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    **{"num_experts": 4, "num_experts_per_tok": 2},
}
SHORT = {
    **{**SHAPE, "num_hidden_layers": 4, "num_key_value_heads": 2, "pad_token_id": 0, "block_auto_adjust_ff_dim": False},
    "layer_types": ["conv", "full_attention", "conv", "conv"],
}
MAMBA = {
    **{**SHAPE, "num_hidden_layers": 4, "num_key_value_heads": 2, "pad_token_id": 0, "mamba_n_heads": 4},
    **{"mamba_n_groups": 2, "mamba_d_state": 8, "mamba_chunk_size": 16, "shared_intermediate_size": 24},
    **{"num_experts_per_tok": 2},
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3.5": ("Qwen3_5Text", DELTA),
    "Qwen3.5-MoE": ("Qwen3_5MoeText", {**DELTA, **EXPERTS}),
    "Qwen3-Next": ("Qwen3Next", {**DELTA, **EXPERTS}),
    "LFM2": ("Lfm2", SHORT),
    "LFM2-MoE": ("Lfm2Moe", {**SHORT, **EXPERTS, "num_dense_layers": 1}),
    "Granite 4": ("GraniteMoeHybrid", {**MAMBA, "layer_types": KINDS, "num_local_experts": 4}),
    "Bamba": ("Bamba", {**MAMBA, "attn_layer_indices": [1]}),
}
"""Prefix of the configuration's class, and a tiny shape."""


WHOLE = ("Qwen3.5", "LFM2", "Granite 4")
"""One family of each kind of layer, which is tried in every setting."""
TREE = [-1, 0, 1, 2, 1, 4, 5, 6, 7, -1, 9, 10]


def write_models(where: Path) -> dict[str, str]:
    """A tiny model of each family, by its folder."""
    return {family: write_model(where, family) for family in FAMILIES}


def write_model(where: Path, family: str) -> str:
    """A tiny model; returns its folder."""
    prefix, shape = FAMILIES[family]
    folder = save_model(where / family, getattr(transformers, f"{prefix}Config")(**shape), seed=2)
    let_remember(Path(folder) / "model.safetensors")
    return folder


def let_remember(file: Path) -> None:
    """Let states decay by a few percent a token, as random ones forget all that was two tokens ago."""
    tensors = load_file(file)
    generator = torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        if name.endswith(("A_log", "dt_bias")):
            tensor.copy_(-1 - 2 * torch.rand(tensor.shape, generator=generator))
    save_file(tensors, file, metadata={"format": "pt"})


class Pair:
    """A model as the engine runs it, and as it is."""

    def __init__(self, folder: str, *, whole: bool) -> None:
        """``whole``: every setting is tried with it."""
        self.whole = whole
        self.weights = Weights(load_model(Path(folder), "float32", torch.device("cpu")), folder)
        self.network = load_model(Path(folder), "float32", torch.device("cpu")).network

    @torch.inference_mode()
    def plain(self, text: list[int]) -> torch.Tensor:
        """The model's own logits (T, V) of a text."""
        logits: torch.Tensor = self.network(input_ids=torch.tensor([text]), use_cache=False).logits[0]
        return logits

    def state_bytes(self) -> int:
        """Of one state."""
        states = self.weights.new_pool(1 << 20).states
        assert states is not None
        return states.row_bytes

    def worst(self, prompt: int) -> float:
        """The greatest difference of a tree's logits from the plain ones, after a prompt that is read in two passes."""
        generator = torch.Generator().manual_seed(prompt)
        tokens = torch.randint(1, self.weights.vocabulary, (prompt + len(TREE),), generator=generator).tolist()
        logits = tree_logits(self.weights, tokens, prompt, TREE)
        leaves = [path for node, path in enumerate(paths(TREE)) if node not in TREE]
        rights = [self.plain(tokens[:prompt] + [tokens[prompt + place] for place in path]) for path in leaves]
        return max(
            difference(logits[node], right[prompt + depth])
            for path, right in zip(leaves, rights, strict=True)
            for depth, node in enumerate(path)
        )


def difference(own: torch.Tensor, right: torch.Tensor) -> float:
    """Of logits, as a part of the largest."""
    return float((own - right).abs().max() / right.abs().max())
