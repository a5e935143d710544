"""Decoder layers, and products of normed rows, in one call of a kernel each.

T tokens, E hidden size, N inputs of a product.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.structures import CBatch, CPass, CSteps, PackedLinear
from ..kv_cache.pool import SlotPool
from .compiled_layer import CompiledLayer, norm_of
from .forward_batch import ForwardBatch
from .joint_batch import parts_of

KEPT_TOKENS = 128
"""Room for passes of so many tokens is kept from one to the next."""


class CompiledLayers:
    """Layers one after another, in one parallel region."""

    def __init__(self, kernels: ctypes.CDLL, layers: Sequence[CompiledLayer]) -> None:
        self.layers = layers
        self._beside: Sequence[Sequence[CompiledLayer]] = ()
        """The same layers with the adapters of the other parts of a pass."""
        self._kernels, self._rooms, self._step_rooms = kernels, _Rooms(), _Rooms()
        self._sizes = {**layers[0].sizes, "low": max(layer.rank for layer in layers)}

    def joined(self, others: Sequence[CompiledLayers]) -> CompiledLayers:
        """For passes whose parts are of these layers and of ``others``, which are the same with other adapters."""
        joint = copy.copy(self)
        joint._beside = [other.layers for other in others]
        low = max(one._sizes["low"] for one in (self, *others))
        if low > self._sizes["low"]:
            joint._sizes, joint._rooms = {**self._sizes, "low": low}, _Rooms()
        return joint

    def run(
        self,
        x: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        plan: ForwardBatch,
        pool: SlotPool,
        *,
        first: int = 0,
        last: int | None = None,
        heard: Mapping[int, torch.Tensor] | None = None,
        embedded: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The output (T, E) of layer ``last - 1``, or of the last one; keys and values are in the pool.

        ``x`` (T, E), what enters layer ``first``, is overwritten. ``rotation``: cosines and sines. ``heard``: by layer
        what is filled with the states (T, E) that enter it. ``embedded`` (T, E): of a layer over pairs, whose states
        are ``x``. All are contiguous.
        """
        if plan.keys is None:
            raise ValueError("the plan of the pass has no keys by token")
        cos, sin = rotation
        stacks = [stack[first:last] for stack in (self.layers, *self._beside)]
        room = self._rooms.of(len(x), self._sizes, pool.entries[first].dtype)
        address, size = plan.keys.runs.ctypes.data, plan.keys.runs.strides[0]
        batch = room.batch(
            len(x),
            x=x.data_ptr(),
            embedded=0 if embedded is None else embedded.data_ptr(),
            slots=plan.slots.data_ptr(),
            keys=plan.keys.slots.ctypes.data,
            **{name: address + row * size for row, name in enumerate(("before_at", "before", "own_at", "own"))},
            cosine=cos.data_ptr(),
            sine=sin.data_ptr(),
        )
        parts, depth = parts_of(plan, pool), len(stacks[0])
        addresses = ctypes.c_void_p * depth
        copies = {} if heard is None else {layer: states.data_ptr() for layer, states in heard.items()}
        layers = [addresses(*(layer.address for layer in stack)) for stack in stacks]
        entries = [addresses(*(layer.data_ptr() for layer in part.pool.entries[first:last])) for part in parts]
        batches = [
            CBatch(ctypes.addressof(of), ctypes.addressof(kept), part.tokens.start, part.tokens.stop)
            for of, kept, part in zip(layers, entries, parts, strict=True)
        ]
        done = self._kernels.decoder_layers(
            (CBatch * len(parts))(*batches),
            ctypes.c_int32(len(parts)),
            addresses(*(copies.get(layer) for layer in range(first, first + depth))),
            ctypes.c_int32(depth),
            ctypes.byref(batch),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return x

    def take_steps(self, steps: CSteps, head: CompiledProduct, keys: NDArray[np.int64], pool: SlotPool) -> bool:
        """Passes of all layers and the ``head`` over one token of each row, until the rows have their tokens.

        ``keys``: the slots of all rows. False where a row's token is left to the caller.
        """
        wider = {name: max(self._sizes[name], head._sizes[name]) for name in head._sizes}
        room = self._step_rooms.of(steps.rows, {**self._sizes, **wider}, pool.entries[0].dtype)
        batch, depth = room.batch(steps.rows, keys=keys.ctypes.data), len(self.layers)
        addresses = ctypes.c_void_p * depth
        layers = addresses(*(layer.address for layer in self.layers))
        entries = addresses(*(layer.data_ptr() for layer in pool.entries))
        done = self._kernels.decode_steps(
            ctypes.byref(CBatch(ctypes.addressof(layers), ctypes.addressof(entries), 0, steps.rows)),
            ctypes.c_int32(depth),
            addresses(),
            ctypes.byref(head.linear.c),
            ctypes.c_void_p(head.norm),
            ctypes.c_int32(head._ins),
            ctypes.c_double(head._epsilon),
            ctypes.byref(batch),
            ctypes.byref(steps),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return bool(done == 1)


class CompiledProduct:
    """A linear layer of rows that may be normed before."""

    def __init__(self, kernels: ctypes.CDLL, linear: PackedLinear, norm: Any, ins: int) -> None:
        """``norm`` of rows of ``ins`` numbers, a module; None for a product of rows as they are."""
        self.linear = linear
        self._kernels, self._ins, self._rooms = kernels, ins, _Rooms()
        self._weight: torch.Tensor | None = None
        self._epsilon = 0.0
        if norm is not None:
            self._weight, self._epsilon = norm_of(norm)
        self.norm = None if self._weight is None else self._weight.data_ptr()
        """Address of the norm's weight."""
        self._sizes = {"normed": ins, "rounded": linear.rounded, "totals": linear.totals}

    def apart(self) -> CompiledProduct:
        """The same weights, for another thread."""
        other = copy.copy(self)
        other._rooms = _Rooms()
        return other

    def __call__(self, x: torch.Tensor, *, normed: bool = False) -> torch.Tensor:
        """The product (T, out) of rows (T, N), which are ``normed`` already or not."""
        x = x.contiguous()
        room = self._rooms.of(len(x), self._sizes, torch.float32)
        batch = room.batch(len(x), x=x.data_ptr())
        out = torch.empty(len(x), self.linear.outs)
        done = self._kernels.decoder_head(
            ctypes.byref(self.linear.c),
            ctypes.c_void_p(None if normed else self.norm),
            ctypes.c_int32(self._ins),
            ctypes.c_double(self._epsilon),
            ctypes.byref(batch),
            ctypes.c_void_p(out.data_ptr()),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return out


class _Rooms:
    """The room of small passes, one for each type of attention's numbers."""

    def __init__(self) -> None:
        self._kept: dict[torch.dtype, _Room] = {}

    def of(self, tokens: int, sizes: dict[str, int], dtype: torch.dtype) -> _Room:
        """Room for a pass, its contents undefined; ``sizes`` and ``dtype`` as for :class:`_Room`."""
        if tokens > KEPT_TOKENS:
            return _Room(tokens, sizes, dtype)
        if dtype not in self._kept:
            self._kept[dtype] = _Room(KEPT_TOKENS, sizes, dtype)
        return self._kept[dtype]


class _Room:
    """Memory of a pass over T tokens at most."""

    def __init__(self, tokens: int, sizes: dict[str, int], dtype: torch.dtype) -> None:
        """``sizes`` are those of a token; ``dtype`` is that of queries."""
        dtypes = {"queries": dtype, "scales": torch.float64, "rounded": torch.int8}
        dtypes |= {"corrections": torch.int32, "totals": torch.int32}
        self._tensors = {
            name: torch.empty(tokens, size, dtype=dtypes.get(name, torch.float32))
            for name, size in {**sizes, "largest": 1, "corrections": 1}.items()
        }
        self._addresses = {name: tensor.data_ptr() for name, tensor in self._tensors.items()}

    def batch(self, tokens: int, **addresses: int) -> CPass:
        """The pass with its room, and the addresses of what it reads. Valid as long as the room."""
        return CPass(tokens=tokens, threads=torch.get_num_threads(), **self._addresses, **addresses)
