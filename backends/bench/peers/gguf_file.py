"""Write a Llama-style checkpoint as a .gguf file for llama.cpp.

``python -m treeagent.backends.bench.peers.gguf_file FOLDER FILE`` writes matrices as Q8_0 (blocks of 32 numbers of 8
bits with a scale), with ``--dtype`` in another type that the library gguf quantises to, or everything in float32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
"""Parts of a layer, in transformers and in llama.cpp."""
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
"""The other tensors."""
DTYPES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "float32")
"""Types of the matrices."""
Quantiser = Callable[[str, NDArray[np.float32]], tuple[NDArray[np.uint8], Any]]
"""Of the name of a matrix in llama.cpp and its numbers (out, in) gives its bytes and their type."""
NO_MERGES = ["\u0100 \u0100"]
"""Of two zero bytes, which do not occur: llama.cpp wants at least one merge."""


def write(
    folder: Path, file: Path, *, dtype: str = "q8_0", splitter: str = "smollm", quantise: Quantiser | None = None
) -> Path:
    """The checkpoint of ``folder`` with its byte-level BPE tokenizer as ``file``.

    ``dtype`` is one of :data:`DTYPES`; ``splitter`` names llama.cpp's rule for the pieces that merges stay within.
    ``quantise`` makes the matrices, in place of ``dtype``.
    """
    quantise = quantise or _quantiser(dtype)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    out = gguf.GGUFWriter(file, "llama")
    out.add_name(folder.name)
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(config["vocab_size"])
    _add_tokenizer(out, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config, splitter)
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.float().numpy()
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                values = _interleaved(values, config[heads])
        values = np.ascontiguousarray(values)
        if quantise is not None and values.ndim > 1:
            data, kind = quantise(_renamed(name), values)
            out.add_tensor(_renamed(name), data, raw_dtype=kind)
        else:
            out.add_tensor(_renamed(name), values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


def _quantiser(dtype: str) -> Quantiser | None:
    """All matrices in one type; None for float32."""
    if dtype == "float32":
        return None
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    return lambda _name, values: (gguf.quants.quantize(values, kind), kind)


def _add_tokenizer(out: Any, tokenizer: dict[str, Any], config: dict[str, Any], splitter: str) -> None:
    ids = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    ids |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    special = {token["id"] for token in tokenizer["added_tokens"]} | {config["eos_token_id"]}
    kinds = gguf.TokenType
    size = config["vocab_size"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(splitter)
    out.add_token_list([ids.get(number, f"[PAD{number}]") for number in range(size)])
    out.add_token_types(
        [kinds.CONTROL if n in special else kinds.NORMAL if n in ids else kinds.UNUSED for n in range(size)]
    )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    out.add_token_merges(merges or NO_MERGES)
    out.add_eos_token_id(config["eos_token_id"])
    out.add_add_bos_token(False)


def _interleaved(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rotary pairs side by side, as llama.cpp wants them, instead of half a head apart."""
    rows, columns = values.shape
    pairs: NDArray[np.float32] = values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
    return pairs.reshape(rows, columns)


def _renamed(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{NAMES[part.removesuffix('.weight')]}.weight"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="q8_0")
    chosen = parser.parse_args()
    write(chosen.folder, chosen.file, dtype=chosen.dtype)


if __name__ == "__main__":
    main()
