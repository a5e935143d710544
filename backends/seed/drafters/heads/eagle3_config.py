"""What the ``config.json`` of a head says, in the format of ``speculators`` and in the original one of EAGLE-3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import transformers
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from treeagent.errors import ModelError

from ....models.sources import explained

EAGLE3 = "eagle3"
OTHER_HEADS = ("eagle", "dflash", "dspark", "mtp", "medusa", "mlp_speculator", "hydra", "p_eagle", "peagle")
"""Kinds of heads that are known by name and cannot be run."""
FEATURES = 3
"""Layers of the target whose states a head reads where its configuration does not name them."""


class HeadFile(BaseModel):
    """The fields that are read beside those of the head's layer."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    architectures: list[str] = []
    speculators_model_type: str | None = None
    draft_vocab_size: PositiveInt | None = None
    target_hidden_size: PositiveInt | None = None
    norm_before_residual: bool = False
    norm_before_fc: bool = False
    eagle_aux_hidden_state_layer_ids: list[int] | None = None
    eagle_config: dict[str, Any] = {}
    speculators_config: dict[str, Any] = {}
    target_model_name_or_path: str | None = None
    transformer_layer_config: dict[str, Any] | None = None

    @property
    def kind(self) -> str | None:
        """The kind of head; None for the configuration of a model."""
        said = (self.speculators_model_type or "").lower()
        names = [said] if said else [name.lower() for name in self.architectures]
        if any(EAGLE3 in name for name in names):
            return EAGLE3
        for kind in OTHER_HEADS:
            if any(kind in name for name in names):
                return kind
        return said or (EAGLE3 if self.draft_vocab_size is not None else None)


class LayerFile(BaseModel):
    """The fields of the head's one layer that are read."""

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


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """An EAGLE-3 head."""

    layer: LayerFile
    draft_vocabulary: int
    """Tokens that it can draft."""
    target_width: int
    """Hidden size of its target."""
    features: tuple[int, ...] | None
    """The layers of the target whose inputs it reads, counted from 0; None: by :func:`usual_features`."""
    verifier: str | None
    """The name or path of its target; None where its configuration does not say."""
    norm_before_residual: bool = False
    norm_before_fc: bool = False

    def features_of(self, layers: int) -> tuple[int, ...]:
        """The layers for a target of so many."""
        return usual_features(layers) if self.features is None else self.features


def usual_features(layers: int) -> tuple[int, ...]:
    """Near the beginning, in the middle, near the end (Li et al., arXiv 2503.01840, as released)."""
    return tuple(min(max(0, layer), layers - 1) for layer in (2, layers // 2, layers - 3))


def read_head_config(where: Path | str, draft: str) -> HeadConfig | None:
    """The head that a folder or a hub id holds; None for anything else. Raises ModelError for one that cannot run."""
    said = _read(where)
    try:
        file = HeadFile.model_validate(said)
        if file.kind is None:
            return None
        if file.kind != EAGLE3:
            raise ModelError(
                f"the draft {draft} is a head of the kind {file.kind!r}. Heads of the kind {EAGLE3!r} can run; give "
                "one of them, or a draft model."
            )
        return _config(file, said, draft)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"the head {draft} cannot be read: its config.json has {place}: {first['msg']}") from error


def _config(file: HeadFile, said: Mapping[str, Any], draft: str) -> HeadConfig:
    own = dict(said if file.transformer_layer_config is None else file.transformer_layer_config)
    own.pop("architectures", None)
    kind = own.pop("model_type", "llama")
    with explained(draft, "its configuration"):
        layer = LayerFile.model_validate({**transformers.LlamaConfig(**own).to_dict(), "model_type": kind})
    if kind != "llama" or layer.hidden_act != "silu" or layer.num_hidden_layers != 1:
        raise ModelError(
            f"the head {draft} has {layer.num_hidden_layers} layer(s) of the type {kind!r} with the activation "
            f"{layer.hidden_act!r}. Expected one layer of the type 'llama' with 'silu'."
        )
    layers = file.eagle_aux_hidden_state_layer_ids or file.eagle_config.get("eagle_aux_hidden_state_layer_ids")
    verifier = file.speculators_config.get("verifier") or {}
    return HeadConfig(
        layer,
        file.draft_vocab_size or layer.vocab_size,
        file.target_hidden_size or layer.hidden_size,
        None if not layers else tuple(map(int, layers)),
        verifier.get("name_or_path") or file.target_model_name_or_path,
        file.norm_before_residual,
        file.norm_before_fc,
    )


def _read(where: Path | str) -> dict[str, Any]:
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
