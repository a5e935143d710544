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
EXPERT = re.compile(r"(.+\.experts\.)(\d+)\.(gate|up|down)_proj\.weight")


def layouts(depth: int) -> dict[str, dict[str, str]]:
    """For each way to store the MTP layer of a target with so many layers: the start of its tensors' names, and what
    parts are called; "" for parts that are not needed.
    """
    numbered = {f"{start}layers.{depth}.": NUMBERED for start in ("model.", "model.language_model.")}
    return {"mtp.": QWEN, "model.mtp.": QWEN, "mtp_layers.0.": SPECULATORS, **numbered}


class MtpNetwork(nn.Module):
    """One MTP layer, without its output head, which is the target's, and embeddings, which mostly are."""

    def __init__(self, config: MtpConfig) -> None:
        """The weights lie where torch's default device says."""
        super().__init__()
        register()
        model: Any = transformers.AutoModel.from_config(config.layer, attn_implementation=NAME)
        width, norm = config.target_width, type(model.norm)
        self.embedding_norm, self.hidden_norm, self.norm = (
            norm(width, eps=config.layer.rms_norm_eps) for _ in range(3)
        )
        self.projection = nn.Linear(2 * width, width, bias=False)
        self.block = model.layers[0]
        with torch.device("cpu"):  # it has no weights, and its frequencies are needed
            self.rotary = type(model.rotary_emb)(config.layer)

    def pair(self, embedded: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The layer's input (..., E) for embeddings and states (..., E)."""
        both = torch.cat((self.embedding_norm(embedded), self.hidden_norm(hidden)), dim=-1)
        return self.projection(both)  # type: ignore[no-any-return]


def mtp_start(where: Path | str, depth: int) -> str | None:
    """How the names of the MTP layer's tensors begin in a checkpoint; None where it has none. Raises ModelError."""
    names = tensor_names(where)
    return next((start for start in layouts(depth) if any(name.startswith(start) for name in names)), None)


def mtp_tensors(where: Path | str, depth: int, draft: str) -> dict[str, torch.Tensor]:
    """The tensors of the MTP layer in a checkpoint, by the names of :class:`MtpNetwork`. Raises ModelError."""
    start = mtp_start(where, depth)
    if start is None:
        raise ModelError(
            f"the head {draft} has no MTP layer in its *.safetensors. Expected tensors called "
            f"{', '.join(f'{start}*' for start in layouts(depth))}."
        )
    return renamed(read_tensors(where, start), layouts(depth)[start])


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
