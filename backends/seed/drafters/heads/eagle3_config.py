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
    """The states are normed side by side before they are fused."""
    fc_norm: bool = False
    """Each of them is normed by itself."""
    norm_output: bool = False
    """The state of a drafted token is the head's output after its norm (EAGLE-3.1)."""

    def features_of(self, layers: int) -> tuple[int, ...]:
        """The layers for a target of so many."""
        return usual_features(layers) if self.features is None else self.features


class _Eagle3File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    draft_vocab_size: PositiveInt | None = None
    target_hidden_size: PositiveInt | None = None
    norm_before_residual: bool = False
    norm_before_fc: bool = False
    fc_norm: bool = False
    norm_output: bool = False
    use_aux_hidden_state: bool = True
    eagle_aux_hidden_state_layer_ids: list[int] | None = None
    """Layers whose inputs are read, as in ``speculators`` and vLLM."""


class _Eagle3Part(BaseModel):
    """What SGLang, SpecForge and Model Optimizer write into ``eagle_config``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    eagle_aux_hidden_state_layer_ids: list[int] | None = None
    """Layers whose outputs are read."""


def usual_features(layers: int) -> tuple[int, ...]:
    """Near the beginning, in the middle, near the end (Li et al., arXiv 2503.01840, as released)."""
    return tuple(min(max(0, layer), layers - 1) for layer in (2, layers // 2, layers - 3))


def eagle3_config(file: HeadFile, said: Mapping[str, Any], draft: str) -> Eagle3Config:
    """The head of a configuration. Raises ModelError, and pydantic's ValidationError for a field of a wrong type."""
    part = said.get("eagle_config") or {}
    own, eagle = layers_said(file, said), _Eagle3File.model_validate({**_switches(part), **said})
    kind = own.pop("model_type", "llama")
    with explained(draft, "its configuration"):
        layer = LayerFile.model_validate({**transformers.LlamaConfig(**own).to_dict(), "model_type": kind})
    if kind != "llama" or layer.hidden_act != "silu" or layer.num_hidden_layers != 1:
        raise ModelError(
            f"the head {draft} has {layer.num_hidden_layers} layer(s) of the type {kind!r} with the activation "
            f"{layer.hidden_act!r}. Expected one layer of the type 'llama' with 'silu'."
        )
    if not eagle.use_aux_hidden_state:
        raise ModelError(
            f"the head {draft} reads the last states of its target alone (use_aux_hidden_state is false), as EAGLE and "
            "EAGLE-2 do. Expected an EAGLE-3 head, which reads states of several layers."
        )
    layers = eagle.eagle_aux_hidden_state_layer_ids
    if not layers:
        outputs = _Eagle3Part.model_validate(part).eagle_aux_hidden_state_layer_ids
        layers = [layer + 1 for layer in outputs or ()]
    return Eagle3Config(
        layer,
        eagle.draft_vocab_size or layer.vocab_size,
        eagle.target_hidden_size or layer.hidden_size,
        None if not layers else tuple(map(int, layers)),
        file.verifier,
        eagle.norm_before_residual,
        eagle.norm_before_fc,
        eagle.fc_norm,
        eagle.norm_output,
    )


def _switches(part: Mapping[str, Any]) -> dict[str, Any]:
    """What ``eagle_config`` says of the head's network."""
    names = ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output", "use_aux_hidden_state")
    return {name: part[name] for name in names if name in part}
