"""Graphs with the Triton kernel of attention in them, recorded on a CPU; :mod:`triton_cases` asks for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from graph_recorder import GraphRecorder, StaleGraph

from treeagent.backends.models.decoder import load_decoder
from treeagent.backends.seed.executor import attention_tiles, shared_runs
from treeagent.backends.seed.executor.envelope import Envelope
from treeagent.backends.seed.executor.graph_setup import set_up_graphs
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.trial_pass import TrialPass, trial_segments
from treeagent.backends.seed.executor.weights import Weights

KERNELS = {
    "paged_attention": ("attend_tiles", "merge_tiles"),
    "layer_parts": ("add_and_norm", "turn_and_store", "gate_halves"),
}
"""By the module that starts them."""
SIZES = (Envelope(2, 4), Envelope(8, 10))
TRIALS = (TrialPass(2, private=8, nodes=2, shared=12), TrialPass(1, private=20))
OTHER = TrialPass(1, private=9)


class KernelRecorder(GraphRecorder):
    """Records what Triton's interpreter starts, too."""

    launched = 0
    """Kernels in recordings."""

    def capture(self, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        """See :class:`GraphRecorder`."""
        with ExitStack() as patches:
            for place, names in KERNELS.items():
                module = import_module(f"treeagent.backends.seed.kernels.{place}")  # of an optional library
                for name in names:
                    patches.enter_context(patch.object(module, name, _Launched(self, getattr(module, name))))
            return super().capture(work)


class _Launched:
    """A kernel that a recorder starts."""

    def __init__(self, recorder: KernelRecorder, kernel: Any) -> None:
        self._recorder, self._kernel = recorder, kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        started = self._kernel[grid]

        def start(*args: Any, **kwargs: Any) -> None:
            assert self._recorder.recording is not None
            self._recorder.launched += 1
            self._recorder.recording.launch(started, args, kwargs)

        return start


def graphed(case: dict[str, Any]) -> dict[str, Any]:
    """How far logits by graphs over Triton's kernel are from those of plain calls, and what two faults do."""
    with (
        patch.object(attention_tiles, "KEYS", 16),
        patch.object(shared_runs, "LEAST", 8),
        patch.dict("os.environ", TREEAGENT_KERNELS="off"),
        torch.inference_mode(False),
    ):
        weights = Weights(load_decoder(Path(case["folder"]), "float32", torch.device("cpu")), case["folder"])
        weights.tile_queries = 2
        own, recorder = ModelRunner(weights, 10**6, rows=True), KernelRecorder()
        why = set_up_graphs(own, recorder, lambda *_: None, SIZES)
        assert why is None, why
        graphs = own.graphs
        assert graphs is not None
        replayed = recorder.replayed
        worst = max(_difference(own, trial) for trial in TRIALS)
        result = {"worst": worst, "replayed": recorder.replayed - replayed, "launched": recorder.launched}
        recorded = dict(graphs._memories)  # later passes go elsewhere: this memory stays, then it is freed
        with torch.inference_mode():
            graphs._memories = {size: graphs._memory(size) for size in recorded}
        stale = _difference(own, OTHER)
        recorded.clear()
        try:
            _difference(own, OTHER)
        except StaleGraph as error:
            return {**result, "stale": stale, "freed": str(error)}
    return {**result, "stale": stale, "freed": ""}


def _difference(own: ModelRunner, trial: TrialPass) -> float:
    graphs, queries = own.graphs, own.weights.tile_queries
    with trial_segments(own, trial) as segments:
        chance = torch.Generator().manual_seed(trial.rows)
        pool = own.forest.pool
        assert pool.windows is not None
        for entries in (*pool.entries, *pool.windows.entries):
            entries[1:].normal_(generator=chance)  # row 0 is zeros
        fixed = own.forward(segments)[0]
        own.graphs, own.weights.tile_queries = None, 0
        plain = own.forward(segments)[0]
    own.graphs, own.weights.tile_queries = graphs, queries
    return float((fixed - plain).abs().max())
