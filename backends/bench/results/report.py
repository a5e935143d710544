"""The report of a benchmark: a table for every workload and temperature, remarks, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from rich.table import Table

from ..config.methods import METHODS, select_methods
from ..config.plan import BenchGrid
from ..widened.label import labelled
from .rows import QUIET, BenchRow, Estimate, GridCell
from .verdict import AutoVerdict, auto_verdict

NOTHING = "-"

Column = tuple[str, Callable[[BenchRow], str]]


def tables(cells: Sequence[GridCell]) -> list[list[GridCell]]:
    """The cells of each table: those with rows that differ in the number of branches alone."""
    shown = [cell for cell in cells if cell.rows]
    return [list(group) for _, group in groupby(shown, key=lambda cell: (cell.workload, cell.temperature))]


def table(grid: BenchGrid, cells: Sequence[GridCell]) -> Table:
    """One row a mode and number of branches; columns without any value are left out."""
    rows = [row for cell in cells for row in cell.rows]
    columns: list[Column] = [("mode" if grid.suite is None else "method", lambda row: row.label)]
    if len(grid.branches) > 1:
        columns.append(("branches", lambda row: str(row.branches)))
    columns.append(("seconds", lambda row: number(row.seconds, ".2f")))
    if grid.settings.scaling:
        columns += [
            ("ms per token", lambda row: number(row.seconds_per_token, ".2f", 1e3)),
            ("per doubling", lambda row: number(row.per_doubling, ".2f", unit="x")),
        ]
    else:
        columns += [
            ("tokens/s", lambda row: number(row.tokens_per_second, ",.1f")),
            ("speed-up", lambda row: _speedup(row, grid.baseline)),
        ]
    columns.append(("equal", lambda row: _equal(grid, cells[0], row)))
    optional: list[Column] = [
        ("log p", lambda row: with_error(row.score)),
        ("block efficiency", lambda row: with_error(row.block_efficiency)),
        ("accepted", lambda row: number(row.accepted, ".0f", 100, unit=" %")),
        ("MBSU", lambda row: number(row.mbsu, ".2f")),
        ("overhead", lambda row: number(row.overhead, ".1f", 100, unit=" %")),
        ("peak memory", lambda row: number(row.peak_bytes, ",.0f", 2**-20, unit=" MiB")),
        ("while loading", lambda row: number(row.load_peak_bytes, ",.0f", 2**-20, unit=" MiB")),
        ("KV peak", lambda row: number(row.kv_peak_bytes, ",.1f", 2**-20, unit=" MiB")),
    ]
    columns += [(name, text) for name, text in optional if any(text(row) != NOTHING for row in rows)]
    drawn = Table(title=title(grid, cells[0]), title_justify="left", title_style="")
    for column, (name, _) in enumerate(columns):
        drawn.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for cell in cells:
        for row in cell.rows:
            texts = [text(row) for _, text in columns]
            drawn.add_row(*texts, end_section=row is cell.rows[-1], style="red" if row.wrong else None)
    return drawn


def title(grid: BenchGrid, cell: GridCell) -> str:
    """What was run in a table."""
    seeds = [result.plan.seed for result in cell.results]
    said = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    drawing = "greedy" if cell.temperature == 0 else f"temperature {cell.temperature:g}"
    how = "one at a time" if grid.settings.sequential else "at once"
    return f"{cell.workload}, {drawing}: {', '.join(map(str, grid.branches))} prompts {how} ({said})"


def remarks(grid: BenchGrid, cells: Sequence[GridCell], *, cpu: bool) -> list[str]:
    """The verdict on ``auto`` in a suite, and a line for every difference, failure and, on a ``cpu``, disturbance."""
    lines: list[str] = []
    rows = [row for cell in cells for row in cell.rows]
    for cell in cells if grid.suite is not None else ():
        verdict = auto_verdict(cell.rows)
        lines += [] if verdict is None else [auto(verdict)]
    failures: dict[str, str] = {}
    for row in rows:
        where = f"{row.label}, {row.branches} branches" if len(grid.branches) > 1 else row.label
        if row.difference is not None:
            kind = "differs from the reference and must not" if row.exact else "differs from the reference"
            repeat = f"repeat {(row.difference_repeat or 0) + 1}, " if grid.repeat > 1 else ""
            lines.append(f"{where}: {kind}: {repeat}{row.difference}")
        if row.error is not None:
            failures.setdefault(row.label, " ".join(row.error.split()))
    lines += [error if error.startswith(label) else f"{label}: {error}" for label, error in failures.items()]
    if any(row.repeats for row in rows) and not any(row.tokens for row in rows):
        lines.append("no mode generated any token: the model ends these texts at once, so nothing was compared")
    disturbed = sum(row.disturbed for row in rows)
    if cpu and disturbed:
        lines.append(
            f"{disturbed} of {sum(row.repeats for row in rows)} runs were held up by other work on this machine (less "
            f"than {QUIET:.0%} of a core): measure again when it is quiet"
        )
    return lines


def auto(verdict: AutoVerdict) -> str:
    """Whether the engine with default options is as fast as the best fixed configuration."""
    interval = "" if verdict.interval is None else f" [{verdict.interval[0]:.2f}-{verdict.interval[1]:.2f}]"
    best = f"the speed of the best fixed configuration, {verdict.best}"
    return f"auto: {verdict.ratio:.2f}x{interval} of {best}: {verdict.said}"


def caption(grid: BenchGrid) -> list[str]:
    """The settings, how to read the tables and, for a suite, what its methods are and which could not run."""
    settings, sampling = grid.settings, grid.sampling
    draft = "" if settings.draft is None else f", draft {labelled(settings.draft)}"
    model = labelled(settings.title or settings.model)
    head = f"{model}, {settings.dtype}{draft}; at most {sampling.max_tokens} new tokens each"
    if max(grid.temperatures) > 0:
        cuts = (("top-k", sampling.top_k), ("top-p", sampling.top_p))
        head += "".join(f", {name} {value:g}" for name, value in cuts if value is not None)
    others = "" if grid.suite is None else ", each on prompts of its own"
    runs = f"medians of {grid.repeat} alternating runs{others}" if grid.repeat > 1 else "one run"
    warm = "" if settings.warm_seed is None else f", drafters' tables warmed by prompts of seed {settings.warm_seed}"
    lines = [head, f"{runs}, cold cache{warm}, prefill included"]
    if not settings.scaling:
        baseline = next(method.label for method in grid.methods if method.name == grid.baseline)
        interval = " [95 % interval]" if grid.repeat >= 3 else ""
        lines.append(f"speed-up: tokens/s against {baseline} in the same repeat{interval}")
    if any(mode.family == "seed" for mode in grid.modes):
        error = ", ± standard error" if grid.suite is not None and grid.repeat > 1 else ""
        lines.append(f"block efficiency: tokens that a branch gains per target pass{error}")
    if any(mode.num_beams > 1 for mode in grid.modes):
        lines.append(
            "log p: mean summed log-probability of the outputs; with beams an output is the best of several, which is "
            "more work: compare beams with beams"
        )
    if grid.reference is not None:
        lines.append(
            f"equal: outputs that are, token for token, those of {grid.reference} in {settings.reference_dtype}"
        )
    return lines if grid.suite is None else [*lines, *_methods(grid)]


def _methods(grid: BenchGrid) -> list[str]:
    lines = []
    for method in grid.methods:
        source = "" if method.source is None else f" ({method.source})"
        lines.append(f"{method.label}: {method.what}{source}; {method.name}")
    able = {method.label for method in select_methods(grid.settings.draft)}
    missing = [method for method in METHODS if method.label not in able]
    for needs_exits, need in ((False, "without --draft"), (True, "without a --draft model of several exits")):
        if labels := [method.label for method in missing if method.exits == needs_exits]:
            lines.append(f"not run {need}: {', '.join(labels)}")
    return lines


def number(value: float | None, how: str, scale: float = 1, *, unit: str = "") -> str:
    """A figure for a table, or a dash if it is unknown."""
    return NOTHING if value is None else f"{value * scale:{how}}{unit}"


def with_error(figure: Estimate | None) -> str:
    """A mean with its standard error, if that is known."""
    if figure is None:
        return NOTHING
    return f"{figure.mean:.2f}" if figure.error is None else f"{figure.mean:.2f} ± {figure.error:.2f}"


def _speedup(row: BenchRow, baseline: str) -> str:
    if row.speedup is None:
        return NOTHING
    if row.interval is None or row.mode == baseline:
        return f"{row.speedup:.2f}x"
    return f"{row.speedup:.2f}x [{row.interval[0]:.2f}-{row.interval[1]:.2f}]"


def _equal(grid: BenchGrid, cell: GridCell, row: BenchRow) -> str:
    if row.error is not None and not row.repeats:
        return "failed"
    if row.equal is None:
        return "sampled, own noise" if grid.reference is not None and cell.temperature > 0 else "not checked"
    return f"{row.equal}/{row.compared}" + (" DIFFERS" if row.wrong else "")
