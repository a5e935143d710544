"""The Triton kernels compiled for a GPU that is not there; :mod:`triton_cases` asks for it."""

from __future__ import annotations

from typing import Any

import torch

from treeagent.backends.seed.kernels.attention_table import AttentionTiles


def compile_for(argument: list[Any]) -> dict[str, Any]:
    """Compile all kernels for a compute capability, with all parameters; no GPU is needed, and nothing is started."""
    capability, dtype, heads, group, dim, queries = argument
    from triton.backends.compiler import GPUTarget
    from triton.runtime import JITFunction, driver

    from treeagent.backends.seed.kernels import paged_attention as kernel

    class NoDriver:
        """What a compilation asks a driver for."""

        get_current_target = staticmethod(lambda: GPUTarget("cuda", capability, 32))
        get_current_device = staticmethod(lambda: 0)
        get_current_stream = staticmethod(lambda device: 0)

    driver.set_active(NoDriver())
    built: list[Any] = []
    JITFunction.__getitem__ = lambda self, grid: lambda *args, **how: built.append(self.warmup(*args, grid=grid, **how))
    sinks = torch.zeros(heads * group)
    query = torch.zeros(1, heads * group, dim, dtype=getattr(torch, dtype))
    tiles = AttentionTiles(torch.zeros(100, dtype=torch.int32), 1, 1, queries, 256)
    from treeagent.backends.seed.kernels.token_choice import choose_tokens
    from treeagent.request import Sampling

    choose_tokens(torch.zeros(1, 128, dtype=query.dtype), [Sampling()], [1], [1])
    kernel.paged_attention(query, torch.zeros(1, 2, heads, dim, dtype=query.dtype), tiles, 0.1, 100, 30.0, sinks)
    from treeagent.backends.seed.kernels import layer_parts

    layer_parts.add_norm(torch.zeros(1, 4096, dtype=query.dtype), torch.zeros(1, 4096, dtype=query.dtype), sinks, 0.1)
    layer_parts.gate(torch.zeros(1, 2 * 4096, dtype=query.dtype))
    entries, slots = torch.zeros(1, 2, heads, dim, dtype=query.dtype), torch.zeros(1, dtype=torch.int64)
    qkv, turn = query.new_zeros(1, heads * (group + 2), dim), query.new_zeros(1, 1, dim)
    layer_parts.rotate_and_store(qkv, (turn, turn), entries, slots, torch.zeros(2, dim), 0.1)
    codes = [one.asm["ptx"] for one in built]
    return {
        "shared": max(one.metadata.shared for one in built),
        "spills": sum(code.count("st.local") for code in codes),
        "tensor cores": any("mma." in code for code in codes),
        "tf32": any("tf32" in code for code in codes),
    }
