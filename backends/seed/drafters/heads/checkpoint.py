"""Reads the weights of a head from its checkpoint, or from its target's.

EAGLE-3 and DFlash heads may have a reduced draft vocabulary with two maps: ``d2t`` (W,), what is added to a draft
token's id to give the target's, and ``t2d`` (V,), whether a token of the target can be drafted. W draft vocabulary,
V vocabulary of the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import huggingface_hub
import torch
from safetensors import safe_open
from torch import nn

from treeagent.errors import ModelError

from ....models.sources import explained

FILES = ("*.safetensors", "*.bin")
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"

NetworkType = TypeVar("NetworkType", bound=nn.Module)


def read_tensors(where: Path | str, start: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint whose names begin with ``start``, without it. Raises ModelError where none does."""
    tensors: dict[str, torch.Tensor] = {}
    with explained(where, "its weights"):
        for path in _files(where):
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    tensors |= {name: file.get_tensor(name) for name in file.keys() if name.startswith(start)}  # noqa: SIM118
            else:
                tensors |= torch.load(path, map_location="cpu", weights_only=True)
    tensors = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    if not tensors:
        raise ModelError(f"the head {where} has no weights: expected *.safetensors or pytorch_model.bin in its folder")
    return tensors


def tensor_names(where: Path | str) -> list[str]:
    """The names of all tensors of a checkpoint's *.safetensors. Raises ModelError."""
    names: list[str] = []
    with explained(where, "its weights"):
        for path in _files(where):
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    names += file.keys()
    return names


def load_network(
    make: Callable[[], NetworkType], tensors: Mapping[str, torch.Tensor], draft: str, said: str, dtype: torch.dtype
) -> NetworkType:
    """The network with the weights of a checkpoint. Raises ModelError where some are missing or of another width.

    ``said``: the sizes that the checkpoint's configuration gives.
    """
    try:
        with torch.device("meta"):
            network = make()
    except ValueError as error:
        raise ModelError(f"the head {draft} cannot run: it has {error}.") from error
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ModelError(
            f"the head {draft} lacks {len(missing)} of its weights (such as {missing[0]}). The checkpoint is "
            "incomplete, or another kind of head than its config.json says."
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ModelError(
                f"the head {draft} has {name} of {_size(tensor.shape)}, and its config.json says {_size(shape)} "
                f"({said})"
            )
        if not tensor.is_floating_point() or tensor.itemsize < 2:
            raise ModelError(
                f"the head {draft} has {name} in {str(tensor.dtype).removeprefix('torch.')}. Expected weights that are "
                "not quantised: float32, bfloat16 or float16."
            )
    weights = {name: tensors[name].to(dtype) for name in expected}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def target_ids(own: int, whole: int, tensors: Mapping[str, torch.Tensor], vocabulary: int, draft: str) -> torch.Tensor:
    """Ids (W,) that the draft tokens have in the target's ``vocabulary`` of V. Raises ModelError.

    ``own`` and ``whole``: W and V by the head's configuration.
    """
    d2t, t2d = tensors.get("d2t"), tensors.get("t2d")
    if whole != vocabulary or (t2d is not None and len(t2d) != vocabulary):
        said = whole if t2d is None else len(t2d)
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


def _files(where: Path | str) -> list[Path]:
    """Those with the weights, of the first kind that there is."""
    patterns = ["config.json", *FILES]
    folder = (
        where if isinstance(where, Path) else Path(huggingface_hub.snapshot_download(where, allow_patterns=patterns))
    )
    return next((found for kind in FILES if (found := sorted(folder.glob(kind)))), [])


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape))
