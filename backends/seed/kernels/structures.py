"""The structures that the kernels take, and weights in their layout. The fields are those of ``structures.h``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from ...models.int4 import BLOCK, ZERO, Int4Linear
from ...models.int8 import LARGEST, Int8Linear
from ...models.weight_blocks import WeightBlocks, stacked
from .weight_memory import WeightMemory

PANEL = 32
"""Outputs that lie side by side in a packed weight."""

FLOATS, HALVES, PAIRS, BLOCKS, RAISED, EIGHTS, FOURS = range(7)
"""Kinds of packed weights, as in ``structures.h``."""

PRODUCTS = ("qkv", "out", "gate_up", "down")
"""Of a layer, in the order in which they are computed."""


class CLinear(ctypes.Structure):
    """A packed weight."""

    _fields_: ClassVar = [
        ("outs", ctypes.c_int32),
        ("ins", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
        ("lowest", ctypes.c_void_p),
        ("fours", ctypes.c_void_p),
        ("shift", ctypes.c_int32),
        ("bias", ctypes.c_void_p),
    ]


class CLowRank(ctypes.Structure):
    """What is added to a product."""

    _fields_: ClassVar = [("down", CLinear), ("up", CLinear)]


class CLayer(ctypes.Structure):
    """A decoder layer."""

    _fields_: ClassVar = [
        *(
            (name, ctypes.c_int32)
            for name in ("hidden", "inner", "heads", "kv_heads", "dim", "eights", "normed_residual")
        ),
        ("scale", ctypes.c_double),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("before_norm", "between_norm", "q_norm", "k_norm", "state_norm")),
        *((name, CLinear) for name in PRODUCTS),
        *((f"{name}_low", CLowRank) for name in PRODUCTS),
    ]


class CPass(ctypes.Structure):
    """The tokens of a pass, what they attend to, and room for what is computed."""

    _fields_: ClassVar = [
        ("tokens", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("x", "embedded", "slots", "keys", "before_at", "before", "own_at", "own", "cosine", "sine"),
                *("projected", "attended", "inner", "queries", "scales", "rounded", "normed", "low", "largest"),
                *("corrections", "totals"),
            )
        ),
    ]


class CBatch(ctypes.Structure):
    """The tokens of one adapter in a pass."""

    _fields_: ClassVar = [
        ("layers", ctypes.c_void_p),
        ("entries", ctypes.c_void_p),
        ("first", ctypes.c_int32),
        ("last", ctypes.c_int32),
    ]


class CSteps(ctypes.Structure):
    """Rows that take several tokens, one pass after another."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int32) for name in ("rows", "most", "tail", "angle_bytes")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("embeddings", "angles", "start", "context", "limit", "temperature", "stream", "position"),
                *("ends", "end_at", "tokens", "logarithms", "counts"),
            )
        ),
    ]


class PackedLinear:
    """The weights of linear layers with the same input, side by side in the layout of the kernels."""

    def __init__(
        self,
        layers: Sequence[nn.Linear | Int8Linear | Int4Linear],
        memory: WeightMemory,
        *,
        pairs: bool = False,
        blocks: Sequence[WeightBlocks | None] = (),
    ) -> None:
        """All of one kind. ``pairs``: weights in bfloat16 are multiplied with rows that are rounded to bfloat16.

        ``blocks``: what the weights are made of; where it is known of all layers, it is kept in their place.
        """
        eights = [layer for layer in layers if isinstance(layer, Int8Linear)]
        fours = [layer for layer in layers if isinstance(layer, Int4Linear)]
        outs = sum(layer.out_features for layer in layers)
        above = -outs % PANEL
        scale = self._blocks = self._lowest = self._fours = None
        shift = 0
        if eights:
            kind, weight = EIGHTS, torch.cat([layer.integers for layer in eights])
            weight = F.pad(weight, (0, -weight.shape[1] % 4, 0, above))
            self._weight = memory.place((_panels(weight, 4).contiguous().to(torch.int16) + 128).to(torch.uint8))
            # the operator of torch multiplies with the same number, rounded in the same way
            step = torch.tensor(1 / LARGEST, dtype=torch.float32)
            scale = F.pad(torch.cat([layer.scales for layer in eights]).mul(step), (0, above))
        elif fours:
            kind, weight = FOURS, torch.cat([layer.integers for layer in fours])
            weight = F.pad(weight, (0, -weight.shape[1] % BLOCK, 0, above), value=ZERO)
            eight = _panels(weight, 8)
            self._weight = memory.place(eight[..., :4] | eight[..., 4:] << 4)
            scales = F.pad(torch.cat([layer.scales for layer in fours]), (0, 0, 0, above))
            self._fours = memory.place(_in_words(_panels(scales)))
        else:
            plain = [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]
            known = [block for block in blocks if block is not None]
            whole = stacked(known) if len(known) == len(layers) else None
            kind, weight = FLOATS, F.pad(torch.cat(plain) if whole is None else whole.integers, (0, 0, 0, above))
            if whole is not None:
                kind, shift = BLOCKS, whole.size.bit_length() - 1
                self._blocks = memory.place(_panels(F.pad(whole.scales, (0, 0, 0, above))))
                if whole.lowest is not None:
                    kind, self._lowest = RAISED, memory.place(_panels(F.pad(whole.lowest, (0, 0, 0, above))))
            if weight.dtype == torch.bfloat16:
                kind = PAIRS if pairs else HALVES
            if kind == PAIRS:
                weight = F.pad(weight, (0, weight.shape[1] % 2))
            panels = _panels(weight, 2 if kind == PAIRS else 1)
            self._weight = memory.place(_in_words(panels) if kind == HALVES else panels)
        self.ins = weight.shape[1]
        """Inputs with those that are added as zeros."""
        self._scale, self._bias = scale, None
        if any(layer.bias is not None for layer in layers):
            parts = [
                torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().float()
                for layer in layers
            ]
            self._bias = F.pad(torch.cat(parts), (0, above))
        tensors = (self._weight, self._scale, self._blocks, self._lowest, self._fours)
        self.c = CLinear(outs, self.ins, kind, *map(_address, tensors), shift, _address(self._bias))

    @property
    def in_blocks(self) -> bool:
        """Whether weights are kept as integers with a scale for each block of inputs, as they were given."""
        return self._blocks is not None

    @property
    def rounded(self) -> int:
        """Bytes of a row that is rounded for the product."""
        return {EIGHTS: self.ins, PAIRS: 2 * self.ins, FOURS: self.ins}.get(self.c.kind, 0)

    @property
    def totals(self) -> int:
        """Blocks of a row whose integers are summed for the product."""
        return self.ins // BLOCK if self.c.kind == FOURS else 0

    @property
    def outs(self) -> int:
        """Outputs of all layers."""
        return int(self.c.outs)


def _panels(weight: torch.Tensor, together: int = 1) -> torch.Tensor:
    """A view (panels, ins / together, 32, together) of a weight (outs, ins)."""
    return weight.view(-1, PANEL, weight.shape[1] // together, together).transpose(1, 2)


def _in_words(panels: torch.Tensor) -> torch.Tensor:
    """A view (panels, n, 16, 2) of panels (panels, n, 32, 1): the outputs i and i + 16 side by side."""
    return panels.view(*panels.shape[:2], 2, PANEL // 2).transpose(2, 3)


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
