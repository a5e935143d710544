"""Where the tokens of a pass are drawn: on the device, so that their ids alone are read, or on the host and why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from treeagent.request import Sampling

from ...sampling.sampler import choose_rows
from ..kernels.transfers import transfers_of
from .attention_choice import CAPABILITY, TOLERANCE, capability, failures

TRIAL = (
    Sampling(temperature=1.0),
    Sampling(temperature=0.7, top_k=40),
    Sampling(temperature=1.5, top_p=0.9),
    Sampling(temperature=1.0, top_k=100, top_p=0.8, min_p=0.02),
)
"""Settings whose draws are compared before a device is trusted."""


def draw_rows(
    logits: torch.Tensor, samplings: Sequence[Sampling], streams: Sequence[int], positions: Sequence[int]
) -> NDArray[np.int64]:
    """The token id drawn from each row of ``logits`` (R, V), wherever these are: those of :func:`choose_rows`.

    For a row without a finite maximum -1 on a device; on the host it raises BackendError.
    """
    if not draws_on_device(logits):
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return choose_rows(wide.cpu().numpy(), samplings, streams, positions)
    from ..kernels.token_choice import choose_tokens  # noqa: PLC0415  # an optional library

    chosen = choose_tokens(logits, samplings, streams, positions)[0]
    drawn: NDArray[np.int64] = transfers_of(logits.device).fetch(chosen).numpy()
    return drawn


def draws_on_device(logits: torch.Tensor) -> bool:
    """Whether tokens are drawn from logits where these are."""
    return logits.device.type == "cuda" and host_reason(logits.device, logits.dtype) is None


@cache
def host_reason(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why tokens are not drawn on a CUDA device, in one line; None where they are."""
    if dtype not in TOLERANCE:
        return f"the kernel draws from no {str(dtype).removeprefix('torch.')}"
    if find_spec("triton") is None:
        return "no triton: pip install triton"
    found = capability(device)
    if found < CAPABILITY:
        return "compute capability {}.{} is below {}.{}".format(*found, *CAPABILITY)
    return draw_trial(device, dtype)


def draw_trial(device: torch.device, dtype: torch.dtype, size: int = 5000) -> str | None:
    """What is wrong with draws on a device: they cannot be compiled, or differ from the host's; None if right.

    Three rows for each of :data:`TRIAL` over a vocabulary of ``size``.
    """
    samplings = TRIAL * 3
    logits = 3 * torch.randn(len(samplings), size, generator=torch.Generator().manual_seed(0))
    logits = logits.to(dtype)
    streams = [(place + 1) * 0x9E3779B97F4A7C15 % 2**64 for place in range(len(samplings))]
    positions = list(range(len(samplings)))
    expected = choose_rows(logits.float().numpy(), samplings, streams, positions)
    try:
        from ..kernels.token_choice import choose_tokens  # noqa: PLC0415  # an optional library

        drawn = choose_tokens(logits.to(device), samplings, streams, positions)[0].cpu().numpy()
    except failures() as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    wrong = int((drawn != expected).sum())
    return f"{wrong} of {len(drawn)} trial draws differ from the host's" if wrong else None
