"""Times of single passes against two bounds: reading their bytes once, and their multiplications.

The rates of the bounds are measured on the device: a copy of a large tensor, and a product of two large matrices.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from ...local.base import find_device
from ...models import catalog
from ...models.decoder import load_decoder
from ...models.model import DTYPES
from ...seed.executor.graph_setup import set_up_cuda_graphs
from ...seed.executor.model_runner import ModelRunner
from ...seed.executor.trial_pass import TrialPass, make_slots, run_trial, trial_segments
from ...seed.executor.weights import Weights
from ..widened.label import widened_label

ROWS = (1, 4, 16, 64)
REPEATS = 7
MEMORY = 8 * 10**9
"""Bytes of keys and values."""


def measure_passes(model: str, dtype: str, device: str | None, rows: Sequence[int] = ROWS) -> dict[str, Any]:
    """The passes of a model without drafts, for the file of results. Raises TreeagentError."""
    place = find_device(device)
    runner = ModelRunner(Weights(load_decoder(catalog.resolve(model), dtype, place), model), MEMORY)
    kernels = runner.weights.kernels + set_up_cuda_graphs(runner)
    bandwidth, rate = measured_rates(place, DTYPES[dtype])
    lines = []
    with runner.profiling():
        trials = [TrialPass(count, private=64, shared=256) for count in rows]
        make_slots(runner, trials)
        for trial in trials:
            with trial_segments(runner, trial) as segments:
                seconds = statistics.median(run_trial(runner, segments)[1] for _ in range(REPEATS))
                work = run_trial(runner, segments)[0]
                launches = counted_launches(partial(run_trial, runner, segments), place)
            weights = runner.parameters * DTYPES[dtype].itemsize
            size = weights + int(work.private + work.common) * runner.forest.pool.slot_bytes
            operations = 2 * runner.parameters * int(work.tokens)
            bounds = {"memory_seconds": size / bandwidth, "arithmetic_seconds": operations / rate}
            share = max(bounds.values()) / seconds
            lines.append(
                {
                    "rows": trial.rows,
                    "seconds": seconds,
                    "bytes": size,
                    "reading_share": weights / bandwidth / seconds,
                    "operations": operations,
                    **bounds,
                    "share": share,
                    "launches": launches,
                }
            )
    return {
        "kind": "passes", "model": model, "widened": widened_label(catalog.resolve(model)), "dtype": dtype,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU", "kernels": kernels,
        "bytes_per_second": bandwidth, "operations_per_second": rate, "passes": lines,
    }  # fmt: skip


def counted_launches(work: Callable[[], Any], device: torch.device) -> int | None:
    """Kernels and copies that a piece of work starts on a GPU, those of its graphs one by one; None on a CPU."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
    return len([event for event in profile.events() or () if event.device_type.name == "CUDA"])


def measured_rates(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes that the device reads in a second, and multiplications and additions that it does."""
    large = device.type == "cuda"
    source = torch.ones((1 << 30) if large else (1 << 22), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copying = _least(lambda: target.copy_(source), device)
    width = 8192 if large else 256
    matrix = torch.ones(width, width, dtype=dtype, device=device)
    multiplying = _least(lambda: matrix @ matrix, device)
    return 2 * len(source) / copying, 2 * width**3 / multiplying


def _least(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the quickest of a few runs."""
    times = []
    for _ in range(6):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)
