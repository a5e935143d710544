"""The bundled model as a .gguf file in float32, so that llama.cpp can run it; and llama.cpp's server in a process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
"""Of a layer's parts, in transformers and in llama.cpp."""


def write(folder: Path, file: Path) -> Path:
    """The Llama-style checkpoint of ``folder`` with its byte-level tokenizer, which has no merges, as ``file``."""
    config = json.loads((folder / "config.json").read_text())
    out = gguf.GGUFWriter(file, "llama")
    out.add_name("mini")
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
    _add_tokenizer(out, json.loads((folder / "tokenizer.json").read_text()), config)
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.float().numpy()
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                values = _interleaved(values, config[heads])
        out.add_tensor(_renamed(name), np.ascontiguousarray(values))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


def _add_tokenizer(
    out: gguf.GGUFWriter, tokenizer: dict[str, dict[str, dict[str, int]]], config: dict[str, int]
) -> None:
    ids = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    size = config["vocab_size"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("llama-bpe")  # whole words first, like ignore_merges
    out.add_token_list([ids.get(number, f"[PAD{number}]") for number in range(size)])
    kinds = {config["eos_token_id"]: gguf.TokenType.CONTROL}
    out.add_token_types(
        [kinds.get(n, gguf.TokenType.NORMAL if n in ids else gguf.TokenType.UNUSED) for n in range(size)]
    )
    out.add_token_merges(["\u0100 \u0100"])  # llama.cpp wants one; two zero bytes do not occur
    out.add_eos_token_id(config["eos_token_id"])
    out.add_add_bos_token(False)


def _interleaved(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rotary pairs side by side, as llama.cpp wants them, instead of half a head apart."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _renamed(name: str) -> str:
    plain = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in plain:
        return plain[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{NAMES[part.removesuffix('.weight')]}.weight"


PROGRAM = """
import sys, xllamacpp
given = xllamacpp.CommonParams()
given.model.path, given.model_alias = sys.argv[1], {"mini"}
given.hostnames, given.port = ["127.0.0.1"], 0
given.n_ctx, given.n_parallel, given.warmup = 4096, 4, False
given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(given)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The API's base of a llama.cpp server in a process of its own, which ends with this one at the latest."""
    command = [sys.executable, "-c", PROGRAM, str(model)]
    with (
        tempfile.TemporaryFile("w+") as log,  # a pipe that nobody reads would fill up and stop the server
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            if not address:
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not start: {log.read()[-2000:]}")
            yield f"{address}/v1"
        finally:
            process.kill()
