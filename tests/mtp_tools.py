"""Random MTP layers for tiny targets, in every layout, and what such a layer says of a text without any cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from seed_tools import SHAPE, save_model
from state_families import DELTA, EXPERTS, let_remember
from torch.nn import functional as F

from treeagent.backends.models.loader import load_model

GLM = {
    **{**SHAPE, "num_key_value_heads": 2, "head_dim": 16, "moe_intermediate_size": 16, "n_routed_experts": 4},
    **{"num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "pad_token_id": 0},
}
TARGETS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Qwen3.5": ("Qwen3_5Text", DELTA, "mtp."),
    "Qwen3.5-MoE": ("Qwen3_5MoeText", {**DELTA, **EXPERTS}, "mtp."),
    "Qwen3-Next": ("Qwen3Next", {**DELTA, **EXPERTS}, "mtp."),
    "GLM-4.5": ("Glm4Moe", GLM, "model.layers.2."),
    "Qwen3": ("Qwen3", {**SHAPE, "num_key_value_heads": 2, "head_dim": 16}, "mtp_layers.0."),
}
"""Prefix of the configuration's class, a tiny shape, and how the names of the MTP layer's tensors begin."""
PARTS = {
    "mtp.": ("fc", "pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm", "layers.0."),
    "model.layers.2.": ("eh_proj", "enorm", "hnorm", "shared_head.norm", ""),
    "mtp_layers.0.": ("input_proj", "token_layernorm", "hidden_layernorm", "final_layernorm", ""),
}
"""What the projection, the norms of embeddings, states and outputs, and the layer are called."""

Change = Callable[[dict[str, torch.Tensor]], Any]


def save_mtp(folder: Path, family: str, *, change: Change | None = None, apart: bool = False, **said: Any) -> str:
    """Write a random target with its MTP layer inside, unless that stands alone; ``said`` goes into its configuration.

    ``change`` is made in the layer's tensors, ``apart`` stores the matrices of its experts one by one.
    """
    prefix, shape, start = TARGETS[family]
    save_model(folder, getattr(transformers, f"{prefix}Config")(**shape), seed=2)
    let_remember(folder / "model.safetensors")
    if start == "mtp_layers.0.":
        return str(folder)
    tensors = {f"{start}{name}": tensor for name, tensor in random_mtp(folder, PARTS[start], apart=apart).items()}
    if change is not None:
        change(tensors)
    whole = load_file(folder / "model.safetensors") | tensors
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(folder, **said)
    return str(folder)


def save_alone(folder: Path, target: str, *, change: Change | None = None, **said: Any) -> str:
    """Write a random MTP layer in the format of ``speculators``."""
    folder.mkdir(parents=True, exist_ok=True)
    start = "mtp_layers.0."
    tensors = {f"{start}{name}": tensor for name, tensor in random_mtp(Path(target), PARTS[start]).items()}
    if change is not None:
        change(tensors)
    save_file(tensors, folder / "model.safetensors")
    layer = json.loads((Path(target) / "config.json").read_text()) | said.pop("layer", {})
    whole = {
        "architectures": ["MTPDraftModel"],
        "speculators_model_type": "mtp",
        "speculators_config": {"algorithm": "mtp", "verifier": {"name_or_path": target}},
        "transformer_layer_config": layer,
    }
    (folder / "config.json").write_text(json.dumps(whole | said))
    return str(folder)


def write_config(folder: Path, **said: Any) -> None:
    """Change some settings of a configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def own_block(target: Path) -> tuple[Any, Any]:
    """A layer of the target's kind that attends, and its model, with random weights and transformers' own attention."""
    config = transformers.AutoConfig.from_pretrained(target, trust_remote_code=False)
    config.num_hidden_layers, config.layer_types, config.first_k_dense_replace = 1, ["full_attention"], 0
    model = transformers.AutoModel.from_config(config, attn_implementation="eager")
    return model.layers[0], model


def random_mtp(target: Path, parts: tuple[str, str, str, str, str], *, apart: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of an MTP layer, whose parts are called so; no norm is the identity."""
    torch.manual_seed(3)
    block, model = own_block(target)
    width, (projection, *norms, layer) = model.config.hidden_size, parts
    tensors = {f"{layer}{name}": tensor.clone() for name, tensor in block.state_dict().items()}
    tensors |= {f"{name}.weight": torch.rand(width) for name in norms}
    tensors[f"{projection}.weight"] = 0.25 * torch.randn(width, 2 * width)
    for name, tensor in list(tensors.items()):
        if tensor.ndim == 1 and "bias" not in name:
            tensors[name] = torch.rand(tensor.shape) + 0.5
        if apart and ".experts." in name:
            for number, matrix in enumerate(tensors.pop(name)):
                path, kind = name.rsplit(".", 1)
                kinds = ("gate_proj", "up_proj") if kind == "gate_up_proj" else (kind,)
                for part, half in zip(kinds, matrix.chunk(len(kinds)), strict=True):
                    tensors[f"{path}.{number}.{part}.weight"] = half.contiguous()
    return tensors


class PlainMtp:
    """An MTP layer over whole texts, by transformers' own layer: what the engine's passes are held against."""

    def __init__(self, head: str, target: str, start: str, dtype: torch.dtype) -> None:
        self.target = load_model(Path(target), str(dtype).removeprefix("torch."), torch.device("cpu")).network
        self.block, self._model = own_block(Path(target))
        projection, *norms, layer = PARTS[start]
        held = {
            name.removeprefix(start): tensor.to(dtype)
            for name, tensor in load_file(Path(head) / "model.safetensors").items()
            if name.startswith(start)
        }
        self._projection = held.pop(f"{projection}.weight")
        weights = [held.pop(f"{name}.weight") for name in norms]
        self.block.to(dtype).load_state_dict({name.removeprefix(layer): tensor for name, tensor in held.items()})
        self._norms = [type(self._model.norm)(len(weight), eps=1e-6).to(dtype) for weight in weights]
        for norm, weight in zip(self._norms, weights, strict=True):
            norm.weight.data.copy_(weight)
        assert self._model.config.rms_norm_eps in (1e-6, 1e-5)
        for norm in self._norms:
            for name in ("eps", "variance_epsilon"):
                if hasattr(norm, name):
                    setattr(norm, name, self._model.config.rms_norm_eps)
        self.ids = torch.arange(self._model.config.vocab_size)

    def logits(self, tokens: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """Logits (V,) after a text and drafted tokens."""
        with torch.inference_mode():
            base = self.target.model(input_ids=torch.tensor([list(tokens[:-1])]), use_cache=False)
            hidden, read = base.last_hidden_state[0], list(tokens[1:])
            for token in path:
                hidden = torch.cat((hidden, self._outputs(hidden, read)[-1:]))
                read.append(token)
            logits: torch.Tensor = self.target.lm_head(self._outputs(hidden, read)[-1])
            return logits

    def _outputs(self, hidden: torch.Tensor, read: Sequence[int]) -> torch.Tensor:
        of_embedding, of_state, of_output = self._norms
        embedded = self.target.get_input_embeddings()(torch.tensor(list(read)))
        x = F.linear(torch.cat((of_embedding(embedded), of_state(hidden)), dim=1), self._projection)[None]
        count = len(read)
        mask = torch.full((count, count), -torch.inf, dtype=x.dtype).triu(1)[None, None]
        positions = torch.arange(count)[None]
        turns = self._model.rotary_emb(x, positions)
        out = self.block(x, position_embeddings=turns, attention_mask=mask, position_ids=positions)
        normed: torch.Tensor = of_output(out[0])
        return normed
