"""A benchmark's JSON record, and the machine that it names."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import treeagent

from ..measure import Bench, digest
from .rows import Row, _steps

FORMAT = 1
"""Version of the file that ``--json`` writes."""


def to_json(bench: Bench, rows: Sequence[Row], began: datetime) -> dict[str, Any]:
    """Everything that was measured and what it was measured on."""
    plan = bench.plan
    settings = {
        "model": plan.model, "draft": plan.draft, "dtype": plan.dtype, "chat": plan.chat,
        "sampling": asdict(plan.sampling), "modes": [mode.name for mode in plan.modes], "repeat": plan.repeat,
        "sequential": plan.sequential, "reopen": plan.reopen, "scaling": plan.scaling,
    }  # fmt: skip
    workload = {
        "kind": plan.workload, "seed": plan.seed, "branches": plan.branches, "warm_seed": plan.warm_seed,
        "different": len(set(plan.prompts)),
    }  # fmt: skip
    held = None
    if plan.reference is not None and bench.reference is not None:
        held = {"mode": plan.reference, "dtype": plan.reference_dtype, "digest": digest(bench.reference)}
    steps = _steps(rows)
    return {
        "format": FORMAT,
        "began": began.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(bench),
        "workload": workload,
        "settings": settings,
        "baseline": plan.baseline,
        "reference": held,
        "rows": [
            {**row.to_json(), "accepted": row.accepted, "per_doubling": steps.get((row.mode, row.branches))}
            for row in rows
        ],
        "runs": [run.to_json() for run in bench.runs],
    }


def machine(bench: Bench) -> dict[str, Any]:
    """What the figures depend on; unknown is None."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cuda = bench.device.type == "cuda"
    return {
        "cores": cores,
        "cpu": _cpu(),
        "device": str(bench.device),
        "gpu": torch.cuda.get_device_name(bench.device) if cuda else None,
        "threads": bench.plan.threads or torch.get_num_threads(),
        "load": bench.load,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "treeagent": treeagent.__version__,
    }


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or None
