"""GGUF weights in blocks: kept as the integers of the file where compiled kernels run, with the very same numbers."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from seed_tools import MIX, SHAPE, Naive, ask, clean, fixed_costs, save_model, told
from test_seed_kernels import Passes, needs_kernels

from treeagent.backends.bench.peers import gguf_file
from treeagent.backends.models.weight_blocks import as_blocks
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.compiled_decoder import CompiledDecoder
from treeagent.backends.seed.kernels import structures


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama whose matrices are Q8_0, all of them: their widths are multiples of a block."""
    folder = tmp_path_factory.mktemp("gguf")
    config = transformers.LlamaConfig(**{**SHAPE, "intermediate_size": 64}, num_key_value_heads=2)
    model = save_model(folder / "model", config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_file, "NO_MERGES", ["2 4"])  # transformers wants one that gives a token of the vocabulary
        return str(gguf_file.write(Path(model), folder / "model.gguf", splitter="llama-bpe"))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_weights_of_a_file_come_back_bit_by_bit(kind: str) -> None:
    """As they were quantised, with blocks of zeros among them; one number that is no multiple, and they do not."""
    values = np.random.default_rng(0).normal(size=(70, 96)).astype(np.float32)
    values[3, 32:64] = 0
    quantised = gguf.GGMLQuantizationType[kind]
    expanded = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(values, quantised), quantised))
    blocks = as_blocks([expanded, expanded[:5]])
    assert blocks is not None
    assert blocks.integers.dtype == torch.int8
    again = blocks.integers.view(75, 3, 32) * blocks.scales[..., None]
    assert torch.equal(again.view(75, 96), torch.cat([expanded, expanded[:5]]))
    expanded[69, 95] += 1e-4
    assert as_blocks([expanded]) is None


def test_other_weights_are_left_as_they_are() -> None:
    """Random ones, other types of numbers, and widths that are no multiple of a block."""
    assert as_blocks([torch.randn(4, 64)]) is None
    assert as_blocks([torch.zeros(4, 64, dtype=torch.bfloat16)]) is None
    assert as_blocks([torch.zeros(4, 48)]) is None


@needs_kernels
def test_logits_are_those_of_expanded_weights_bit_by_bit(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over chains and trees; the layers take little more than a byte for each weight."""
    small = Passes(file, "float32")
    decoder = small.weights.decoder
    assert isinstance(decoder, CompiledDecoder)
    assert decoder.in_blocks == 1
    logits = small.run(small.segments())
    with monkeypatch.context() as patch:
        patch.setattr(structures, "as_blocks", lambda _weights: None)
        large = Passes(file, "float32")
    assert isinstance(large.weights.decoder, CompiledDecoder)
    assert large.weights.decoder.in_blocks == 0
    assert torch.equal(logits, large.run(large.segments()))


def test_texts_are_those_of_the_expanded_model(file: str) -> None:
    """With a twin, and the engine's figures say what is kept small."""
    with fixed_costs():
        engine = SeedBackend(file, draft="twin", device="cpu")
        engine.load()
    assert told(ask(engine, *MIX)) == Naive(file, "float32").expected(MIX)
    clean(engine)
    assert "of the GGUF file's linear weights kept in 8 bits" in engine.meter()()["kernels"]
    with fixed_costs():
        rounded = SeedBackend(file, dtype="int8", device="cpu")
        rounded.load()
    assert "GGUF" not in rounded.meter()()["kernels"]
