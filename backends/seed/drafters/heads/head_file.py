"""What the ``config.json`` of a draft says of a head, whatever its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from ....models.sources import explained

EAGLE3, MTP, DFLASH = "eagle3", "mtp", "dflash"
OTHER_HEADS = ("dflash2", "eagle", "dspark", "medusa", "mlp_speculator", "hydra", "p_eagle", "peagle")
"""Kinds of heads that are known by name and cannot be run."""


class HeadFile(BaseModel):
    """The fields that tell the kind of a head and its target."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    architectures: list[str] = []
    speculators_model_type: str | None = None
    draft_vocab_size: PositiveInt | None = None
    speculators_config: dict[str, Any] = {}
    target_model_name_or_path: str | None = None
    transformer_layer_config: dict[str, Any] | None = None

    @property
    def kind(self) -> str | None:
        """The kind of head; None for the configuration of a model."""
        said = (self.speculators_model_type or "").lower()
        names = [said] if said else [name.lower() for name in self.architectures]
        found = [kind for kind in (EAGLE3, MTP, DFLASH, *OTHER_HEADS) if any(kind in name for name in names)]
        if found:
            return max(found, key=len)  # "dflash2" contains "dflash"
        return said or (EAGLE3 if self.draft_vocab_size is not None else None)

    @property
    def verifier(self) -> str | None:
        """The name or path of the head's target; None where the configuration does not say."""
        named = self.speculators_config.get("verifier") or {}
        return named.get("name_or_path") or self.target_model_name_or_path


class LayerFile(BaseModel):
    """The fields of a head's layers that are read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: str = "llama"
    hidden_act: str = "silu"
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    num_hidden_layers: PositiveInt = 1
    head_dim: PositiveInt
    rms_norm_eps: float = Field(gt=0, allow_inf_nan=False)
    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt
    rope_parameters: dict[str, Any]
    attention_bias: bool = False


def layers_said(file: HeadFile, said: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a head's layers: a part of the file, or the file itself."""
    own = dict(said if file.transformer_layer_config is None else file.transformer_layer_config)
    own.pop("architectures", None)
    return own


def read_file(where: Path | str) -> dict[str, Any]:
    """The configuration as it stands in the file; empty where there is none, which the loader of models reports."""
    path = where / "config.json" if isinstance(where, Path) else None
    if path is None:
        with explained(where, "its configuration"):
            path = Path(huggingface_hub.hf_hub_download(str(where), "config.json"))
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
