"""The head of a process reward model, from the checkpoint's file of weights.

Two forms are known: a classifier of steps, one layer (``score.weight``, as transformers' token classification) or two
with a ReLU between (``score.0.weight`` and ``score.2.weight``, Qwen2.5-Math-PRM), with the classes wrong and right; and
one value a token (``v_head.summary.weight``, Skywork-o1 Open PRM, as in the package trl), or a classifier of one class.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import safe_open
from torch import nn

from treeagent.errors import ModelError

from .sources import explained

KINDS = ("ForTokenClassification", "ForSequenceClassification", "ForProcessRewardModel", "ForRewardModel")
"""Ends of architectures that have a reward head in place of one for words."""
_FIRST, _SECOND = ("score.weight", "score.0.weight", "v_head.summary.weight", "v_head.weight"), "score.2.weight"
_FILES, _INDEX = "model.safetensors", "model.safetensors.index.json"


def reward_head(where: Path | str, dtype: torch.dtype) -> nn.Module | None:
    """A layer from hidden states (..., E) to logits (..., 2) of right and wrong; None where there is no head.

    The model's weights are on this machine already. Raises ModelError for a head of another form.
    """
    with explained(where, "its weights"):
        tensors = _tensors(where)
    first = next((name for name in _FIRST if name in tensors), None)
    if first is None:
        return None
    layers = [_linear(tensors, name) for name in (first, _SECOND) if name in tensors]
    last = layers[-1]
    if last.out_features > 2 or (first == "score.0.weight") != (len(layers) == 2):
        raise ModelError(
            f"the model {where} has a head of {last.out_features} classes in {len(layers)} layer(s) of its file "
            f"({first}), expected two classes, wrong and right, or one value"
        )
    layers[-1] = _right_and_wrong(last)
    head = layers[0] if len(layers) == 1 else nn.Sequential(layers[0], nn.ReLU(), layers[1])
    return head.to(dtype).eval()


def _right_and_wrong(layer: nn.Linear) -> nn.Linear:
    """The same layer with the outputs right and wrong; one value is the log-odds of right."""
    outputs = nn.Linear(layer.in_features, 2, bias=layer.bias is not None)
    with torch.no_grad():
        for name, given in layer.named_parameters():
            rows = given.flip(0) if len(given) == 2 else torch.cat((given, torch.zeros_like(given)))
            getattr(outputs, name).copy_(rows)
    return outputs


def _linear(tensors: Mapping[str, torch.Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[name], tensors.get(f"{name.removesuffix('weight')}bias")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _tensors(where: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of the head; none for a model in another format than safetensors."""
    tensors: dict[str, torch.Tensor] = {}
    for path in _files(where):
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(("score.", "v_head."))]  # noqa: SIM118
            tensors |= {name: file.get_tensor(name) for name in names}
    return tensors


def _files(where: Path | str) -> list[Path]:
    if isinstance(where, Path):
        return sorted(where.glob("*.safetensors")) if where.is_dir() else []
    known: list[Any] = [huggingface_hub.try_to_load_from_cache(where, name) for name in (_FILES, _INDEX)]
    folders = [Path(path).parent for path in known if isinstance(path, str)]
    return sorted(folders[0].glob("*.safetensors")) if folders else []
