"""What the ``config.json`` of a DFlash head says, in the format of ``speculators`` and in that of z-lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from treeagent.errors import ModelError

from ....models.sources import explained
from .head_file import HeadFile, LayerFile, layers_said

KINDS = ("qwen3", "llama")
"""Types of layers, as configurations have them; the layers are the same."""
SLIDING = "sliding_attention"


@dataclass(frozen=True, slots=True)
class BlockAttention:
    """What the tokens of a block attend to in one layer."""

    window: int | None
    """The most keys back, the token's own among them; None: the whole text."""
    causal: bool
    """Whether a token of the block sees none after it."""


@dataclass(frozen=True, slots=True)
class DFlashConfig:
    """A DFlash head."""

    layer: LayerFile
    attention: tuple[BlockAttention, ...]
    """By layer."""
    block: int
    """Tokens of a block: the last one of the text, and masks."""
    first: int
    """The place in the block whose output is the law of the first drafted token: 1, or 0 for the text's own token."""
    mask: int
    """The token that stands in the places to be filled."""
    draft_vocabulary: int
    """Tokens that it can draft."""
    target_width: int
    """Hidden size of its target."""
    features: tuple[int, ...]
    """The layers of the target whose inputs it reads, counted from 0; the number after the last: what enters the
    output head."""
    verifier: str | None
    """The name or path of its target; None where its configuration does not say."""
    multiplier: float = 1.0
    """Of its logits."""
    softcap: float | None = None
    """What its logits stay below, by a hyperbolic tangent."""

    def features_of(self, _layers: int) -> tuple[int, ...]:
        """See :attr:`features`."""
        return self.features


class _DFlashFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    block_size: int = Field(16, ge=2)
    mask_token_id: NonNegativeInt | None = None
    target_layer_ids: list[NonNegativeInt] | None = None
    """z-lab's: layers whose outputs are read."""
    aux_hidden_state_layer_ids: list[NonNegativeInt] | None = None
    """Of ``speculators``: layers whose inputs are read."""
    target_hidden_size: PositiveInt | None = None
    draft_vocab_size: PositiveInt | None = None
    sample_from_anchor: bool = False
    projector_type: str = "dflash"
    output_multiplier: float = Field(1.0, gt=0, allow_inf_nan=False)
    final_logit_softcapping: float | None = Field(None, ge=0, allow_inf_nan=False)
    is_causal: bool | None = None
    causal: bool | None = None
    """Another name of it."""
    swa_window_size: PositiveInt | None = None
    """The window where the layers do not say one."""
    sliding_window_non_causal: bool = False


def dflash_config(file: HeadFile, said: Mapping[str, Any], draft: str) -> DFlashConfig:
    """The head of a configuration. Raises ModelError, and pydantic's ValidationError for a field of a wrong type."""
    own = layers_said(file, said)
    kind = own.pop("model_type", "qwen3")
    flash = _DFlashFile.model_validate({**said, **(said.get("dflash_config") or {})})
    with explained(draft, "its configuration"):
        config = transformers.Qwen3Config(**own)
        layer = LayerFile.model_validate({**config.to_dict(), "model_type": kind})
    if kind not in KINDS or layer.hidden_act != "silu" or flash.projector_type != "dflash":
        raise ModelError(
            f"the head {draft} has layers of the type {kind!r}, the activation {layer.hidden_act!r} and the projector "
            f"{flash.projector_type!r}. Expected a type of {', '.join(map(repr, KINDS))}, 'silu' and 'dflash'."
        )
    outputs, inputs = flash.target_layer_ids, flash.aux_hidden_state_layer_ids
    if not (outputs or inputs) or flash.mask_token_id is None:
        raise ModelError(
            f"the head {draft} does not say which states of its target it reads, or which token is its mask. Expected "
            "dflash_config.target_layer_ids or aux_hidden_state_layer_ids, and mask_token_id, in its config.json."
        )
    features = inputs if inputs else [number + 1 for number in outputs or ()]
    return DFlashConfig(
        layer,
        tuple(_attention(name, config.sliding_window or flash.swa_window_size, flash) for name in config.layer_types),
        flash.block_size,
        0 if flash.sample_from_anchor else 1,
        flash.mask_token_id,
        flash.draft_vocab_size or layer.vocab_size,
        flash.target_hidden_size or layer.hidden_size,
        tuple(features),
        file.verifier,
        flash.output_multiplier,
        flash.final_logit_softcapping or None,
    )


def _attention(name: str, window: int | None, flash: _DFlashFile) -> BlockAttention:
    sliding = name == SLIDING
    said = flash.causal if flash.is_causal is None else flash.is_causal
    causal = sliding and not flash.sliding_window_non_causal if said is None else said
    return BlockAttention(window if sliding else None, causal)
