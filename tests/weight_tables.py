"""The table of ``python -m treeagent.backends.bench.weight_files`` as a document quotes it."""

from __future__ import annotations

from typing import Any

ROWS = (1, 8, 16)


def markdown(report: dict[str, Any]) -> str:
    """A line for each type of numbers, by the fastest of its runs, and then what passes with two adapters take."""
    lines = ["| type | file, MiB | memory, MiB | 1 row | 8 rows | 16 rows |", "| --- | --- | --- | --- | --- | --- |"]
    files = report["file_bytes"]
    for name, runs in report["runs"].items():
        if name != "adapters":
            size = f"{files[name] / 2**20:.0f}" if name in files else "-"
            memory = f"{min(run['mebibytes'] for run in runs):.0f}"
            paces = [f"{rows / min(run[f'rows_{rows}_least'] for run in runs):.0f}" for rows in ROWS]
            lines.append(f"| {name} | {size} | {memory} | {' | '.join(paces)} |")
    adapters = report["runs"]["adapters"]
    one, two = (1e3 * min(run[f"{name}_least"] for run in adapters) for name in ("one_pass", "two_passes"))
    said = f"Two adapters of rank 16 on all linear layers, 8 rows each: one pass with all 16 rows takes {one:.1f} ms, "
    return "\n".join([*lines, "", f"{said}two passes take {two:.1f} ms."]) + "\n"
