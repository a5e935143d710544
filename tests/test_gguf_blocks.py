"""GGUF weights in blocks: kept as the integers of the file where compiled kernels run, with the very same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from seed_tools import MIX, SHAPE, Naive, ask, clean, fixed_costs, save_model, told
from test_seed_kernels import Passes, needs_kernels

from treeagent.backends.bench.peers import gguf_file
from treeagent.backends.models.gguf_blocks import KINDS, split
from treeagent.backends.models.gguf_weights import GgufWeights
from treeagent.backends.models.weight_blocks import WeightBlocks, stacked
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.compiled_decoder import CompiledDecoder
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ModelError

HALVES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2),
          "Q6_K": (208,)}  # fmt: skip
"""Where the numbers in float16 of a block begin."""
MIXED = {"attn_v": "Q6_K", "ffn_down": "Q6_K", "token_embd": "Q6_K", "output": "Q6_K"}
"""What Q4_K_M has in another type, in every second layer at least."""


def random_blocks(kind: str, rows: int, columns: int, seed: int = 0, scale: float = 0.02) -> NDArray[np.uint8]:
    """A tensor (out, bytes) of any type, with random bytes but for the numbers in float16."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    chance = np.random.default_rng(seed)
    data = chance.integers(0, 256, size=(rows * columns // block, size), dtype=np.uint8)
    for start in HALVES[kind]:
        numbers = (chance.normal(size=(len(data), 1)) * scale).astype(np.float16)
        data[:, start : start + 2] = numbers.view(np.uint8)
    return data.reshape(rows, -1)


def blocks_of(kind: str, data: NDArray[np.uint8]) -> WeightBlocks:
    """As they are read."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    integers, scales, lowest = split(kind, data, size)
    return WeightBlocks(*(None if each is None else torch.from_numpy(each) for each in (integers, scales, lowest)))


def expanded(kind: str, data: NDArray[np.uint8]) -> torch.Tensor:
    """By the library gguf."""
    return torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_all_types_are_those_that_the_library_expands(kind: str) -> None:
    """Bit by bit, of random bytes, with integers that fit into a byte."""
    data = random_blocks(kind, 70, 512, scale=1.0)
    blocks = blocks_of(kind, data)
    assert blocks.integers.dtype == torch.int8
    assert blocks.size in {16, 32}
    assert torch.equal(blocks.expanded(), expanded(kind, data))
    data[3, 40] ^= 255
    assert not torch.equal(blocks.expanded(), expanded(kind, data))


def test_layers_of_several_types_stand_side_by_side() -> None:
    """In blocks of the smallest size, as queries, keys and values of Q4_K_M."""
    parts = [(kind, random_blocks(kind, 5, 256, seed)) for seed, kind in enumerate(("Q4_K", "Q6_K", "Q8_0"))]
    whole = stacked([blocks_of(*part) for part in parts])
    assert whole.size == 16
    assert torch.equal(whole.expanded(), torch.cat([expanded(*part) for part in parts]))


def write(folder: Path, kind: str, other: gguf_file.Quantiser | None = None) -> str:
    """A tiny Llama whose matrices are all of one type, or as in Q4_K_M, with bytes of their own; or by ``other``."""
    config = transformers.LlamaConfig(
        **{**SHAPE, "hidden_size": 256, "intermediate_size": 256, "initializer_range": 0.05}, num_key_value_heads=2
    )
    model = save_model(folder / "model", config)
    made: list[str] = []

    def quantise(name: str, values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], Any]:
        own = kind
        if kind == "Q4_K_M":
            own = next((other for part, other in MIXED.items() if f"{part}." in name), "Q4_K")
        made.append(name)
        data = random_blocks(own, *values.shape, len(made), 0.02 if own in {"Q4_0", "Q5_0", "Q4_1", "Q5_1"} else 0.001)
        return data, gguf.GGMLQuantizationType[own]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_file, "NO_MERGES", ["2 4"])  # transformers wants one that gives a token of the vocabulary
        file = gguf_file.write(Path(model), folder / f"{kind}.gguf", splitter="llama-bpe", quantise=other or quantise)
    return str(file)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file as people have them."""
    return write(tmp_path_factory.mktemp("gguf"), "Q4_K_M")


@needs_kernels
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q5_K", "Q4_K_M"])
def test_logits_are_those_of_expanded_weights_bit_by_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over chains and trees; the layers take little more than a byte for each weight."""
    file = write(tmp_path, kind)
    small = Passes(file, "float32")
    decoder = small.weights.decoder
    assert isinstance(decoder, CompiledDecoder)
    assert decoder.in_blocks == 1
    logits = small.run(small.segments())
    assert 0.1 < float(logits.std()) < 100
    monkeypatch.setattr(GgufWeights, "blocks", lambda *_arguments: None)
    large = Passes(file, "float32")
    assert isinstance(large.weights.decoder, CompiledDecoder)
    assert large.weights.decoder.in_blocks == 0
    assert torch.equal(logits, large.run(large.segments()))


@needs_kernels
def test_a_weight_that_the_file_does_not_have_stays_expanded(mixed: str) -> None:
    """What is kept is held against what transformers has loaded, number by number."""
    stored = GgufWeights(Path(mixed), 4, 2)
    weight = Naive(mixed, "float32").model.network.model.layers[0].mlp.up_proj.weight.detach()
    path = "model.layers.0.mlp.up_proj"
    assert stored.blocks(path, weight) is not None
    changed = weight.clone()
    changed[-1, -1] += 1
    assert stored.blocks(path, changed) is None
    assert stored.blocks(path, weight[:-1]) is None
    assert stored.blocks(path, weight.double()) is None
    assert stored.blocks("model.layers.9.mlp.up_proj", weight) is None
    assert stored.blocks("model.layers.0.mlp.other", weight) is None


def test_a_type_that_cannot_be_expanded_is_refused_by_name(tmp_path: Path) -> None:
    """With the tensor that has it, in one line from both backends; types without blocks of their own are expanded."""

    def quantise(name: str, values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], Any]:
        own = gguf.GGMLQuantizationType.Q8_K if name == "blk.1.ffn_up.weight" else gguf.GGMLQuantizationType.IQ4_XS
        block, size = gguf.GGML_QUANT_SIZES[own]
        return np.zeros((len(values), values.shape[1] // block * size), dtype=np.uint8), own

    file = write(tmp_path, "wrong", quantise)
    for kind in (SeedBackend, TransformersBackend):
        with pytest.raises(ModelError, match=r"has blk\.1\.ffn_up\.weight in the type Q8_K.*Expected a file") as error:
            kind(file, device="cpu").load()
        assert "\n" not in str(error.value)


def test_texts_are_those_of_the_expanded_model(mixed: str) -> None:
    """With a twin, and the engine's figures say what is kept small."""
    with fixed_costs():
        engine = SeedBackend(mixed, draft="twin", device="cpu")
        engine.load()
    assert told(ask(engine, *MIX)) == Naive(mixed, "float32").expected(MIX)
    clean(engine)
    assert "of the GGUF file's linear weights kept in 8 bits" in engine.meter()()["kernels"]
    with fixed_costs():
        rounded = SeedBackend(mixed, dtype="int8", device="cpu")
        rounded.load()
    assert "GGUF" not in rounded.meter()()["kernels"]
