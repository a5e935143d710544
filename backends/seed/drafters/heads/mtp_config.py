"""MTP layers by their configuration: those inside a target's checkpoint, and those saved alone by ``speculators``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers

from treeagent.errors import ModelError

from ....models.sources import explained
from .head_file import HeadFile, layers_said

FAMILIES = ("qwen3", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "glm4_moe")
"""Types of targets whose MTP layers can run, as transformers calls them."""
COUNTS = ("mtp_num_hidden_layers", "num_nextn_predict_layers", "num_mtp_layers", "n_mtp_layers")
"""What configurations call the number of MTP layers."""
MOST = 16
"""Layers, as many as a draft has levels."""
ONE_LAYER = {
    "num_hidden_layers": 1,
    "layer_types": ["full_attention"],
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
    "first_k_dense_replace": 0,
}
"""A model whose only layer is like the MTP layer: it attends, and has experts where the model has any."""


@dataclass(frozen=True, slots=True)
class MtpConfig:
    """The MTP layers of a target, which are alike."""

    layer: Any
    """Of transformers, of a model with one layer that is like this one."""
    depth: int
    """Layers of its target; where MTP layers are numbered with them, this is the first one's number."""
    count: int = 1
    """How many there are."""
    verifier: str | None = None
    """The name or path of its target; None where its configuration does not say."""

    @property
    def target_width(self) -> int:
        """Hidden size of its target."""
        width: int = self.layer.hidden_size
        return width

    def features_of(self, layers: int) -> tuple[int, ...]:
        """What enters the output head of a target with so many layers."""
        return (layers,)


def mtp_config(file: HeadFile, said: Mapping[str, Any], draft: str) -> MtpConfig:
    """The MTP layer of a configuration. Raises ModelError."""
    own = layers_said(file, said)
    own = dict(own.get("text_config") or own)
    kind = str(own.pop("model_type", None))
    if kind not in FAMILIES:
        raise ModelError(
            f"the draft {draft} has an MTP layer of the type {kind!r}; those of {', '.join(FAMILIES)} can run. Give "
            "another draft, or a table: drafter=ngram."
        )
    count = next((group[name] for group in (own, said) for name in COUNTS if group.get(name) is not None), 1)
    if not isinstance(count, int) or not 1 <= count <= MOST:
        raise ModelError(
            f"the draft {draft} has {count} MTP layers by its config.json, and 1 to {MOST} are expected. Give another "
            "draft, or a table: drafter=ngram."
        )
    for name in ("quantization_config", "auto_map"):
        own.pop(name, None)
    with explained(draft, "its configuration"):
        layer = transformers.AutoConfig.for_model(kind, **own)
        depth = int(layer.num_hidden_layers)
        for name, value in ONE_LAYER.items():
            if hasattr(layer, name):
                setattr(layer, name, value)
    return MtpConfig(layer, depth, count, file.verifier)
