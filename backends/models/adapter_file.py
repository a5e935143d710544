"""Reads a LoRA adapter in the format of the library peft: ``adapter_config.json`` and ``adapter_model.safetensors``.

The scale of a layer is alpha / r, and alpha / sqrt(r) for rank-stabilised adapters (Kalajdzievski, arXiv 2312.03732).
Whatever changes more of a model than its linear layers by a product of low rank is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import regex
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from treeagent.errors import ModelError

from .low_rank import Adapter, LowRank

Number = TypeVar("Number", int, float)

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of ``init_lora_weights`` that leave the weights of the base model as they were."""
SECONDS = 1.0
"""For one regular expression of the file."""


class AdapterFile(BaseModel):
    """The fields of ``adapter_config.json`` that matter when the adapter runs."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    r: PositiveInt = 8
    lora_alpha: float = Field(8, allow_inf_nan=False)
    use_rslora: bool = False
    target_modules: list[str] | str | None = None
    rank_pattern: dict[str, PositiveInt] = {}
    alpha_pattern: dict[str, float] = {}
    init_lora_weights: bool | str | None = True

    def refusal(self) -> str | None:
        """What it has that cannot run; None where all of it can."""
        if self.peft_type != "LORA":
            return f"it is of the kind {self.peft_type}"
        if self.init_lora_weights not in PLAIN_STARTS:
            return f"it was begun by {self.init_lora_weights}, which changes the weights of the base model"
        more: dict[str, Any] = self.__pydantic_extra__ or {}
        for name, what in _MORE.items():
            if (value := more.get(name)) not in (None, False, [], {}, "none"):
                return f"it has {what} ({name}: {value!r:.60})"
        return None

    def scale(self, path: str) -> float:
        """What the product of a layer's matrices is multiplied by."""
        alpha, rank = _of(self.alpha_pattern, path, self.lora_alpha), self.rank(path)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def rank(self, path: str) -> int:
        """The rank of a layer."""
        return _of(self.rank_pattern, path, self.r)

    def names(self, path: str) -> bool:
        """Whether a layer is among those that the file says to be changed."""
        if isinstance(self.target_modules, str):
            return regex.fullmatch(self.target_modules, path, timeout=SECONDS) is not None
        return any(path == name or path.endswith(f".{name}") for name in self.target_modules or ())

    @property
    def names_all(self) -> bool:
        """Whether ``target_modules`` says alone which layers are changed."""
        more: dict[str, Any] = self.__pydantic_extra__ or {}
        limits = ("layers_to_transform", "exclude_modules")
        return self.target_modules != "all-linear" and all(more.get(limit) is None for limit in limits)


_MORE = {
    "use_dora": "weights that are decomposed (DoRA)",
    "modules_to_save": "whole layers of its own",
    "trainable_token_indices": "tokens of its own",
    "target_parameters": "parameters that are no linear layers",
    "layer_replication": "layers that are repeated",
    "bias": "biases of its own",
    "lora_bias": "biases of its own",
    "alora_invocation_tokens": "tokens that switch it on (aLoRA)",
    "arrow_config": "a router",
    "use_bdlora": "blocks in place of matrices (BD-LoRA)",
}
"""Fields of a configuration that are to be empty, and what they say."""


def is_adapter(where: str) -> bool:
    """Whether a model's name is the folder of an adapter, without a model of its own."""
    folder = Path(where).expanduser()
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def load_adapter(where: str, model: Path | str, linears: Mapping[str, tuple[int, int]]) -> Adapter:
    """An adapter, in float32, for a model whose ``linears`` have these (outputs, inputs). Raises ModelError."""
    folder = Path(where).expanduser()
    file = _read_config(folder)
    if (why := file.refusal()) is not None:
        raise ModelError(f"the adapter {folder} cannot run: {why}. Expected plain LoRA of linear layers.")
    try:
        return _fitted(folder, file, model, linears)
    except (regex.error, TimeoutError) as error:
        raise ModelError(f"cannot load the adapter {folder}: a pattern of its {CONFIG} is wrong ({error})") from error


