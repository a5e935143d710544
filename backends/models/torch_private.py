"""Private operators and attributes of torch and transformers, all of them in this file.

Tried with torch 2.6 to 2.13 and transformers 5.19 to 5.24. Each is guarded: where it is absent or computes something
else, the caller uses a public operator. A new version of torch needs the tests of this file's callers, no more.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F

PACKED_ROWS = 16
"""Rows that the packed layout is made for; it serves any other number as well."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Dtypes that can be packed, and the largest relative difference between packed and plain product."""


def supports_custom_attention(network: Any) -> bool:
    """Whether a network of transformers calls the attention function that its configuration names."""
    return bool(getattr(network, "_supports_attention_backend", False))


def supports_sdpa(network_class: Any) -> bool:
    """Whether a class of networks of transformers can run with torch's own attention function."""
    return bool(getattr(network_class, "_supports_sdpa", False))


def is_stateful(network: Any) -> bool:
    """Whether a network of transformers keeps a recurrent state instead of keys and values."""
    return bool(getattr(network, "_is_stateful", False))


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers in hardware (AVX512_BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@torch.inference_mode()
def pack_weight(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """The weight (out, in) in oneDNN's layout, or None where the operators are absent or differ from plain products.

    ``mkldnn::_reorder_linear_weight`` is what inductor emits when it freezes a model.
    """
    if weight.device.type != "cpu" or weight.dtype not in TOLERANCE:
        return None
    trial = torch.linspace(-1, 1, 3 * weight.shape[1]).sin().view(3, -1).to(weight.dtype)  # (3, in)
    plain = F.linear(trial, weight, bias)  # (3, out)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_ROWS)
        pairs = (
            (packed_linear(trial, packed, bias), plain),
            (packed_linear(trial, packed, bias, "swish"), F.silu(plain)),
            (packed_linear_binary(trial, plain, packed, bias, "add"), 2 * plain),
            (packed_linear_binary(trial, plain, packed, bias, "mul"), plain * plain),
        )
    except (AttributeError, RuntimeError):
        return None
    limit = TOLERANCE[weight.dtype]
    equal = all(float((a - b).abs().max()) <= limit * max(1.0, float(b.abs().max())) for a, b in pairs)
    return packed if equal else None


def packed_linear(x: torch.Tensor, packed: Any, bias: torch.Tensor | None, activation: str = "none") -> torch.Tensor:
    """The product (..., out) of ``x`` (..., in) with a packed weight, through an activation (``none``, ``swish``)."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], "")
    return result


def packed_linear_binary(
    x: torch.Tensor, other: torch.Tensor, packed: Any, bias: torch.Tensor | None, operation: str
) -> torch.Tensor:
    """The product (..., out) with a packed weight, added to (``add``) or multiplied by (``mul``) ``other``."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, packed, bias, operation)
    return result


@torch.inference_mode()
def pack_int8(integers: torch.Tensor, scales: torch.Tensor) -> Any:
    """Weights (out, in) in int8 with ``scales`` (out,) in FBGEMM's layout; None where sums would not be exact.

    Processors without 8-bit dot products (AVX512_VNNI, AVX_VNNI) add pairs of products in 16 bits, which saturate.
    """
    return _packed_int8(integers, scales) if _int8_sums_are_exact() else None


def _packed_int8(integers: torch.Tensor, scales: torch.Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensors of torch.qint8 are deprecated; the operator takes no others
        zeros = torch.zeros(len(scales), dtype=torch.long)
        weight = torch._make_per_channel_quantized_tensor(integers, scales.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(weight, None)


def packed_int8_linear(rows: torch.Tensor, packed: Any, largest: int) -> torch.Tensor:
    """The product (N, out) of ``rows`` (N, in), rounded to multiples of 1 / ``largest`` from -1 to 1, in float32."""
    operator = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    result: torch.Tensor = operator(rows, 1 / largest, 128, packed)
    return result


def unpack_int8(packed: Any) -> torch.Tensor:
    """The integers (out, in) of a packed weight."""
    weight, _ = torch.ops.quantized.linear_unpack(packed)
    integers: torch.Tensor = weight.int_repr()
    return integers


@cache
def _int8_sums_are_exact() -> bool:
    """Whether the operator is there, and right where 16-bit sums would saturate."""
    signs = torch.tensor([[1.0], [-1.0]]) * torch.ones(2, 64)  # rows of all the largest and all the least values
    integers = (127 * signs).to(torch.int8)
    try:
        packed = _packed_int8(integers, torch.ones(2))
        sums = packed_int8_linear(signs, packed, 127)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(sums, signs @ integers.float().T, rtol=1e-6)


def attention_with_lse(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention as two products and a softmax, with public operators only.

    q (B, h, Q, D), k and v (B, h, K, D), additive mask (B, 1, Q or 1, K); with ``softcap`` c, scores s become
    c tanh(s / c) before the mask is added. Returns the output (B, h, Q, D) and the
    log-sum-exp of the scores (B, h, Q), in float32 at least.
    """
    scores = torch.matmul(q, k.transpose(2, 3)) * scale  # (B, h, Q, K)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores + mask
    wide = scores if scores.dtype == torch.float64 else scores.float()
    lse = wide.logsumexp(dim=3)  # (B, h, Q)
    return torch.matmul((wide - lse[..., None]).exp().to(v.dtype), v), lse


@cache
def find_attention_kernel() -> Any:
    """Torch's CPU attention kernel that returns the log-sum-exp; None where it is absent or differs from the above."""
    kernel = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    if kernel is None:
        return None
    q = torch.linspace(-2, 2, 2 * 3 * 5 * 8).sin().view(2, 3, 5, 8)
    k = torch.linspace(-1, 3, 2 * 3 * 5 * 8).cos().view(2, 3, 5, 8)
    zeros = torch.zeros(2, 1, 1, 5)
    triangle = torch.full((5, 5), -math.inf).triu_(1)
    try:
        results = [kernel(q, k, k, 0.0, False, attn_mask=zeros, scale=0.5), kernel(q, k, k, 0.0, True, scale=0.5)]
    except (RuntimeError, TypeError):
        return None
    plain = [attention_with_lse(q, k, k, mask, 0.5) for mask in (zeros, triangle)]
    pairs = [(a, b) for fast, slow in zip(results, plain, strict=True) for a, b in zip(fast, slow, strict=True)]
    return kernel if all(a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in pairs) else None
