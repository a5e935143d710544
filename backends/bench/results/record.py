"""The JSON record of a benchmark, with the machine that it ran on."""

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

from ..config.plan import BenchGrid
from ..widened.label import widened_label
from .rows import GridCell
from .runs import digest
from .verdict import auto_verdict

FLAGS = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
"""Instructions that decide which kernels an engine takes."""
FORMAT = 2
"""Version of the file that ``--json`` writes."""


def to_json(grid: BenchGrid, cells: Sequence[GridCell], machine: dict[str, Any], began: datetime) -> dict[str, Any]:
    """Everything that was measured, cell by cell, and what it was measured on."""
    settings = asdict(grid.settings)
    del settings["device"], settings["threads"]  # the machine has what they resolved to
    settings["model"] = settings.pop("title") or settings["model"]
    settings["peers"] = {name: peer.model and peer.model.name for name, peer in grid.settings.peers.items()}
    sampling = asdict(grid.sampling)
    del sampling["temperature"]  # each cell has its own
    models = [model for model in (grid.settings.model, grid.settings.draft) if model is not None]
    reference = None
    if grid.reference is not None:
        reference = {"mode": grid.reference, "dtype": grid.settings.reference_dtype}
    return {
        "format": FORMAT,
        "began": began.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "widened": {model: label for model in models if (label := widened_label(model))},
        "settings": {
            **settings, "sampling": sampling, "suite": grid.suite, "workloads": grid.workloads,
            "temperatures": grid.temperatures, "branches": grid.branches, "seed": grid.seed, "repeat": grid.repeat,
            "modes": [mode.name for mode in grid.modes], "baseline": grid.baseline, "reference": reference,
        },
        "methods": [
            {"label": method.label, "mode": method.name, "what": method.what, "source": method.source}
            for method in grid.methods
        ],
        "cells": [_cell(grid, cell) for cell in cells if cell.rows],
    }  # fmt: skip


def _cell(grid: BenchGrid, cell: GridCell) -> dict[str, Any]:
    verdict = auto_verdict(cell.rows) if grid.suite is not None else None
    return {
        "workload": cell.workload,
        "temperature": cell.temperature,
        "branches": cell.branches,
        "auto": None if verdict is None else {**asdict(verdict), "near": verdict.near, "said": verdict.said},
        "rows": [{**asdict(row), "figures": dict(row.figures)} for row in cell.rows],
        "references": [
            None if result.reference is None else digest(result.reference[: cell.branches]) for result in cell.results
        ],
        "runs": [
            {**run.to_json(), "seed": result.plan.seed}
            for result in cell.results
            for run in result.runs
            if run.branches == cell.branches
        ],
    }


def machine(threads: int | None, device: torch.device, load: float | None) -> dict[str, Any]:
    """What the figures depend on; unknown is None. ``threads`` of torch, where they are set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "cpu": _cpu("model name") or platform.processor() or None,
        "cpu_flags": sorted({*(_cpu("flags") or "").split()} & FLAGS) or None,
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": threads or torch.get_num_threads(),
        "load": load,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "treeagent": treeagent.__version__,
    }


def _cpu(field: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)
