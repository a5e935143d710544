"""The network of an MTP layer: a layer of the target's kind over pairs of a state and the next token's embedding.

As in DeepSeek-V3 (arXiv 2412.19437, section 2.2) both are normed, and projected side by side to one input. The state of
the first pair is what enters the target's output head, further into a draft it is the layer's own output after its
norm, as in Qwen3-Next and in FastMTP (arXiv 2509.18362). T pairs, E hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from treeagent.errors import ModelError

from ...executor.tree_attention import NAME, register
from .checkpoint import read_tensors, tensor_names
from .mtp_config import MtpConfig

QWEN = {
    "fc.": "projection.",
    "pre_fc_norm_embedding.": "embedding_norm.",
    "pre_fc_norm_hidden.": "hidden_norm.",
    "norm.": "norm.",
    "layers.0.": "block.",
    "embed_tokens.": "embed_tokens.",
}
NUMBERED = {
    "eh_proj.": "projection.",
    "enorm.": "embedding_norm.",
    "hnorm.": "hidden_norm.",
    "shared_head.norm.": "norm.",
    "shared_head.": "",  # the target's own, once more
    "embed_tokens.": "",
    "": "block.",
}
SPECULATORS = {
    "input_proj.": "projection.",
    "token_layernorm.": "embedding_norm.",
    "hidden_layernorm.": "hidden_norm.",
    "final_layernorm.": "norm.",
    "": "block.",
}
OTHER = re.compile(r"(.*\.)?mtp[_.].+")
"""Names of tensors of MTP layers in other layouts."""
EXPERT = re.compile(r"(.+\.experts\.)(\d+)\.(gate|up|down)_proj\.weight")


def layouts(depth: int, number: int = 0) -> dict[str, dict[str, str]]:
    """For each way to store an MTP layer of a target with so many layers: the start of its tensors' names, and what
    parts are called; "" for parts that are not needed. ``number``: of the MTP layer, from 0 on.
    """
    numbered = {f"{start}layers.{depth + number}.": NUMBERED for start in ("model.", "model.language_model.")}
    qwen = {(f"layers.{number}." if own == "layers.0." else own): called for own, called in QWEN.items()}
    return {"mtp.": qwen, "model.mtp.": qwen, f"mtp_layers.{number}.": SPECULATORS, **numbered}


class MtpNetwork(nn.Module):
    """One MTP layer, without its output head, which is the target's, and embeddings, which mostly are."""

    def __init__(self, config: MtpConfig, number: int = 0) -> None:
        """``number``: of the layer, from 0 on. The weights lie where torch's default device says."""
        super().__init__()
        register()
        model: Any = transformers.AutoModel.from_config(config.layer, attn_implementation=NAME)
        width, norm = config.target_width, type(model.norm)
        self.embedding_norm, self.hidden_norm, self.norm = (
            norm(width, eps=config.layer.rms_norm_eps) for _ in range(3)
        )
        self.projection = nn.Linear(2 * width, width, bias=False)
        self.block = model.layers[0]
        self.block.self_attn.layer_idx = number  # that of its keys and values in the pool
        with torch.device("cpu"):  # it has no weights, and its frequencies are needed
            self.rotary = type(model.rotary_emb)(config.layer)

    def pair(self, embedded: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The layer's input (..., E) for embeddings and states (..., E)."""
        both = torch.cat((self.embedding_norm(embedded), self.hidden_norm(hidden)), dim=-1)
        return self.projection(both)  # type: ignore[no-any-return]


def mtp_start(where: Path | str, depth: int, number: int = 0) -> str | None:
    """How the names of an MTP layer's tensors begin in a checkpoint; None where it has none. Raises ModelError."""
    names = tensor_names(where)
    return next((start for start in layouts(depth, number) if any(name.startswith(start) for name in names)), None)


def other_mtp_tensors(where: Path | str) -> list[str]:
    """The names of tensors that seem to be an MTP layer's, in no known layout. Raises ModelError."""
    return sorted(name for name in tensor_names(where) if OTHER.fullmatch(name))


def mtp_tensors(where: Path | str, depth: int, draft: str, number: int = 0) -> dict[str, torch.Tensor]:
    """The tensors of an MTP layer in a checkpoint, by the names of :class:`MtpNetwork`. Raises ModelError."""
    start = mtp_start(where, depth, number)
    if start is None:
        raise ModelError(
            f"the head {draft} has no MTP layer{f' {number}' if number else ''} in its *.safetensors. Expected tensors "
            f"called {', '.join(f'{start}*' for start in layouts(depth, number))}."
        )
    return renamed(read_tensors(where, start), layouts(depth, number)[start])


def renamed(tensors: Mapping[str, torch.Tensor], parts: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The tensors by the names of :class:`MtpNetwork`, with the matrices of its experts stacked."""
    named: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[tuple[str, int], torch.Tensor]] = {}
    for name, tensor in tensors.items():
        start = next((start for start in parts if name.startswith(start)), None)
        if start is None or not parts[start]:
            continue
        own = parts[start] + name.removeprefix(start)
        if found := EXPERT.fullmatch(own):
            experts.setdefault(found[1], {})[found[3], int(found[2])] = tensor
        else:
            named[own] = tensor
    for path, matrices in experts.items():
        numbers = sorted({number for _, number in matrices})
        if len(matrices) == 3 * len(numbers) and numbers == list(range(len(numbers))):  # else some are reported missing
            gate, up, down = (
                torch.stack([matrices[kind, number] for number in numbers]) for kind in ("gate", "up", "down")
            )
            named |= {f"{path}gate_up_proj": torch.cat((gate, up), dim=1), f"{path}down_proj": down}
    return named
