"""Products of the compiled kernels: their numbers, and rows that are the same bits in any company."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from treeagent.backends.models.int4 import Int4Linear
from treeagent.backends.models.int8 import Int8Linear
from treeagent.backends.models.int8_network import RowNorm
from treeagent.backends.models.weight_blocks import WeightBlocks
from treeagent.backends.seed.executor.compiled_layers import KEPT_TOKENS, CompiledProduct
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.kernels.structures import CPass, PackedLinear
from treeagent.backends.seed.kernels.weight_memory import ALIGNMENT, CHUNK, WeightMemory

OUTS, ROWS, EPSILON = 70, 230, 1e-5


def kernels() -> ctypes.CDLL | None:
    """The library, where the processor has all products."""
    try:
        loaded = library.load()
    except library.NoKernels:
        return None
    return loaded if loaded.instructions() == 2 and loaded.bfloat16_products() else None


pytestmark = pytest.mark.skipif(kernels() is None, reason="no kernels, or no products in bfloat16 or 8 bits")

KINDS = ("float32", "bfloat16", "widened", "int8", "int4", "blocks", "raised")


class Head:
    """A norm and a product with random weights, as the kernels and as slow references compute them."""

    def __init__(self, kind: str, ins: int) -> None:
        generator = torch.Generator().manual_seed(ins)
        self.kind = kind
        self.linear = nn.Linear(ins, OUTS)
        with torch.no_grad():
            self.linear.weight.normal_(generator=generator)
            self.linear.bias.normal_(generator=generator)
            blocks = []
            if kind in ("blocks", "raised"):  # 8-bit integers times a scale by block, and a lowest value
                size = 32 if kind == "blocks" else 16
                integers = torch.randint(-127, 128, (OUTS, ins), generator=generator).to(torch.int8)
                scales, lowest = torch.rand(2, OUTS, ins // size, generator=generator).half().float()
                blocks = [WeightBlocks(integers, scales, lowest if kind == "raised" else None)]
                self.linear.weight.copy_(blocks[0].expanded())
        self.layer: nn.Linear | Int4Linear | Int8Linear = self.linear
        if kind in ("bfloat16", "widened"):
            self.layer = self.linear.bfloat16()
        elif kind == "int8":
            self.layer = Int8Linear.of(self.linear)
        elif kind == "int4":
            self.layer = Int4Linear.of(self.linear)
        self.packed = PackedLinear([self.layer], WeightMemory(), pairs=kind == "bfloat16", blocks=blocks)
        self.norm = RowNorm(torch.rand(ins, generator=generator) + 0.5, EPSILON)
        self.x = torch.randn(ROWS, ins, generator=generator)

    def run(self, x: torch.Tensor, threads: int = 1) -> torch.Tensor:
        """Rows (T, ins) through the kernels, (T, outs)."""
        x = x.contiguous()
        rows, ins = x.shape
        room = {
            "x": x,
            "normed": torch.empty(rows, ins),
            "rounded": torch.empty(rows, max(1, self.packed.rounded), dtype=torch.int8),
            "largest": torch.empty(rows),
            "corrections": torch.empty(rows, dtype=torch.int32),
            "totals": torch.empty(rows, max(1, self.packed.totals), dtype=torch.int32),
        }
        batch = CPass(rows, threads, **{name: tensor.data_ptr() for name, tensor in room.items()})
        out = torch.full((rows, OUTS), torch.nan)
        weight = self.norm.weight
        loaded = kernels()
        assert loaded is not None
        assert loaded.decoder_head(
            ctypes.byref(self.packed.c),
            ctypes.c_void_p(weight.data_ptr()),
            ctypes.c_int32(ins),
            ctypes.c_double(EPSILON),
            ctypes.byref(batch),
            ctypes.c_void_p(out.data_ptr()),
        )
        return out

    def bits(self, order: tuple[int, int] = (1, 0)) -> torch.Tensor:
        """All rows' products in bfloat16, number by number."""
        sums = pairwise(self.norm(self.x), self.linear.weight, order)
        bias: NDArray[np.float32] = self.linear.bias.detach().float().numpy()
        return torch.from_numpy(sums + bias)

    def exact(self) -> torch.Tensor:
        """All rows in float64, for kinds whose rows are not rounded."""
        normed = self.norm(self.x).double()
        return normed @ self.linear.weight.detach().double().T + self.linear.bias.detach().double()


