"""Whether kernels in Triton compute what layers of the Llama family compute between products, or torch and why."""

from __future__ import annotations

from functools import cache

import torch
from torch.nn import functional as F

from .attention_choice import TOLERANCE, failures
from .compiled_decoder import CompiledDecoder
from .llama import LlamaDecoder
from .rms_norm import RmsNorm
from .rotation import turn


def fuse_layers(decoder: object, device: torch.device, dtype: torch.dtype) -> str:
    """Let the kernels compute the layers of a decoder whose attention is in Triton, where they are right.

    Returns what is to be said of it; nothing of another family than Llama.
    """
    if not isinstance(decoder, LlamaDecoder) or isinstance(decoder, CompiledDecoder):
        return ""
    why = layer_trial(device, dtype) or decoder.fuse()
    return ", layers in Triton" if why is None else f", layers in torch ({why})"


@cache
def layer_trial(device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with the kernels on a device: they cannot be compiled, or differ from torch; None if right."""
    generator = torch.Generator().manual_seed(0)
    heads, keys, dim, width = 3, 2, 24, 200

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    x, y, both = drawn(5, width), drawn(5, width), drawn(5, 2 * width)
    qkv, (cos, sin) = drawn(5, heads + 2 * keys, dim), drawn(5, 2, 1, dim).unbind(1)
    norm, *own = (RmsNorm(1 + drawn(size) / 4, 1e-3) for size in (width, dim, dim))
    entries, slots = torch.zeros(8, 2, keys, dim, dtype=dtype, device=device), torch.arange(5, device=device)
    total, rotated = x + y, qkv.clone()
    for place, weights in ((slice(heads), own[0]), (slice(heads, heads + keys), own[1])):
        rotated[:, place] = weights(rotated[:, place])
    turn(rotated[:, : heads + keys], cos, sin)
    try:
        from ..kernels.layer_parts import add_norm, gate, rotate_and_store  # noqa: PLC0415  # an optional library

        found = [*add_norm(x, y, norm.weight, norm.floor), gate(both)]
        rotate_and_store(qkv, (cos, sin), entries, slots, torch.stack([each.weight for each in own]), own[0].floor)
    except failures() as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    found += [qkv[:, :heads], entries[:5].flatten(1, 2)]
    right = [total, norm(total), F.silu(both[:, :width]) * both[:, width:], rotated[:, :heads], rotated[:, heads:]]
    for name, one, other in zip(("sum", "norm", "gate", "queries", "keys and values"), found, right, strict=True):
        worst = float((one.float() - other.float()).abs().max() / other.float().abs().max())
        if not worst <= TOLERANCE[dtype]:
            return f"{name}: results differ from plain ones by {worst:.2g}"
    return None
