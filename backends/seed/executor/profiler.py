"""Measure the time of a model's passes on this machine, and store the measurements for later runs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch

from ...models import catalog
from .cost_table import REPEATS, CostTable
from .early_exit import EarlyExitRunner
from .model_runner import ModelRunner
from .segment import Segment

COSTS = 4
"""Version of the measurement; tables of another version are measured again."""

MEASURED_CONTEXT = (256, 32)
"""Shared and private context tokens of each row in a measured pass."""

STALE = 1.5
"""A stored table is measured again if a pass of one row is faster by this factor: the machine was busy at that time."""

EXIT_ROWS = 4
"""Rows of the passes that compare exits."""


def profile_exits(runner: EarlyExitRunner) -> tuple[float, float]:
    """Seconds of passes that end at the first exit, and of those that end at the last."""
    last = len(runner.exits) - 1
    with runner.profiling():  # the two alternate, because other load may disturb a part of the measurement
        pairs = [(_time_exit(runner, 0), _time_exit(runner, last)) for _ in range(2 * REPEATS)]
    return min(first for first, _ in pairs), min(whole for _, whole in pairs)


def _time_exit(runner: EarlyExitRunner, number: int) -> float:
    with runner.ending(number):
        return _time(runner, EXIT_ROWS, 0)


def profile_cost_table(runner: ModelRunner, dtype: str) -> CostTable:
    """Seconds of passes by size, read from the user's cache or measured and stored there."""
    config = json.dumps(runner.weights.model.network.config.to_dict(), sort_keys=True, default=str)
    machine = (
        runner.device.type,
        torch.get_num_threads(),
        torch.__version__,
        os.cpu_count(),
        _processor(runner.device),
    )
    subject = (COSTS, config, runner.layers, dtype, machine)
    digest = hashlib.blake2b(repr(subject).encode(), digest_size=12).hexdigest()
    path = catalog.cache_folder() / "costs" / f"{digest}.json"
    stored = _read(path)
    with runner.profiling():
        if stored is not None and stored(1) < STALE * min(_time(runner, 1, 0) for _ in range(1 + REPEATS)):
            return stored
        measured = CostTable.measure(lambda rows, drafted: _time(runner, rows, drafted))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"rows": measured.rows, "seconds": measured.seconds}))
        part.replace(path)
    except OSError:
        pass  # the next run measures again
    return measured


def _time(runner: ModelRunner, rows: int, drafted: int) -> float:
    """Seconds of one pass over ``rows`` sequences, each with one new token and a chain of ``drafted`` tokens."""
    forest = runner.forest
    longest = runner.context or sum(MEASURED_CONTEXT) + 8
    common, own = (max(1, min(length, longest // 4)) for length in MEASURED_CONTEXT)
    own = min(own, longest - common - 1)
    deepest = longest - common - own  # levels that have a position; of a short context the rest of a chain begins anew
    node, _ = forest.match_prefix([1] * common)
    node.mark_computed(common)  # the time does not depend on the values
    for entries in forest.pool.entries:
        entries.zero_()
    table = np.concatenate([above.slots for above in node.path()])
    # Real drafts differ in length: every second sequence has none, the others twice the length.
    lengths = [1 + drafted] if rows == 1 else [1 + (2 * drafted if row % 2 else 0) for row in range(rows)]
    slots = forest.allocate(sum(lengths) + rows * own)
    segments = []
    for row, length in enumerate(lengths):
        start = row * own + sum(lengths[:row])
        context = np.concatenate((table, slots[start : start + own]))
        new = slots[start + own : start + own + length]
        parents = None if length <= deepest else [i - 1 if i % deepest else -1 for i in range(length)]
        segments.append(Segment([1] * length, new, context, node, parents, range(length)))
    before = runner.seconds
    runner.forward(segments)
    seconds = runner.seconds - before
    forest.pool.free(slots)
    forest.release(node, keep=True)
    return seconds


def _read(path: Path) -> CostTable | None:
    try:
        data = json.loads(path.read_text())
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
