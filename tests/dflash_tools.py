"""Random DFlash heads for tiny targets, in both formats, and what such a head says of a text without any cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from treeagent.backends.models.loader import load_model

HEADS, KEY_HEADS, DIM, INNER, LAYERS, BLOCK, MASK = 4, 2, 8, 40, 3, 6, 5
FEATURES = (0, 1)
"""Layers of the target whose outputs are read, as z-lab counts them."""


def save_dflash(
    folder: Path,
    target: str,
    *,
    drafted: int | None = None,
    speculators: bool = False,
    embedded: bool = False,
    kinds: Sequence[str] = ("full_attention",) * LAYERS,
    **said: Any,
) -> str:
    """Write a random head that drafts so many of the target's tokens (None: all, by the target's output head).

    ``embedded``: with embeddings of its own; ``said`` goes into its config.
    """
    config = transformers.AutoConfig.from_pretrained(target, trust_remote_code=False)
    width, vocabulary = int(config.hidden_size), int(config.vocab_size)
    layer = {
        **{"model_type": "qwen3", "hidden_size": width, "intermediate_size": INNER, "num_attention_heads": HEADS},
        **{"num_key_value_heads": KEY_HEADS, "head_dim": DIM, "num_hidden_layers": LAYERS, "rms_norm_eps": 1e-6},
        **{"rope_theta": 10000.0, "vocab_size": vocabulary, "max_position_embeddings": 256},
        **{"layer_types": list(kinds), "sliding_window": 9, "use_sliding_window": "sliding_attention" in kinds},
    }
    if speculators:
        whole: dict[str, Any] = {
            **{"architectures": ["DFlashDraftModel"], "speculators_model_type": "dflash", "block_size": BLOCK},
            "speculators_config": {"algorithm": "dflash", "verifier": {"name_or_path": target}},
            "transformer_layer_config": layer,
            "aux_hidden_state_layer_ids": [number + 1 for number in FEATURES],
            **{"mask_token_id": MASK, "draft_vocab_size": drafted or vocabulary},
        }
    else:
        flash = {"mask_token_id": MASK, "target_layer_ids": list(FEATURES)}
        whole = {"architectures": ["DFlashDraftModel"], **layer, "block_size": BLOCK, "dflash_config": flash}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(whole | said))
    torch.manual_seed(1)
    tensors = {"fc.weight": 0.2 * torch.randn(width, len(FEATURES) * width), "norm.weight": torch.rand(width) + 0.5}
    tensors["hidden_norm.weight"] = torch.rand(width) + 0.5
    sizes = {
        "self_attn.q_proj": (HEADS * DIM, width),
        "self_attn.k_proj": (KEY_HEADS * DIM, width),
        "self_attn.v_proj": (KEY_HEADS * DIM, width),
        "self_attn.o_proj": (width, HEADS * DIM),
        "mlp.gate_proj": (INNER, width),
        "mlp.up_proj": (INNER, width),
        "mlp.down_proj": (width, INNER),
    }
    norms = {"input_layernorm": width, "post_attention_layernorm": width, "self_attn.q_norm": DIM}
    for number in range(LAYERS):
        start = f"layers.{number}."
        tensors |= {f"{start}{name}.weight": 0.3 * torch.randn(size) for name, size in sizes.items()}
        for name, size in {**norms, "self_attn.k_norm": DIM}.items():
            tensors[f"{start}{name}.weight"] = torch.rand(size) + 0.5
    if embedded:
        tensors["embed_tokens.weight"] = torch.randn(vocabulary, width)
    if drafted is not None:
        ids = torch.randperm(vocabulary)[:drafted].sort().values
        tensors |= {"d2t": ids - torch.arange(drafted), "t2d": torch.zeros(vocabulary).bool().scatter_(0, ids, True)}
        tensors["lm_head.weight"] = 0.3 * torch.randn(drafted, width)
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


class PlainDFlash:
    """A head over a whole text, one block at a time: what the engine's passes are held against."""

    def __init__(self, head: str, target: str, dtype: torch.dtype) -> None:
        said = json.loads((Path(head) / "config.json").read_text())
        own = said.get("transformer_layer_config", said)
        self._kinds, self._window = own["layer_types"], own["sliding_window"]
        self._both_ways = said.get("sliding_window_non_causal", False)
        self._multiplier, self._cap = said.get("output_multiplier", 1.0), said.get("final_logit_softcapping")
        self._first = 0 if said.get("sample_from_anchor") else 1
        self._held = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(Path(head) / "model.safetensors").items()
        }
        self.target = load_model(Path(target), str(dtype).removeprefix("torch."), torch.device("cpu")).network
        vocabulary = int(self.target.config.vocab_size)
        self.ids = torch.arange(vocabulary)
        if "t2d" in self._held:
            self.ids = self._held["t2d"].nonzero()[:, 0]

    def logits(self, tokens: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """Logits (W,) of the place after a text and as many drafted tokens, whatever these are."""
        with torch.inference_mode():
            out = self.target(input_ids=torch.tensor([list(tokens[:-1])]), output_hidden_states=True, use_cache=False)
            read = torch.cat([out.hidden_states[layer + 1][0] for layer in FEATURES], dim=1)
            context = self._norm("hidden_norm", F.linear(read, self._held["fc.weight"]))  # (C, E)
            embedding = self._held.get("embed_tokens.weight", self.target.get_input_embeddings().weight)
            x = embedding[[tokens[-1], *[MASK] * (BLOCK - 1)]]
            for number, kind in enumerate(self._kinds):
                x = self._layer(f"layers.{number}.", kind, x, context)
            head = self._held.get("lm_head.weight", self.target.get_output_embeddings().weight)
            logits: torch.Tensor = F.linear(self._norm("norm", x), head)[self._first + len(path)] * self._multiplier
            return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)

    def _layer(self, start: str, kind: str, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        y = self._norm(f"{start}input_layernorm", x)
        both, before = torch.cat((context, y)), len(context)
        query = self._turned(self._norm(f"{start}self_attn.q_norm", self._heads(f"{start}self_attn.q_proj", y)), before)
        key = self._turned(self._norm(f"{start}self_attn.k_norm", self._heads(f"{start}self_attn.k_proj", both)), 0)
        value = self._heads(f"{start}self_attn.v_proj", both)
        key, value = (tensor.repeat_interleave(HEADS // KEY_HEADS, dim=1) for tensor in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query, key) / DIM**0.5
        if kind == "sliding_attention":
            ahead = before + torch.arange(BLOCK)[:, None] - torch.arange(before + BLOCK)
            hidden = ahead.abs() >= self._window if self._both_ways else (ahead < 0) | (ahead >= self._window)
            scores = scores.masked_fill(hidden, -torch.inf)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).reshape(BLOCK, -1)
        x = x + self._linear(f"{start}self_attn.o_proj", mixed)
        y = self._norm(f"{start}post_attention_layernorm", x)
        inner = F.silu(self._linear(f"{start}mlp.gate_proj", y)) * self._linear(f"{start}mlp.up_proj", y)
        return x + self._linear(f"{start}mlp.down_proj", inner)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._held[f"{name}.weight"])

    def _heads(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self._linear(name, x).view(len(x), -1, DIM)

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self._held[f"{name}.weight"]
        return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()

    @staticmethod
    def _turned(x: torch.Tensor, first: int) -> torch.Tensor:
        """Queries or keys (T, heads, D) at positions from ``first`` on."""
        turns = 1 / 10000.0 ** (torch.arange(0, DIM, 2).float() / DIM)  # in float32, as the weights' trainers had them
        angles = torch.arange(first, first + len(x)).float()[:, None] * turns
        cos, sin = (torch.cat((part, part), dim=1)[:, None].to(x.dtype) for part in (angles.cos(), angles.sin()))
        return x * cos + torch.cat((-x[..., DIM // 2 :], x[..., : DIM // 2]), dim=-1) * sin
