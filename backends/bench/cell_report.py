"""The tables of ``treeagent bench --suite papers`` for a person, and everything there is to know for a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from rich.table import Table

from .config.methods import BASELINE, METHODS, Cell, Method, runnable
from .lines import AutoComparison, Estimate, Line, verdict
from .measure import digest
from .results.record import machine
from .results.report import NOTHING, number, speedup
from .results.rows import QUIET
from .suite import WorkloadGrid

FORMAT = 1
"""Version of the file that ``--suite papers --json`` writes."""

Column = tuple[str, Callable[[Line], str]]


def title(cell: Cell) -> str:
    """What was run in a cell."""
    plan = cell.plans[0]
    seeds = f"seed {plan.seed}" if len(cell.plans) == 1 else f"seeds {plan.seed} to {cell.plans[-1].seed}"
    drawing = "greedy" if cell.temperature == 0 else f"temperature {cell.temperature:g}"
    how = "one at a time" if plan.sequential else "at once"
    return f"{cell.workload}, {drawing}: {plan.branches[0]} prompts {how} ({seeds})"


def table(cell: Cell, lines: Sequence[Line]) -> Table:
    """One method a row; columns that say nothing in any row are left out."""
    engine: list[Column] = [
        ("block efficiency", lambda line: with_error(line.block_efficiency)),
        ("accepted", lambda line: number(line.accepted, ".0f", 100, sign=" %")),
        ("MBSU", lambda line: number(line.mbsu, ".2f")),
        ("KV peak", lambda line: number(line.kv_peak_bytes, ",.1f", 2**-20, sign=" MiB")),
        ("log p", lambda line: with_error(line.score)),
    ]
    columns: list[Column] = [
        ("method", lambda line: line.label),
        ("tokens/s", lambda line: number(line.tokens_per_second, ",.1f")),
        ("speed-up", lambda line: speedup(line.speedup, line.interval, baseline=line.mode == BASELINE)),
        *((name, text) for name, text in engine if any(text(line) != NOTHING for line in lines)),
        ("equal", lambda line: _equal(cell, line)),
    ]
    made = Table(title=title(cell), title_justify="left", title_style="")
    for place, (name, _) in enumerate(columns):
        made.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    for line in lines:
        made.add_row(*(text(line) for _, text in columns), style="red" if line.wrong else None)
    return made


def remarks(lines: Sequence[Line], *, cpu: bool) -> list[str]:
    """How ``auto`` did, and a line for every difference, failure and, as can be told on a ``cpu``, disturbance."""
    found = verdict(lines)
    said = [] if found is None else [auto(found)]
    for line in lines:
        if line.difference is not None:
            kind = "differs from the reference and must not" if line.exact else "differs from the reference"
            said.append(f"{line.label}: {kind}: repeat {(line.difference_repeat or 0) + 1}, {line.difference}")
        if line.error is not None:
            said.append(f"{line.label} failed: {' '.join(line.error.split())}")
    disturbed = sum(line.disturbed for line in lines)
    if cpu and disturbed:
        said.append(
            f"{disturbed} of {sum(line.repeats for line in lines)} runs were held up by other work on this machine "
            f"(less than {QUIET:.0%} of a core): measure again when it is quiet"
        )
    return said


def auto(found: AutoComparison) -> str:
    """Whether the engine as it comes is as fast as the best fixed configuration."""
    interval = "" if found.interval is None else f" [{found.interval[0]:.2f}-{found.interval[1]:.2f}]"
    return (
        f"auto: {found.ratio:.2f}x{interval} of the speed of the best fixed configuration, {found.best}: {found.said}"
    )


def caption(cells: Sequence[Cell], methods: Sequence[Method]) -> list[str]:
    """How to read the tables, what the methods are, and which could not be run."""
    plan, repeat = cells[0].plans[0], len(cells[0].plans)
    runs = f"medians of {repeat} alternating runs, each on prompts of its own" if repeat > 1 else "one run"
    draft = "" if plan.draft is None else f", draft {plan.draft}"
    told = [f"{plan.model}, {plan.dtype}{draft}; at most {plan.sampling.max_tokens} new tokens each"]
    for name, value in (("top-k", plan.sampling.top_k), ("top-p", plan.sampling.top_p)):
        told[0] += "" if value is None else f", {name} {value:g}"
    warm = "" if plan.warm_seed is None else f", drafters' tables warmed by prompts of seed {plan.warm_seed}"
    told.append(f"{runs}, cold cache{warm}, reading of the prompts included")
    interval = " [95 % interval]" if repeat >= 3 else ""
    told.append(f"speed-up: tokens/s against {_label(BASELINE, methods)} in the same repeat{interval}")
    told.append("block efficiency: tokens that a branch gets from a pass" + ", ± standard error" * (repeat > 1))
    if any(method.num_beams is not None for method in methods):
        told.append(
            "log p: mean summed log-probability of the outputs; with beams an output is the best of several, which is "
            "more work: compare DSBD with beams"
        )
    if plan.reference is not None:
        told.append(f"equal: outputs that are, token for token, those of {plan.reference} in {plan.reference_dtype}")
    for method in methods:
        source = "" if method.source is None else f" ({method.source})"
        told.append(f"{method.label}: {method.what}{source}; {method.name}")
    able = {method.label for method in runnable(plan.draft)}
    missing = [method for method in METHODS if method.label not in able]
    for kind, left in (("--draft", [m for m in missing if not m.exits]), ("exits", [m for m in missing if m.exits])):
        if left:
            cure = "without --draft" if kind == "--draft" else "without a --draft model of several exits"
            told.append(f"not run {cure}: {', '.join(method.label for method in left)}")
    return told


def to_json(
    work: WorkloadGrid, methods: Sequence[Method], tables: Sequence[Sequence[Line]], began: datetime
) -> dict[str, Any]:
    """Everything that was measured, cell by cell, and what it was measured on."""
    cells, first = work.cells, work.benches[0][0]
    plan = first.plan
    settings = {
        "model": plan.model, "draft": plan.draft, "dtype": plan.dtype, "chat": plan.chat, "seed": plan.seed,
        "repeat": len(cells[0].plans), "branches": plan.branches[0], "warm_seed": plan.warm_seed,
        "max_tokens": plan.sampling.max_tokens, "top_k": plan.sampling.top_k, "top_p": plan.sampling.top_p,
        "sequential": plan.sequential, "reopen": plan.reopen, "baseline": plan.baseline,
        "reference": None if plan.reference is None else {"mode": plan.reference, "dtype": plan.reference_dtype},
    }  # fmt: skip
    return {
        "format": FORMAT,
        "began": began.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(first),
        "settings": settings,
        "methods": [
            {"label": method.label, "mode": method.name, "what": method.what, "source": method.source}
            for method in methods
        ],
        "cells": [_cell(work, place, lines) for place, lines in enumerate(tables) if lines],
    }


def _cell(work: WorkloadGrid, place: int, lines: Sequence[Line]) -> dict[str, Any]:
    cell, benches = work.cells[place], work.benches[place]
    found = verdict(lines)
    return {
        "workload": cell.workload,
        "temperature": cell.temperature,
        "auto": None if found is None else {**asdict(found), "near": found.near, "said": found.said},
        "lines": [line.to_json() for line in lines],
        "references": [None if bench.reference is None else digest(bench.reference) for bench in benches],
        "runs": [
            {**run.to_json(), "repeat": repeat, "seed": bench.plan.seed}
            for repeat, bench in enumerate(benches)
            for run in bench.runs
        ],
    }


def with_error(found: Estimate | None) -> str:
    """A mean with its standard error, if that is known."""
    if found is None:
        return NOTHING
    return f"{found.mean:.2f}" if found.error is None else f"{found.mean:.2f} ± {found.error:.2f}"


def _label(mode: str, methods: Sequence[Method]) -> str:
    return next((method.label for method in methods if method.name == mode), mode)


def _equal(cell: Cell, line: Line) -> str:
    if line.error is not None and not line.repeats:
        return "failed"
    if line.equal is None:
        sampled = cell.plans[0].reference is not None and cell.temperature > 0
        return "sampled, own noise" if sampled else "not checked"
    return f"{line.equal}/{line.compared}" + (" DIFFERS" if line.wrong else "")
