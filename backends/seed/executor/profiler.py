"""Measure the time of a model's passes on this machine, and store the measurements for later runs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from ...models import catalog
from .cost_table import CostTable
from .early_exit import EarlyExitRunner
from .model_runner import ModelRunner
from .pass_cost import PassCost
from .pass_work import PassWork
from .trial_pass import TrialPass, make_slots, run_trial, slots_of, trial_segments

COSTS = 7
"""Version of the measurement; tables of another version are measured again."""

TRIALS = (
    TrialPass(1),
    TrialPass(16),
    TrialPass(4, nodes=7),
    TrialPass(16, private=112),
    TrialPass(16, nodes=3),
    TrialPass(4),
    TrialPass(64),
    TrialPass(16, private=112, nodes=2),
    TrialPass(16, shared=1024),
    TrialPass(1, private=800, nodes=3),
    TrialPass(32),
    TrialPass(8),
    TrialPass(128, private=12),
    TrialPass(32, private=16, shared=256, groups=4),
    TrialPass(2),
    TrialPass(1, nodes=15),
    TrialPass(4, private=300),
    TrialPass(1, nodes=63, prompt=True),
    TrialPass(32, nodes=3),
    TrialPass(256, private=6),
)
"""What is measured, in this order: on a slow machine the last ones are left out."""

REPEATS = 2
"""How often in turn a pass is made; the least time counts, as keys are in place then, and other programs only delay."""

ENOUGH, QUICK = 3.0, 0.35
"""Seconds after which no more passes are measured, and after which none is measured again."""

CHECKS = (TrialPass(1), TrialPass(32))
"""What of a stored table is measured at every load."""

STALE = 1.5
"""A stored table is measured again if a pass is faster by this factor, or if a pass of many rows and one of a single
row differ by it in how much faster they are: the machine was busy at that time, or for a part of it."""

EXIT_ROWS, EXIT_REPEATS = 4, 5
"""Rows of the passes that compare exits, and how often both are made."""


def profile_exits(runner: EarlyExitRunner) -> tuple[float, float]:
    """Seconds of passes that end at the first exit, and of those that end at the last."""
    last, trial = len(runner.exits) - 1, TrialPass(EXIT_ROWS)
    times: dict[int, list[float]] = {0: [], last: []}
    with runner.profiling():
        make_slots(runner, [trial])
        with trial_segments(runner, trial) as segments:
            for _ in range(EXIT_REPEATS):  # the two alternate, because other load may disturb a part of it
                for number, seconds in times.items():
                    with runner.ending(number):
                        seconds.append(run_trial(runner, segments)[1])
    return min(times[0]), min(times[last])


def profile_cost(runner: ModelRunner, dtype: str) -> PassCost:
    """Seconds of passes by what they compute, from a table in the user's cache or measured and stored there."""
    path = catalog.cache_folder() / "costs" / f"{_digest(runner, dtype)}.json"
    stored = _read(path)
    with runner.profiling():
        if stored is not None:
            checks = _that_fit(runner, CHECKS) or CHECKS[:1]
            make_slots(runner, checks)
            speeds = [seconds / stored.predict(work) for work, seconds in (_measure(runner, one) for one in checks)]
            if min(speeds) > 1 / STALE and max(speeds) < STALE * min(speeds):
                return PassCost(stored, speeds[0], padded=runner.padded)
        trials = _that_fit(runner, TRIALS)
        make_slots(runner, trials)
        table = CostTable.fit(measure_passes(lambda trial: _measure(runner, trial), trials))
    _write(path, table)
    return PassCost(table, padded=runner.padded)


def measure_passes(
    run: Callable[[TrialPass], tuple[PassWork, float]], trials: Sequence[TrialPass] = TRIALS
) -> list[tuple[PassWork, float]]:
    """What each of the ``trials`` computes, and the least seconds that it took.

    Where there is time, all are run in turn once more, so that no disturbance spoils all times of one of them.
    """
    run(trials[0])  # the first pass of a process is slow
    began = time.perf_counter()
    least: list[tuple[PassWork, float]] = []
    for trial in trials:
        if time.perf_counter() - began > ENOUGH and len(least) > 1:
            break
        least.append(run(trial))
    for place, trial in enumerate(trials[: len(least)]):
        if time.perf_counter() - began > QUICK:
            break
        work, seconds = run(trial)
        least[place] = work, min(seconds, least[place][1])
    return least


def _that_fit(runner: ModelRunner, trials: Sequence[TrialPass]) -> list[TrialPass]:
    """Those that there is room for, as memory may be fixed."""
    return [trial for trial in trials if slots_of(trial) <= runner.forest.pool.room]


def _measure(runner: ModelRunner, trial: TrialPass) -> tuple[PassWork, float]:
    """What a trial computes, and its seconds."""
    with trial_segments(runner, trial) as segments:
        times = [run_trial(runner, segments) for _ in range(REPEATS)]
    return times[0][0], min(seconds for _, seconds in times)


def _digest(runner: ModelRunner, dtype: str) -> str:
    """Names the model's shape, the precision and the machine."""
    config = json.dumps(runner.weights.model.config.to_dict(), sort_keys=True, default=str)
    machine = (
        runner.device.type,
        torch.get_num_threads(),
        torch.__version__,
        os.cpu_count(),
        _processor(runner.device),
    )
    weights = runner.weights
    attention = weights.in_place or weights.tile_queries  # False, which is 0, for calls
    graphs = ("graphs",) if runner.graphs is not None else ()
    subject = (COSTS, config, runner.layers, dtype, weights.kernels, attention, machine, *graphs, *runner.ranks)
    return hashlib.blake2b(repr(subject).encode(), digest_size=12).hexdigest()


def _read(path: Path) -> CostTable | None:
    """The stored table; None where there is none, or a damaged one."""
    try:
        data = json.loads(path.read_text())
        table = CostTable(*(tuple(map(float, data[name])) for name in ("tokens", "seconds", "rates")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return table if table.valid else None


def _write(path: Path, table: CostTable) -> None:
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"tokens": table.tokens, "seconds": table.seconds, "rates": table.rates}))
        part.replace(path)
    except OSError:  # the next run measures again
        with suppress(OSError):
            part.unlink()


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
