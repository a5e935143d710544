"""Loads a head for a target, or says in one line why it does not fit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from treeagent.errors import ModelError

from ...executor.model_runner import ModelRunner
from .block_runner import BlockRunner
from .checkpoint import EMBEDDING, HEAD, load_network, read_tensors, target_ids
from .dflash_config import DFlashConfig
from .dflash_decoder import DFlashDecoder
from .dflash_network import DFlashNetwork, bare_names
from .draft_vocabulary import DraftVocabulary
from .eagle3_compiled import eagle3_decoder
from .eagle3_config import Eagle3Config
from .eagle3_network import Eagle3Network, original_names
from .head_config import HeadConfig
from .head_runner import Embedding, HeadRunner
from .layered_decoder import LayeredDecoder
from .layered_runner import LayeredRunner
from .mtp_config import MtpConfig
from .mtp_decoder import MtpDecoder
from .mtp_network import MtpNetwork, mtp_tensors
from .pair_runner import PairRunner

SNAPSHOTS = "models--"
"""Start of the folder of a model in the cache of the Hugging Face hub: models--OWNER--NAME."""


def load_head(config: HeadConfig, draft: str, where: Path | str, target: ModelRunner, model: str) -> HeadRunner:
    """The head ``draft`` at ``where``, with the configuration of its files, for the target called ``model``.

    Raises ModelError for a head of another target, and for a checkpoint that is incomplete.
    """
    weights = target.weights
    width, layers = int(weights.model.config.hidden_size), len(weights.layers)
    check_target(config.verifier, draft, model, weights.where)
    features = config.features_of(layers)
    last = layers - 1 if isinstance(config, Eagle3Config) else layers
    if config.target_width != width or not all(0 <= layer <= last for layer in features):
        raise ModelError(
            f"the head {draft} was made for {config.verifier or 'another target'} (hidden size {config.target_width}, "
            f"states of the layers {', '.join(map(str, features))}), and the target {model} has a hidden size of "
            f"{width} and {layers} layers. Give the head of this target."
        )
    if isinstance(config, MtpConfig):
        return _load_mtp(config, draft, where, target, features)
    if isinstance(config, DFlashConfig):
        return _load_dflash(config, draft, where, target)
    return _load_eagle3(config, draft, where, target, features)


def check_target(verifier: str | None, draft: str, model: str, where: Path | str) -> None:
    """Raise ModelError where a head's configuration names another target, ``verifier``, than the model at ``where``."""
    if verifier is None:
        return
    path = Path(str(where))
    known = {_last(model), _last(str(where))}
    known |= {part.rsplit("--", 1)[1].casefold() for part in path.parts if part.startswith(SNAPSHOTS)}
    if _last(verifier) not in known:
        raise ModelError(
            f"the head {draft} was made for {verifier}, and the target is {model}. Give the head of this "
            "target; if the target is the same model under another name, write that name into the head's config.json "
            "(speculators_config.verifier.name_or_path)."
        )


def _load_eagle3(
    config: Eagle3Config, draft: str, where: Path | str, target: ModelRunner, features: tuple[int, ...]
) -> HeadRunner:
    layer, drafted = config.layer, config.draft_vocabulary
    tensors = original_names(read_tensors(where))
    ids = target_ids(drafted, layer.vocab_size, tensors, target.vocabulary, draft)
    said = (
        f"hidden_size {layer.hidden_size}, target's {config.target_width}, {len(features)} layers of the target, "
        f"draft_vocab_size {drafted}"
    )
    network = load_network(lambda: Eagle3Network(config, len(features)), tensors, draft, said, target.dtype)
    decoder = eagle3_decoder(network.to(target.device), ids, target.vocabulary)
    _check_width(EMBEDDING, layer.hidden_size, config.target_width, draft, missing=EMBEDDING not in tensors)
    embedding = _embedding(tensors, (layer.vocab_size, layer.hidden_size), draft, target)
    return PairRunner(decoder, embedding, target, features)


def _load_mtp(
    config: MtpConfig, draft: str, where: Path | str, target: ModelRunner, features: tuple[int, ...]
) -> HeadRunner:
    words = int(config.layer.vocab_size)
    target_ids(words, words, {}, target.vocabulary, draft)
    said = f"hidden_size {config.target_width}, {config.layer.num_attention_heads} heads of {config.layer.head_dim}"
    layers: list[MtpDecoder] = []
    for number in range(config.count):
        tensors = mtp_tensors(where, config.depth, draft, number)
        network = load_network(partial(MtpNetwork, config, number), tensors, draft, said, target.dtype)
        layers.append(MtpDecoder(network.to(target.device), config, target.decoder, draft, number))
        if not number:
            embedding = _embedding(tensors, (words, config.target_width), draft, target)
    if len(layers) > 1:
        return LayeredRunner(LayeredDecoder(layers), embedding, target, features)
    return PairRunner(layers[0], embedding, target, features)


def _load_dflash(config: DFlashConfig, draft: str, where: Path | str, target: ModelRunner) -> HeadRunner:
    layer, drafted = config.layer, config.draft_vocabulary
    tensors = bare_names(read_tensors(where))
    ids = target_ids(drafted, layer.vocab_size, tensors, target.vocabulary, draft).to(target.device)
    if config.mask >= layer.vocab_size:
        raise ModelError(
            f"the head {draft} has mask_token_id {config.mask} in its config.json, and a vocabulary of "
            f"{layer.vocab_size} tokens. The configuration is damaged."
        )
    said = (
        f"hidden_size {layer.hidden_size}, target's {config.target_width}, {len(config.features)} layers of the "
        f"target, draft_vocab_size {drafted}"
    )
    own = HEAD in tensors or drafted != target.vocabulary  # else the target's output head is used
    network = load_network(lambda: DFlashNetwork(config, head=own), tensors, draft, said, target.dtype)
    vocabulary = DraftVocabulary(ids, target.vocabulary)
    decoder = DFlashDecoder(network.to(target.device), vocabulary, target.decoder.head)
    for part, missing in ((EMBEDDING, EMBEDDING not in tensors), (HEAD, not own)):
        _check_width(part, layer.hidden_size, config.target_width, draft, missing=missing)
    embedding = _embedding(tensors, (layer.vocab_size, layer.hidden_size), draft, target)
    return BlockRunner(decoder, embedding, target, config.features)


def _check_width(part: str, width: int, target: int, draft: str, *, missing: bool) -> None:
    """Raise ModelError where a head lacks a part, and cannot use the target's because that has another width."""
    if missing and width != target:
        raise ModelError(
            f"the head {draft} lacks {part}: it has a hidden size of {width}, and cannot use that of the target, "
            f"{target} wide"
        )


def _embedding(tensors: dict[str, torch.Tensor], shape: tuple[int, int], draft: str, target: ModelRunner) -> Embedding:
    """The head's own embeddings, or the target's where it has none. Raises ModelError for those of another shape."""
    own = tensors.get(EMBEDDING)
    if own is None:
        return target.weights.embed
    if own.shape != shape:
        raise ModelError(
            f"the head {draft} has {EMBEDDING} of {'x'.join(map(str, own.shape))}, and its config.json says "
            f"{shape[0]}x{shape[1]}"
        )
    table = own.to(target.device, target.dtype)
    return lambda tokens: table.index_select(0, tokens)


def _last(name: str) -> str:
    return Path(name).name.casefold()