def _fitted(folder: Path, file: AdapterFile, model: Path | str, linears: Mapping[str, tuple[int, int]]) -> Adapter:
    """The adapter of a folder, held against the model. Raises ModelError, and regex.error for a wrong pattern."""
    tensors = _by_layer(folder, _read_tensors(folder))
    if strange := sorted(tensors.keys() - linears.keys()):
        raise ModelError(
            f"the adapter {folder} is of another model than {model}, which has no linear layer {strange[0]}. Give the "
            "adapter's base model."
        )
    layers = {path: _layer(folder, model, file, path, pair, linears[path]) for path, pair in tensors.items()}
    if any(path.endswith("lm_head") for path in layers):
        raise ModelError(f"the adapter {folder} cannot run: it changes lm_head. Expected LoRA of the decoder's layers.")
    missing = [path for path in linears if file.names_all and file.names(path) and path not in layers]
    if missing or not layers:
        which = f" (such as that of {missing[0]})" if missing else ""
        raise ModelError(
            f"the adapter {folder} lacks {len(missing) or 'all'} of the layers that its {CONFIG} names{which}. The "
            f"file {WEIGHTS} is incomplete, or of another model than {model}."
        )
    return Adapter(folder, layers)


def _read_config(folder: Path) -> AdapterFile:
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(
            f"the folder {folder} is no adapter: it has no {CONFIG}. Expected a folder as written by peft."
        )
    try:
        return AdapterFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ModelError(f"cannot load the adapter {folder}: {CONFIG}, {field}: {first['msg']}") from error
    except OSError as error:
        raise ModelError(f"cannot load the adapter {folder}: {CONFIG} cannot be read ({error})") from error


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = f" {PICKLED} could run code of its own and is not read." if (folder / PICKLED).is_file() else ""
        raise ModelError(f"the adapter {folder} has no {WEIGHTS}.{pickled} Save it with peft as safetensors.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot load the adapter {folder}: {WEIGHTS} cannot be read ({error})") from error


def _by_layer(folder: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The matrices ``A`` and ``B`` by layer. Raises ModelError where there are others, or one is missing."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        found = regex.fullmatch(regex.escape(PREFIX) + r"(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if found is None:
            raise ModelError(f"the adapter {folder} cannot run: it has {name}. Expected LoRA of linear layers alone.")
        layers.setdefault(found[1], {})[found[2]] = tensor
    for path, pair in layers.items():
        for letter in "AB":
            if letter not in pair:
                raise ModelError(f"the adapter {folder} lacks {path}.lora_{letter}: the file {WEIGHTS} is incomplete")
    return layers


def _layer(
    folder: Path,
    model: Path | str,
    file: AdapterFile,
    path: str,
    pair: Mapping[str, torch.Tensor],
    size: tuple[int, int],
) -> LowRank:
    down, up, rank = pair["A"], pair["B"], file.rank(path)
    outs, ins = size
    if down.dim() != 2 or up.dim() != 2 or len(down) != rank or up.shape[1] != rank:
        found = " and ".join("x".join(map(str, matrix.shape)) for matrix in (down, up))
        raise ModelError(f"the adapter {folder} has matrices of {found} for {path}, its {CONFIG} says rank {rank}")
    if (len(up), down.shape[1]) != (outs, ins):
        raise ModelError(
            f"the adapter {folder} is of another model than {model}: its {path} is {len(up)}x{down.shape[1]}, the "
            f"model's {outs}x{ins}. Give the adapter's base model."
        )
    if not (bool(down.isfinite().all()) and bool(up.isfinite().all())):
        raise ModelError(f"the adapter {folder} has numbers in {path} that are not finite: the file is damaged")
    return LowRank(down.float(), up.float() * file.scale(path))


def _of(patterns: Mapping[str, Number], path: str, otherwise: Number) -> Number:
    """The value of the first pattern that a path ends with, as peft looks them up."""
    for pattern, value in patterns.items():
        if regex.fullmatch(rf"(?:.*\.)?(?:{pattern})", path, timeout=SECONDS):
            return value
    return otherwise
