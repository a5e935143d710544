"""Puts a runner's passes into graphs at load, where they can be recorded and give the plain numbers."""

from __future__ import annotations

import sys

import torch

from ..kv_cache.radix_tree import OutOfMemory
from .compiled_decoder import CompiledDecoder
from .envelope import Envelope, EnvelopeSizes
from .graphed_decoder import GraphedDecoder, Progress
from .graphs import CudaGraphs, GraphBackend, NoGraphs
from .llama import LlamaDecoder
from .model_runner import ModelRunner
from .trial_pass import TrialPass, trial_segments

TRIAL = TrialPass(4, nodes=2)
"""The pass that is made with graphs and without."""
POOL_SHARE = 0.5
"""Of the free memory that the pool may take."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Largest difference of logits, as a share of their span; other types have :data:`ROUGH`."""
ROUGH = 5e-2


def set_up_graphs(
    runner: ModelRunner,
    backend: GraphBackend,
    progress: Progress | None = None,
    envelopes: tuple[Envelope, ...] | None = None,
) -> str | None:
    """Record the runner's passes over a pool that is allocated whole; None, or why they stay plain."""
    why = plain_reason(runner)
    if why is not None:
        return why
    try:
        _record(runner, backend, progress or show_progress, envelopes)
    except (NoGraphs, OutOfMemory, torch.OutOfMemoryError) as error:
        runner.use_plain_passes()
        return " ".join(str(error).split())[:200] or "there is too little memory for keys and values"
    return None


def plain_reason(runner: ModelRunner) -> str | None:
    """Why no pass of a runner can be recorded, in one line; None where passes can."""
    weights = runner.weights
    if runner.listens:
        return "a head reads the hidden states"
    if runner.forest.pool.states is not None:
        return "the model has recurrent states"
    if not isinstance(weights.decoder, LlamaDecoder) or isinstance(weights.decoder, CompiledDecoder):
        return "the model is of another family than Llama, or runs in compiled kernels"
    return None


def set_up_cuda_graphs(runner: ModelRunner) -> str:
    """What to add to the name of a runner's kernels; nothing on a CPU."""
    if runner.device.type != "cuda":
        return ""
    why = set_up_graphs(runner, CudaGraphs(runner.device))
    return ", CUDA graphs" if why is None else f", no CUDA graphs ({why})"


def show_progress(what: str, count: int, total: int) -> None:
    """A line on a terminal that is written over by the next."""
    if sys.stderr.isatty():
        end = "\n" if count == total else ""
        print(f"\rrecording graphs: {count} of {total} ({what})\033[K", end=end, file=sys.stderr, flush=True)


def _record(
    runner: ModelRunner, backend: GraphBackend, progress: Progress, envelopes: tuple[Envelope, ...] | None
) -> None:
    decoder = runner.decoder
    assert isinstance(decoder, LlamaDecoder)  # noqa: S101  # see plain_reason
    slot_bytes = runner.forest.pool.slot_bytes
    slots = min(runner.memory, int(POOL_SHARE * backend.free_bytes())) // slot_bytes
    if slots < 1:
        raise NoGraphs("there is no memory for keys and values")
    runner.fix_pool(slots)
    sizes = EnvelopeSizes(runner.context, envelopes)
    graphs = GraphedDecoder(decoder, runner.forest.pool, sizes, runner.device, runner.weights.tile_queries)
    with torch.inference_mode():
        graphs.capture(backend, runner.stages, progress)
    with runner.profiling(), trial_segments(runner, TRIAL) as segments:
        pool, chance = runner.forest.pool, torch.Generator(runner.device).manual_seed(0)
        for entries in pool.entries:
            entries[: pool.used].normal_(generator=chance)  # else a graph could read any slot of a new pool
        if (windows := pool.windows) is not None:
            for entries in windows.entries:
                entries[1 : windows.used + 1].normal_(generator=chance)  # row 0 stays zero
        plain = runner.forward(segments)[0].float()
        runner.use_graphs(graphs)
        logits = runner.forward(segments)[0].float()
    worst, span = float((logits - plain).abs().max()), float(plain.max() - plain.min())
    if not worst <= TOLERANCE.get(runner.dtype, ROUGH) * max(1.0, span):
        raise NoGraphs(f"logits of a trial pass differ from plain ones by {worst:.3g} (span {span:.3g})")
