"""Loads a head for a target, or says in one line why it does not fit."""

from __future__ import annotations

from pathlib import Path

import torch

from treeagent.errors import ModelError

from ...executor.model_runner import ModelRunner
from .checkpoint import EMBEDDING, load_network, read_tensors, target_ids
from .head_config import HeadConfig
from .head_decoder import HeadDecoder
from .head_runner import Embedding, HeadRunner

SNAPSHOTS = "models--"
"""Start of the folder of a model in the cache of the Hugging Face hub: models--OWNER--NAME."""


def load_head(config: HeadConfig, draft: str, where: Path | str, target: ModelRunner, model: str) -> HeadRunner:
    """The head ``draft`` at ``where``, with the configuration of its files, for the target called ``model``.

    Raises ModelError for a head of another target, and for a checkpoint that is incomplete.
    """
    weights = target.weights
    width, layers = int(weights.model.config.hidden_size), len(weights.layers)
    check_target(config, draft, model, weights.where)
    features = config.features_of(layers)
    if config.target_width != width or not all(0 <= layer < layers for layer in features):
        raise ModelError(
            f"the head {draft} was made for {config.verifier or 'another target'} (hidden size {config.target_width}, "
            f"states of the layers {', '.join(map(str, features))}), and the target {model} has a hidden size of "
            f"{width} and {layers} layers. Give the head of this target."
        )
    tensors = read_tensors(where)
    ids = target_ids(config, tensors, target.vocabulary, draft)
    network = load_network(config, tensors, len(features), draft, target.dtype).to(target.device)
    decoder = HeadDecoder(network, ids, target.vocabulary)
    return HeadRunner(decoder, _embedding(config, tensors, draft, target), target, features)


def check_target(config: HeadConfig, draft: str, model: str, where: Path | str) -> None:
    """Raise ModelError where a head's configuration names another target than the model at ``where``."""
    if config.verifier is None:
        return
    path = Path(str(where))
    known = {_last(model), _last(str(where))}
    known |= {part.rsplit("--", 1)[1].casefold() for part in path.parts if part.startswith(SNAPSHOTS)}
    if _last(config.verifier) not in known:
        raise ModelError(
            f"the head {draft} was made for {config.verifier}, and the target is {model}. Give the head of this "
            "target; if the target is the same model under another name, write that name into the head's config.json "
            "(speculators_config.verifier.name_or_path)."
        )


def _embedding(config: HeadConfig, tensors: dict[str, torch.Tensor], draft: str, target: ModelRunner) -> Embedding:
    """The head's own embeddings, or the target's where it has none. Raises ModelError."""
    own, layer = tensors.get(EMBEDDING), config.layer
    if own is None:
        if layer.hidden_size != config.target_width:
            raise ModelError(
                f"the head {draft} lacks {EMBEDDING}: it has a hidden size of {layer.hidden_size}, and cannot use the "
                f"embeddings of the target {config.target_width} wide"
            )
        return target.weights.embed
    if own.shape != (layer.vocab_size, layer.hidden_size):
        raise ModelError(
            f"the head {draft} has {EMBEDDING} of {'x'.join(map(str, own.shape))}, and its config.json says "
            f"{layer.vocab_size}x{layer.hidden_size}"
        )
    table = own.to(target.device, target.dtype)
    return lambda tokens: table.index_select(0, tokens)


def _last(name: str) -> str:
    return Path(name).name.casefold()
