"""Writes a widened checkpoint shard by shard: one layer, or the embeddings, is in memory beside the small model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from treeagent.errors import ConfigError, ModelError

from ...models.llama_checkpoint import WEIGHTS as SINGLE
from ...models.llama_network import LlamaConfigFile, LlamaNetwork
from ...models.model import DTYPES
from .label import MARK
from .matrices import WideMatrices
from .shape import DecoderShape, check_fit

INDEX = "model.safetensors.index.json"
OTHER_FORMATS = (".safetensors", ".bin", ".index.json", ".pt")
"""Ends of the names of files that are not copied from the small model's folder."""
DTYPE_NAMES = ("float32", "bfloat16", "float16")
SPARE = 256 * 2**20
"""Bytes that stay free on the disk."""


@dataclass(frozen=True, slots=True)
class SmallModel:
    """The model whose function is kept."""

    name: str
    where: Path
    network: LlamaNetwork
    """In float32."""

    @property
    def config(self) -> LlamaConfigFile:
        """Its configuration."""
        return self.network.config

    @property
    def shape(self) -> DecoderShape:
        """Its sizes."""
        return DecoderShape.of(self.config.to_dict())


def load_small(name: str, where: Path | str) -> SmallModel:
    """A model to be widened, on the CPU. Raises ModelError for all but plain Llama models in one file of weights."""
    try:
        if not isinstance(where, Path):
            raise ValueError("it is no folder")
        config = json.loads((where / "config.json").read_bytes())
        known = {key: value for key, value in config.items() if not key.startswith("_")}  # names and paths
        network = LlamaNetwork(LlamaConfigFile.model_validate_json(json.dumps(known)))
        tensors = {key: tensor.float() for key, tensor in load_file(where / SINGLE).items()}
        if network.config.tie_word_embeddings:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        network.load_state_dict(tensors, assign=True)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model {name} cannot be widened. Expected a folder with a plain Llama model (no biases, default "
            f"rotary positions) in one {SINGLE}, such as smollm2 or mini ({error})"
        ) from error
    return SmallModel(name, where, network.eval())


def wide_config(small: SmallModel, large: DecoderShape, like: str, dtype: str) -> dict[str, Any]:
    """``config.json`` of the widened model."""
    config = {name: value for name, value in small.config.to_dict().items() if value is not None and name != "exits"}
    config.pop("name", None)
    epsilon = small.config.rms_norm_eps * small.shape.hidden / large.hidden
    return {
        **config,
        **large.fields(),
        "rms_norm_eps": epsilon,
        "dtype": dtype,
        MARK: {"model": small.name, "like": like},
    }


def write_widened(
    small: SmallModel,
    large: DecoderShape,
    like: str,
    out: Path,
    *,
    dtype: str = "bfloat16",
    device: torch.device | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the folder ``out``; matrices are made on ``device``. An interruption leaves no such folder behind.

    Raises ConfigError for a shape that does not fit, a folder that exists and a disk that is too full.
    """
    check_fit(small.shape, large)
    if dtype not in DTYPE_NAMES:
        raise ConfigError(f"a checkpoint is written in one of {', '.join(DTYPE_NAMES)}, not {dtype!r}")
    if out.exists():
        raise ConfigError(f"{out} exists; give another --out, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_disk(out.parent, large.parameters(small.config.vocab_size) * DTYPES[dtype].itemsize)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            folder = Path(scratch) / "model"
            shutil.copytree(small.where, folder, ignore=_weights)
            state = {name: tensor.detach() for name, tensor in small.network.state_dict().items()}
            if small.config.tie_word_embeddings:
                state.pop("lm_head.weight", None)
            matrices = WideMatrices(small.shape, large, state, DTYPES[dtype], device or torch.device("cpu"))
            _write_shards(matrices, large, folder, progress)
            _write_json(folder / "config.json", wide_config(small, large, like, dtype))
            folder.rename(out)
    except (OSError, SafetensorError) as error:  # the latter where the disk fills up
        raise ConfigError(f"the widened model cannot be written to {out}: {error}") from error


def _write_shards(matrices: WideMatrices, large: DecoderShape, folder: Path, progress: Callable[[str], None]) -> None:
    """The tensors of each group in a file of its own, and the index of them all."""
    places: dict[str, str] = {}
    size, count = 0, large.layers + 2
    for number, (group, tensors) in enumerate(matrices.groups(), 1):
        file = f"model-{number:05}-of-{count:05}.safetensors"
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / file, {"format": "pt"}
        )
        places.update(dict.fromkeys(tensors, file))
        size += sum(tensor.nbytes for tensor in tensors.values())
        progress(f"{group} ({number} of {count}), {size / 2**30:.2f} GiB")
        tensors.clear()  # before the next group is made
    _write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def _check_disk(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise ConfigError(
            f"the widened model takes {size / 2**30:,.1f} GiB, and {folder} has {free / 2**30:,.1f} GiB left. Free "
            "some space, or give --out on another disk"
        )


def _weights(folder: str, names: list[str]) -> list[str]:
    """What of the small model's folder is not copied."""
    return [
        name
        for name in names
        if name == "config.json" or name.endswith(OTHER_FORMATS) or (Path(folder) / name).is_dir()
    ]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
