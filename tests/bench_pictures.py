"""Plots of measured speeds as the documents show them, from files that ``treeagent bench --json`` wrote.

``python tests/bench_pictures.py`` draws them anew, after a measurement or a change of the plot.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench_tables import upgraded

from treeagent.backends.bench.config.methods import Method
from treeagent.backends.bench.config.modes import find
from treeagent.backends.bench.config.plan import BenchGrid, BenchSettings
from treeagent.backends.bench.results.plot import draw
from treeagent.backends.bench.results.rows import BenchRow, GridCell
from treeagent.request import Sampling

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = {"bench.png": "bench-cpu-float32.json", "bench-seeds.png": "bench-seeds.json"}
"""Each plot of the documents, and the file of docs/results that it shows."""


def redraw(results: Path, picture: Path) -> None:
    """Draw the plot of a file of any format that a committed file has."""
    report = upgraded(json.loads(results.read_text()))
    settings, cells = report["settings"], [_cell(cell, report["settings"]) for cell in report["cells"]]
    labels = {row.label: row.mode for cell in cells for row in cell.rows}
    grid = BenchGrid(
        settings=BenchSettings(**{name: settings[name] for name in ("model", "draft", "dtype")}),
        workloads=tuple(dict.fromkeys(cell.workload for cell in cells)),
        temperatures=tuple(dict.fromkeys(cell.temperature for cell in cells)),
        branches=tuple(settings["branches"]),
        sampling=Sampling(),
        seed=settings["seed"],
        repeat=settings["repeat"],
        modes=tuple(find(mode) for mode in labels.values()),
        baseline=settings["baseline"],
        reference=None,
        suite=settings["suite"],
        methods=tuple(Method(label, mode, "") for label, mode in labels.items()),
        plans=(),
    )
    draw(grid, cells, picture)


def _cell(cell: dict[str, Any], settings: dict[str, Any]) -> GridCell:
    """Parts that files of format 1 leave out are those of the whole file."""
    where = {
        "workload": cell["workload"] if "workload" in cell else settings["workloads"][0],
        "temperature": cell["temperature"] if "temperature" in cell else settings["temperatures"][0],
        "branches": cell["branches"] if "branches" in cell else settings["branches"][0],
    }
    shown = ("mode", "repeats", "tokens_per_second", "speedup", "interval", "ratios")
    rows = [
        BenchRow(
            label=row.get("label", row["mode"]),
            branches=where["branches"],
            seconds=None,
            tokens=None,
            **{name: row[name] for name in shown},
        )
        for row in cell["rows"]
    ]
    return GridCell(**where, results=(), rows=tuple(rows))


if __name__ == "__main__":
    for picture, results in PICTURES.items():
        redraw(DOCS / "results" / results, DOCS / picture)
