"""What the ``config.json`` of an EAGLE-3 head says, in the format of ``speculators`` and in the original one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers
from pydantic import BaseModel, ConfigDict, PositiveInt

from treeagent.errors import ModelError

from ....models.sources import explained
from .head_file import HeadFile, LayerFile, layers_said


@dataclass(frozen=True, slots=True)
class Eagle3Config:
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


class _Eagle3File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    draft_vocab_size: PositiveInt | None = None
    target_hidden_size: PositiveInt | None = None
    norm_before_residual: bool = False
    norm_before_fc: bool = False
    eagle_aux_hidden_state_layer_ids: list[int] | None = None
    eagle_config: dict[str, Any] = {}


def usual_features(layers: int) -> tuple[int, ...]:
    """Near the beginning, in the middle, near the end (Li et al., arXiv 2503.01840, as released)."""
    return tuple(min(max(0, layer), layers - 1) for layer in (2, layers // 2, layers - 3))


def eagle3_config(file: HeadFile, said: Mapping[str, Any], draft: str) -> Eagle3Config:
    """The head of a configuration. Raises ModelError, and pydantic's ValidationError for a field of a wrong type."""
    own, eagle = layers_said(file, said), _Eagle3File.model_validate(said)
    kind = own.pop("model_type", "llama")
    with explained(draft, "its configuration"):
        layer = LayerFile.model_validate({**transformers.LlamaConfig(**own).to_dict(), "model_type": kind})
    if kind != "llama" or layer.hidden_act != "silu" or layer.num_hidden_layers != 1:
        raise ModelError(
            f"the head {draft} has {layer.num_hidden_layers} layer(s) of the type {kind!r} with the activation "
            f"{layer.hidden_act!r}. Expected one layer of the type 'llama' with 'silu'."
        )
    layers = eagle.eagle_aux_hidden_state_layer_ids or eagle.eagle_config.get("eagle_aux_hidden_state_layer_ids")
    return Eagle3Config(
        layer,
        eagle.draft_vocab_size or layer.vocab_size,
        eagle.target_hidden_size or layer.hidden_size,
        None if not layers else tuple(map(int, layers)),
        file.verifier,
        eagle.norm_before_residual,
        eagle.norm_before_fc,
    )
