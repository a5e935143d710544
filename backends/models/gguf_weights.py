"""The linear weights of a .gguf file as they are stored, beside those that transformers has expanded."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from treeagent.errors import ModelError

from .gguf_blocks import KINDS, split
from .sources import explained
from .weight_blocks import WeightBlocks

PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
"""Linear layers of a decoder layer, in transformers and in llama.cpp."""


def check_types(file: Path) -> None:
    """Raise ModelError for a file with a tensor that the library gguf cannot expand, naming the first of them."""
    from gguf import GGUFReader, quants  # noqa: PLC0415  # a library that only such files need

    with explained(file, "its list of tensors"):
        first = {tensor.tensor_type: tensor for tensor in reversed(GGUFReader(file).tensors)}
    for kind, tensor in first.items():
        try:
            quants.dequantize(tensor.data[:1], kind)
        except NotImplementedError as error:
            raise ModelError(
                f"the model {file} has {tensor.name} in the type {kind.name}, which the library gguf cannot expand. "
                "Expected a file in Q4_K_M, Q5_K_M, Q6_K or Q8_0."
            ) from error


class GgufWeights:
    """Finds the blocks of a model's weights, by the layers' paths in the network."""

    def __init__(self, file: Path, heads: int, kv_heads: int) -> None:
        """``heads`` and ``kv_heads``: of files for Llama the rows of queries and keys lie in another order."""
        self._file, self._heads = file, {"attn_q": heads, "attn_k": kv_heads}

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        """Read when the first one is wanted, which not every decoder does."""
        from gguf import GGUFReader  # noqa: PLC0415  # a library that only such files need

        return {tensor.name: tensor for tensor in GGUFReader(self._file).tensors}

    def blocks(self, path: str, weight: torch.Tensor) -> WeightBlocks | None:
        """Those of ``weight`` (out, in), whose numbers they are exactly; None where they cannot be had."""
        from gguf import GGML_QUANT_SIZES  # noqa: PLC0415

        tensor, part = self._tensor(path)
        if tensor is None or weight.dtype != torch.float32 or tensor.tensor_type.name not in KINDS:
            return None
        numbers = split(tensor.tensor_type.name, tensor.data, GGML_QUANT_SIZES[tensor.tensor_type][1])
        integers, scales, lowest = (None if each is None else torch.from_numpy(each) for each in numbers)
        assert integers is not None  # noqa: S101  # all types have some
        assert scales is not None  # noqa: S101
        stored = WeightBlocks(integers, scales, lowest)
        if stored.integers.shape != weight.shape:
            return None
        if torch.equal(stored.expanded(), weight):
            return stored
        heads = self._heads.get(part)
        if heads is None or len(weight) % (2 * heads):
            return None
        order = torch.arange(len(weight)).view(heads, -1, 2).transpose(1, 2).reshape(-1)
        moved = stored.rows(order)
        return moved if torch.equal(moved.expanded(), weight) else None

    def _tensor(self, path: str) -> tuple[Any, str]:
        """What a file has of a layer, and the name of the part; None where it has nothing."""
        if path == "lm_head":
            return self._tensors.get("output.weight", self._tensors.get("token_embd.weight")), "output"
        _, _, layer, part = path.split(".", 3)  # model.layers.0.self_attn.q_proj
        name = PARTS.get(part, "")
        return self._tensors.get(f"blk.{layer}.{name}.weight"), name
