"""The files of ``python -m treeagent.backends.bench.gpu`` as tables of the documents."""

from __future__ import annotations

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """The table of a file, by its kind."""
    return "\n".join({"gpu": _steps, "passes": _passes, "trees": _trees}[report["kind"]](report)) + "\n"


def _steps(report: dict[str, Any]) -> list[str]:
    lines = ["| measurement | state | seconds |", "| --- | --- | --- |"]
    for step in report["steps"].values():
        seconds = "-" if step["seconds"] is None else f"{step['seconds']:.0f}"
        lines.append(f"| {step['what']} | {step['state']} | {seconds} |")
    return lines


def _passes(report: dict[str, Any]) -> list[str]:
    lines = ["| rows | ms | bound of memory, ms | bound of arithmetic, ms | share of the bound | launches |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for line in report["passes"]:
        times = [1e3 * line[name] for name in ("seconds", "memory_seconds", "arithmetic_seconds")]
        launches = "-" if line["launches"] is None else line["launches"]
        ms = " | ".join(f"{each:.3f}" for each in times)
        lines.append(f"| {line['rows']} | {ms} | {line['share']:.0%} | {launches} |")
    label = f" ({report['widened']})" if report["widened"] else ""
    model = f"`{report['model'].rpartition('/')[2]}`{label}"
    said = f"{model} in {report['dtype']} on {report['device']}; {report['kernels']}."
    rates = f"{report['bytes_per_second'] / 1e9:,.0f} GB/s, {report['operations_per_second'] / 1e12:,.1f} TFLOP/s"
    return [*lines, "", said, f"Measured rates: {rates}."]


def _trees(report: dict[str, Any]) -> list[str]:
    device = report["device"]
    lines = [f"| puzzle | same tree | thoughts | seconds on {device} | seconds on the CPU |"]
    lines.append("| --- | --- | --- | --- | --- |")
    columns = (report["same"], report["thoughts"], report["seconds"][device], report["seconds"]["cpu"])
    for puzzle, same, thoughts, own, cpu in zip(report["puzzles"], *columns, strict=True):
        lines.append(f"| {puzzle} | {'yes' if same else 'no'} | {thoughts} | {own:.2f} | {cpu:.2f} |")
    return [*lines, "", "`mini` in float32, after load; the first puzzle warms the device up."]
