"""Times a model's passes on this machine, and keeps what was measured for the next time."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from ...models import catalog
from .cost_table import REPEATS, CostTable
from .early_exit import EarlyExitRunner
from .forward_batch import Segment
from .model_runner import ModelRunner

COSTS = 4
"""Version of what is measured; a new one measures anew."""

MEASURED_CONTEXT = (256, 32)
"""Tokens that all rows share, and tokens of each row's own, when passes are measured."""

STALE = 1.5
"""A kept table is measured anew where one row takes so much less: somebody disturbed the machine when it was made."""

EXIT_ROWS = 4
"""Rows of the passes that are timed to compare exits."""


def profile_exits(runner: EarlyExitRunner) -> tuple[float, float]:
    """Seconds of passes that end at the first exit, and of those that end at the last."""
    last = len(runner.exits) - 1
    runner.forest.pool.limit = sys.maxsize
    try:
        pairs = [(_ending(runner, 0), _ending(runner, last)) for _ in range(2 * REPEATS)]  # in turn, as a machine may
        return min(first for first, _ in pairs), min(whole for _, whole in pairs)  # be disturbed for a while
    finally:
        _forget(runner)


def _ending(runner: EarlyExitRunner, number: int) -> float:
    with runner.ending(number):
        return _time(runner, EXIT_ROWS, 0)


def _forget(runner: ModelRunner) -> None:
    """As if nothing had been run."""
    runner.forest = runner.new_forest()
    runner.seconds, runner.passes, runner.left = 0.0, 0, [0] * len(runner.left)


def profile_cost_table(runner: ModelRunner, dtype: str) -> CostTable:
    """Seconds of passes by size, from the user's cache or measured now and kept there."""
    config = json.dumps(runner.weights.model.network.config.to_dict(), sort_keys=True, default=str)
    machine = (
        runner.device.type,
        torch.get_num_threads(),
        torch.__version__,
        os.cpu_count(),
        _processor(runner.device),
    )
    measured_as = (COSTS, config, runner.layers, dtype, machine)
    digest = hashlib.blake2b(repr(measured_as).encode(), digest_size=12).hexdigest()
    kept = catalog.cache_folder() / "costs" / f"{digest}.json"
    found = _read(kept)
    runner.forest.pool.limit = sys.maxsize  # for the time of measuring, as kv_memory may be less than the largest pass
    try:
        if found is not None and found(1) < STALE * min(_time(runner, 1, 0) for _ in range(1 + REPEATS)):
            return found
        measured = CostTable.measure(lambda rows, drafted: _time(runner, rows, drafted))
    finally:
        _forget(runner)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"rows": measured.rows, "seconds": measured.seconds}))
        part.replace(kept)
    except OSError:
        pass  # it is measured again next time
    return measured


def _time(runner: ModelRunner, rows: int, drafted: int) -> float:
    """Seconds of one pass over ``rows`` rows of one new token and a chain of ``drafted`` more each."""
    forest = runner.forest
    longest = runner.context or sum(MEASURED_CONTEXT) + 8
    common, own = (max(1, min(length, longest // 4)) for length in MEASURED_CONTEXT)
    node, _ = forest.join([1] * common)
    node.computed = len(node.tokens)  # what the slots hold makes no difference to the time
    for entries in forest.pool.entries:
        entries.zero_()
    table = np.concatenate([above.slots for above in node.path()])
    # Drafts differ in length: of two neighbours one drafts nothing, the other for both.
    lengths = [1 + drafted] if rows == 1 else [1 + (2 * drafted if row % 2 else 0) for row in range(rows)]
    slots = forest.allocate(sum(lengths) + rows * own)
    spans = []
    for row, length in enumerate(lengths):
        start = row * own + sum(lengths[:row])
        context = np.concatenate((table, slots[start : start + own]))
        new = slots[start + own : start + own + length]
        spans.append(Segment([1] * length, new, context, node, wanted=range(length)))
    before = runner.seconds
    runner.forward(spans)
    seconds = runner.seconds - before
    forest.pool.free(slots)
    forest.leave(node, keep=True)
    return seconds


def _read(kept: Path) -> CostTable | None:
    try:
        data = json.loads(kept.read_text())
        return CostTable(tuple(data["rows"]), tuple(map(tuple, data["seconds"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
