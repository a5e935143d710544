"""The kinds of layers with a state that are run here, and the networks that have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...kv_cache.state_store import Shape
from .base import StateLayer
from .delta_net import DeltaNet
from .mamba2 import Mamba2
from .short_convolution import ShortConvolution

KINDS: tuple[type[StateLayer], ...] = (DeltaNet, ShortConvolution, Mamba2)
"""One is added by a file of its own and a place here."""
LAYER_TYPES = frozenset(kind.kind for kind in KINDS)
"""What configurations call layers with a state in place of keys and values."""


def state_kind(network: Any) -> type[StateLayer] | None:
    """The kind of a network, or of a class of networks; None for one without such layers."""
    name = (network if isinstance(network, type) else type(network)).__name__
    return next((kind for kind in KINDS if name in kind.networks), None)


def state_shapes(network: Any) -> dict[int, Sequence[Shape]]:
    """The parts of the state of each layer that has one: the tail of the convolution, and matrices, if any."""
    shapes: dict[int, Sequence[Shape]] = {}
    for kind, _, layer in _found(network):
        matrices = kind.matrices(layer)
        shapes[layer.layer_idx] = (kind.tail(layer), *(() if matrices is None else (matrices,)))
    return shapes


def replace_state_layers(network: Any) -> None:
    """Let the layers run over packed segments, in place."""
    for kind, owner, layer in list(_found(network)):
        owner.add_module(kind.attribute, kind(layer))


def _found(network: Any) -> Iterator[tuple[type[StateLayer], Any, Any]]:
    """Kind, decoder layer and layer with a state of each that a network has."""
    kind = state_kind(network)
    if kind is not None:
        for owner in network.model.layers:
            layer = getattr(owner, kind.attribute, None)
            if layer is not None:
                yield kind, owner, layer