def pairwise(x: torch.Tensor, weight: torch.Tensor, order: tuple[int, int] = (1, 0)) -> NDArray[np.float32]:
    """Products (T, out) of rows (T, in), rounded to bfloat16, with weights (out, in), in sums of float32.

    Pair by pair of inputs, the second one first. A product of two numbers in bfloat16 has 16 bits and is exact.
    """
    rows = x.bfloat16().float().numpy()
    weights = weight.detach().bfloat16().float().numpy()
    if rows.shape[1] % 2:
        rows, weights = (np.pad(part, ((0, 0), (0, 1))) for part in (rows, weights))
    sums: NDArray[np.float32] = np.zeros((len(rows), len(weights)), dtype=np.float32)
    for first in range(0, rows.shape[1], 2):
        for place in order:
            sums += rows[:, first + place, None] * weights[:, first + place]
    return sums


@pytest.mark.parametrize("ins", [2, 33, 576, 1100])  # odd, and of one part of a panel and several
def test_products_in_bfloat16_are_those_of_the_reference(ins: int) -> None:
    """Bit by bit; those of rows that are not rounded, or of sums in another order, are others."""
    head = Head("bfloat16", ins)
    result = head.run(head.x)
    assert torch.equal(result, head.bits())
    assert float((result - head.exact().float()).abs().max()) > 1e-3
    if ins > 2:  # two products alone have the same sum in either order
        assert not torch.equal(result, head.bits(order=(0, 1)))


@pytest.mark.parametrize("kind", ["float32", "widened", "blocks", "raised"])
@pytest.mark.parametrize("ins", [32, 576, 1088])
def test_other_products_round_nothing_but_sums(kind: str, ins: int) -> None:
    """Within the rounding of a sum in float32; integers in blocks are kept."""
    head = Head(kind, ins)
    assert head.packed.in_blocks == (kind in ("blocks", "raised"))
    error = (head.run(head.x).double() - head.exact()).abs()
    sizes = head.norm(head.x).abs().double() @ head.linear.weight.detach().double().abs().T
    assert bool((error <= 2.0**-22 * ins**0.5 * (sizes + 1)).all())


@pytest.mark.parametrize("ins", [20, 32, 100, 1088])
def test_products_in_4_bits_follow_their_law(ins: int) -> None:
    """Up to the rounding of a sum in float32, with inputs that are no whole blocks."""
    head = Head("int4", ins)
    assert isinstance(head.layer, Int4Linear)
    normed = head.norm(head.x)
    largest = normed.abs().amax(dim=1, keepdim=True)
    integers = torch.round(((normed / largest).double() * 127 + 128).float()) - 128
    law = integers.double() @ head.layer.weight().double().T * largest / 127 + head.linear.bias.detach()
    result = head.run(head.x)
    assert float((result - law).abs().max()) < 1e-5 * float(law.abs().max())
    assert float((result - head.exact()).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ins", [32, 1088])
def test_a_row_is_the_same_in_any_company(kind: str, ins: int) -> None:
    """Bit by bit: beside any number of rows, at any place, on any number of threads."""
    head = Head(kind, ins)
    together = head.run(head.x)
    assert not together.isnan().any()
    for rows, threads in ((1, 1), (5, 2), (12, 1), (13, 3), (97, 2), (200, 1)):
        for first in (0, 7, ROWS - rows):
            assert torch.equal(head.run(head.x[first : first + rows], threads), together[first : first + rows])


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_has_room_for_any_number_of_rows(kind: str) -> None:
    """Bit by bit the same through the decoder's products, whose room for few rows is kept; rows are normed or not."""
    head, loaded = Head(kind, 1088), kernels()
    assert loaded is not None
    product, plain = (CompiledProduct(loaded, head.packed, norm, 1088) for norm in (head.norm, None))
    for rows in (ROWS, KEPT_TOKENS, 3):
        assert torch.equal(product(head.x[:rows]), head.run(head.x[:rows]))
        normed = head.norm(head.x[:rows])
        assert torch.equal(plain(normed), product(normed, normed=True))


def test_weights_are_placed_whole_and_apart() -> None:
    """Of any type, in any order in memory, also those larger than a chunk; each at a cache line of its own."""
    memory = WeightMemory()
    views = [torch.randn(7, 5).t(), torch.randint(0, 255, (3, 33), dtype=torch.uint8), torch.randn(40, 3).bfloat16()]
    views += [torch.zeros(0, 4), torch.arange((CHUNK >> 2) + 5, dtype=torch.int32), torch.randn(2, 9).double()]
    placed = [memory.place(view) for view in views]
    for view, own in zip(views, placed, strict=True):
        assert own.is_contiguous()
        assert own.dtype == view.dtype
        assert torch.equal(own, view)
    assert all(own.data_ptr() % ALIGNMENT == 0 for own in placed)
