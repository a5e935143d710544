"""Reads the weights of an EAGLE-3 head, in the format of ``speculators`` and in the original one.

The formats differ in the name of the layer (``layers.0``, ``midlayer``) and in what is left out. A reduced draft
vocabulary has two maps: ``d2t`` (W,), what is added to a draft token's id to give the target's, and ``t2d`` (V,),
whether a token of the target can be drafted. W draft vocabulary, V vocabulary of the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
import torch
from safetensors.torch import load_file

from treeagent.errors import ModelError

from ....models.sources import explained
from .eagle3_network import Eagle3Network
from .head_config import HeadConfig

FILES = ("*.safetensors", "*.bin")
MAPS = ("d2t", "t2d")
EMBEDDING = "embed_tokens.weight"


def read_tensors(where: Path | str) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, under the original names. Raises ModelError."""
    with explained(where, "its weights"):
        folder = where if isinstance(where, Path) else Path(_fetched(where))
        paths = next((found for kind in FILES if (found := sorted(folder.glob(kind)))), [])
        tensors: dict[str, torch.Tensor] = {}
        for path in paths:
            whole = path.suffix == ".safetensors"
            tensors |= load_file(path) if whole else torch.load(path, map_location="cpu", weights_only=True)
    if not tensors:
        raise ModelError(f"the head {where} has no weights: expected *.safetensors or pytorch_model.bin in its folder")
    return {_original(name): tensor for name, tensor in tensors.items()}


def load_network(
    config: HeadConfig, tensors: Mapping[str, torch.Tensor], features: int, draft: str, dtype: torch.dtype
) -> Eagle3Network:
    """The network with the weights of a checkpoint. Raises ModelError where some are missing or of another width."""
    try:
        with torch.device("meta"):
            network = Eagle3Network(config, features)
    except ValueError as error:
        raise ModelError(f"the head {draft} cannot run: it has {error}.") from error
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ModelError(
            f"the head {draft} lacks {len(missing)} of its weights (such as {missing[0]}). The checkpoint is "
            "incomplete, or another kind of head than its config.json says."
        )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ModelError(
                f"the head {draft} has {name} of {_size(tensors[name].shape)}, and its config.json says {_size(shape)} "
                f"(hidden_size {config.layer.hidden_size}, target's {config.target_width}, {features} layers of the "
                f"target, draft_vocab_size {config.draft_vocabulary})"
            )
    weights = {name: tensors[name].to(dtype) for name in expected}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def target_ids(config: HeadConfig, tensors: Mapping[str, torch.Tensor], vocabulary: int, draft: str) -> torch.Tensor:
    """Ids (W,) that the draft tokens have in the target's vocabulary of V. Raises ModelError."""
    own, d2t, t2d = config.draft_vocabulary, tensors.get("d2t"), tensors.get("t2d")
    if config.layer.vocab_size != vocabulary or (t2d is not None and len(t2d) != vocabulary):
        said = config.layer.vocab_size if t2d is None else len(t2d)
        raise ModelError(
            f"the head {draft} is for a vocabulary of {said} tokens, and the target has {vocabulary}. Give the head of "
            "this target."
        )
    drafted = None if t2d is None else t2d.bool().nonzero()[:, 0]
    if d2t is None and drafted is None:
        if own != vocabulary:
            raise ModelError(
                f"the head {draft} drafts {own} of {vocabulary} tokens, and has no map of them (d2t, t2d). The "
                "checkpoint is incomplete."
            )
        return torch.arange(own)
    ids = drafted if d2t is None else torch.arange(len(d2t)) + d2t.long()
    assert ids is not None  # noqa: S101  # one of the two is there
    distinct = len(ids) == own and len(set(ids.tolist())) == own and int(ids.min()) >= 0 and int(ids.max()) < vocabulary
    if not distinct or (drafted is not None and not torch.equal(ids.sort().values, drafted)):
        raise ModelError(
            f"the head {draft} has maps of its vocabulary that contradict each other or its draft_vocab_size of {own} "
            f"(d2t names {len(ids)} tokens of {vocabulary}"
            + ("" if drafted is None else f", t2d {len(drafted)}")
            + "). The checkpoint is damaged."
        )
    return ids


def _original(name: str) -> str:
    name = name.removeprefix("model.")
    return f"midlayer.{name.removeprefix('layers.0.')}" if name.startswith("layers.0.") else name


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape))


def _fetched(where: str) -> str:
    folder: str = huggingface_hub.snapshot_download(where, allow_patterns=["config.json", *FILES])
    return folder
