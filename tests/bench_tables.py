"""Tables of measured speeds as the documents quote them, from the files that ``treeagent bench --json`` writes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import typer
import typer.main
from cell_tables import markdown as cells_markdown
from cell_tables import widened

from treeagent.backends.bench import command
from treeagent.backends.bench.config.plan import BenchGrid, BenchOptions
from treeagent.backends.bench.workloads.prompts import KINDS
from treeagent.errors import ConfigError

Report = dict[str, Any]
Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]

NOTHING = "-"
BRIEF = 5
"""Columns of a table that shows some of the modes."""


def markdown(report: Report, only: Sequence[str] = ()) -> str:
    """The table of a report and what to know of it; of the modes ``only`` those, in that order, if any are named.

    Of methods on several kinds of task ``only`` names the kinds; see :mod:`cell_tables`.
    """
    if "cells" not in report and "rows" not in report:
        return _foreign(report)
    report = upgraded(report)
    settings = report["settings"]
    if settings["suite"] is not None:
        return cells_markdown(report, only)
    rows = [row for cell in report["cells"] for row in cell["rows"]]
    if only:
        rows = [row for mode in only for row in rows if row["mode"] == mode]
    if settings["scaling"]:
        table = _table(rows, _scaling(rows))
    elif len(settings["branches"]) > 1:
        table = _by_branches(rows, settings["branches"])
        if settings["draft"] is not None or any("draft=" in row["mode"] for row in rows):
            table += ["", *_by_position(rows, settings["branches"])]
    else:
        table = _table(rows, _modes(report)[: BRIEF if only else None])
    return "\n".join([*table, "", *_caption(report, rows)]) + "\n"


def upgraded(report: Report) -> Report:
    """A file of format 1, of modes or of ``--seeds``, in the parts of format 2 that tables and commands need."""
    if report["format"] > 1:
        return report
    old = report["settings"]
    if "cells" in report:
        sampling = {name: old[name] for name in ("max_tokens", "top_k", "top_p")}
        cells = [{**cell, "rows": cell["lines"]} for cell in report["cells"]]
        grid = {"suite": "papers", "branches": [old["branches"]], "sampling": sampling, "scaling": False}
        return {**report, "format": 2, "settings": {**old, **grid}, "cells": cells}
    workload, held = report["workload"], report["reference"]
    grid = {
        "suite": None, "workloads": [workload["kind"]], "temperatures": [old["sampling"]["temperature"]],
        "branches": workload["branches"], "seed": workload["seed"], "warm_seed": workload["warm_seed"],
        "baseline": report["baseline"], "reference": held and {"mode": held["mode"], "dtype": held["dtype"]},
    }  # fmt: skip
    cells = [
        {"branches": count, "rows": [row for row in report["rows"] if row["branches"] == count]}
        for count in workload["branches"]
    ]
    return {**report, "format": 2, "settings": {**old, **grid}, "cells": cells}


def _modes(report: Report) -> list[Column]:
    return [
        ("mode", lambda row: f"`{row['mode']}`"),
        ("tokens/s", lambda row: _number(row["tokens_per_second"], ",.1f")),
        ("speed-up", lambda row: _speedup(row, report["settings"]["baseline"])),
        ("equal", _equal),
        ("tokens per pass", lambda row: _number(row["figures"].get("block_efficiency"), ".2f")),
        ("accepted", lambda row: _number(row["accepted"], ".0%")),
        ("MBSU", lambda row: _number(row["figures"].get("mbsu"), ".2f")),
        ("outside passes", lambda row: _number(row["figures"].get("overhead"), ".0%")),
        ("measured / predicted", lambda row: _number(row["figures"].get("measured_over_predicted"), ".2f")),
        ("peak memory, MiB", lambda row: _number(row.get("peak_bytes"), ",.0f", 2**-20)),
        ("while loading, MiB", lambda row: _number(row.get("load_peak_bytes"), ",.0f", 2**-20)),
        ("KV peak, MiB", lambda row: _number(row["figures"].get("kv_peak_bytes"), ",.1f", 2**-20)),
        ("first difference", _difference),
    ]


def _scaling(rows: Sequence[Row]) -> list[Column]:
    several = len({row["mode"] for row in rows}) > 1
    return [
        *([("mode", lambda row: f"`{row['mode']}`")] if several else []),
        ("branches", lambda row: str(row["branches"])),
        ("tokens/s", lambda row: _number(row["tokens_per_second"], ",.1f")),
        ("ms per token", lambda row: _number(row["tokens_per_second"] and 1000 / row["tokens_per_second"], ".2f")),
        ("per doubling", lambda row: _number(row["per_doubling"], ".2f")),
        ("equal", _equal),
        ("tokens per pass", lambda row: _number(row["figures"].get("block_efficiency"), ".2f")),
        ("peak memory, MiB", lambda row: _number(row.get("peak_bytes"), ",.0f", 2**-20)),
        ("first difference", _difference),
    ]


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Markdown, without columns that say nothing in any row."""
    shown = [(name, cell) for name, cell in columns if any(cell(row) != NOTHING for row in rows)]
    head = ["| " + " | ".join(name for name, _ in shown) + " |", "| --- " * len(shown) + "|"]
    return head + ["| " + " | ".join(cell(row) for _, cell in shown) + " |" for row in rows]


def _by_branches(rows: Sequence[Row], branches: Sequence[int]) -> list[str]:
    """A line for each mode, with tokens per second and the speed-up for every number of branches."""
    lines = [f"| tokens/s (speed-up), branches: | {' | '.join(map(str, branches))} | equal |"]
    lines.append("| --- " * (len(branches) + 2) + "|")
    for mode in dict.fromkeys(row["mode"] for row in rows):
        own = {row["branches"]: row for row in rows if row["mode"] == mode}
        cells = [_pace(own.get(count)) for count in branches]
        compared = [row for row in own.values() if row["equal"] is not None]
        equal = f"{sum(row['equal'] for row in compared)}/{sum(row['branches'] for row in compared)}"
        lines.append(f"| `{mode}` | {' | '.join(cells)} | {equal if compared else NOTHING} |")
    return lines


def _by_position(rows: Sequence[Row], branches: Sequence[int]) -> list[str]:
    """A line for each mode that drafts, with tokens per pass and the shares accepted of the first positions."""
    lines = [f"| tokens per pass (accepted at positions 1, 2, 3), branches: | {' | '.join(map(str, branches))} |"]
    lines.append("| --- " * (len(branches) + 1) + "|")
    for mode in dict.fromkeys(row["mode"] for row in rows if row["accepted"] is not None):
        own = {row["branches"]: row for row in rows if row["mode"] == mode}
        cells = []
        for count in branches:
            shares = (own[count]["figures"] or {}).get("acceptance_by_position") or ()
            said = ", ".join(f"{share:.0%}".replace("%", " %") for share in shares[:3])
            cells.append(f"{_number((own[count]['block_efficiency'] or {}).get('mean'), '.2f')} ({said or NOTHING})")
        lines.append(f"| `{mode}` | {' | '.join(cells)} |")
    return lines


def _pace(row: Row | None) -> str:
    if row is None or row["tokens_per_second"] is None:
        return "failed" if row is not None and row["error"] else NOTHING
    speedup = "" if row["speedup"] is None else f" ({row['speedup']:.2f})"
    return f"{row['tokens_per_second']:,.1f}{speedup}"


def _number(value: float | None, how: str, scale: float = 1) -> str:
    return NOTHING if value is None else f"{value * scale:{how}}".replace("%", " %")


def _speedup(row: Row, baseline: str) -> str:
    if row["speedup"] is None:
        return "failed" if row["error"] else NOTHING
    if row["interval"] is None or row["mode"] == baseline:
        return f"{row['speedup']:.2f}"
    low, high = row["interval"]
    return f"{row['speedup']:.2f} ({low:.2f} - {high:.2f})"


def _equal(row: Row) -> str:
    return NOTHING if row["equal"] is None else f"{row['equal']}/{row['branches']}"


def _difference(row: Row) -> str:
    found = row["difference"]
    if found is None:
        return NOTHING
    gap = "" if found["gap"] is None else f", gap {found['gap']:.2g}"
    return f"prompt {found['prompt']}, token {found['position']}{gap}"


def _caption(report: Report, rows: Sequence[Row]) -> list[str]:
    """What was run, on what, and how to read it; one sentence a line."""
    settings, machine = report["settings"], report["machine"]
    sampling, [kind], [temperature] = settings["sampling"], settings["workloads"], settings["temperatures"]
    prompts = f"{', '.join(map(str, settings['branches']))} prompts of `{kind}` (seed {settings['seed']})"
    drawing = "greedy" if temperature == 0 else f"temperature {temperature:g}"
    drawing += "".join(
        f", {name} {sampling[name]:g}" for name in ("top_k", "top_p") if sampling[name] and temperature > 0
    )
    draft = f", draft `{settings['draft']}`" if settings["draft"] else ""
    runs = f"medians of {settings['repeat']} alternating runs" if settings["repeat"] > 1 else "one run"
    warm = "" if settings["warm_seed"] is None else f", tables warmed by prompts of seed {settings['warm_seed']}"
    where = machine["gpu"] or f"{machine['cores']} cores ({machine['cpu']}), threads: {machine['threads']}"
    lines = [
        f"`{settings['model']}`{widened(report)} in {settings['dtype']}{draft}; {prompts}, "
        f"{'one at a time' if settings['sequential'] else 'all at once'}; at most {sampling['max_tokens']} new tokens "
        f"each, {drawing}.",
        f"{runs[0].upper()}{runs[1:]}, cold cache{warm}, on {where}, torch {machine['torch']}, "
        f"transformers {machine['transformers']}, {report['began'][:10]}.",
    ]
    if versions := sorted({row["figures"]["version"] for row in rows if "version" in row["figures"]}):
        flags = ", ".join(machine["cpu_flags"] or ["unknown"])
        lines.append(f"Other engines: {'; '.join(versions)}; the processor's instructions: {flags}.")
    if settings.get("isolate"):
        lines.append("Every mode has a process of its own, and its memory is that of this process.")
    if not settings["scaling"]:
        interval = ", with its 95 % interval" if settings["repeat"] >= 3 and len(settings["branches"]) == 1 else ""
        lines.append(f"The speed-up is over `{settings['baseline']}` in the same repeat{interval}.")
    if settings["reference"] is not None:
        held = settings["reference"]
        lines.append(f"Equal: outputs that are, token for token, those of `{held['mode']}` in {held['dtype']}.")
    failed = {row["mode"]: row["error"] for row in rows if row["error"]}
    lines += [f"`{mode}` failed: {' '.join(error.split())}" for mode, error in failed.items()]
    disturbed, total = sum(row["disturbed"] for row in rows), sum(row["repeats"] for row in rows)
    if disturbed:
        lines.append(f"{disturbed} of {total} runs were held up by other work on the machine.")
    return lines


def _foreign(report: Report) -> str:
    """Runs of another engine, by type of numbers and, where it is told, by how prompts were sent."""
    lines = ["| engine | dtype | prompts | runs | tokens/s | equal |", "| --- | --- | --- | --- | --- | --- |"]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for run in report["runs"]:
        engine = run.get("engine", report.get("engine", "vLLM, CPU"))
        groups.setdefault((engine, run["dtype"], run.get("prompts", NOTHING)), []).append(run)
    for (engine, dtype, prompts), runs in groups.items():
        pace = median(run["tokens_per_second"] for run in runs)
        equal = min((str(run["equal"]) for run in runs), key=lambda said: int(said.partition("/")[0]))
        lines.append(f"| {engine} | {dtype} | {prompts} | {len(runs)} | {pace:,.1f} | {equal} |")
    return "\n".join([*lines, *(["", report["note"]] if report.get("note") else [])]) + "\n"


class _Planned(Exception):
    """Carries a grid out of the command that made it."""

    def __init__(self, grid: BenchGrid) -> None:
        self.grid = grid


def planned(words: Sequence[str]) -> BenchGrid:
    """What ``treeagent bench`` with these words would measure. Raises as it does for words that it refuses."""
    app, make = typer.Typer(), command.make_grid
    app.command()(command.bench)

    def caught(options: BenchOptions) -> BenchGrid:
        raise _Planned(make(options))

    command.make_grid = caught
    try:
        typer.main.get_command(app).main(list(words), "bench", standalone_mode=False)
    except _Planned as found:
        return found.grid
    finally:
        command.make_grid = make
    raise AssertionError("the command made no plan")


def command_of(report: Report) -> str:
    """The shortest command that measures what a report of modes says, without its output files."""
    report = upgraded(report)
    settings, machine = {"peers": {}, "isolate": False, **report["settings"]}, report["machine"]
    sampling, kinds = settings["sampling"], settings["workloads"]
    peers = [f"{name}={name}/bin/python" + (f"@{file}" if file else "") for name, file in settings["peers"].items()]
    told = {
        "--model": settings["model"], "--draft": settings["draft"], "--dtype": settings["dtype"],
        "--chat": settings["chat"], "--workload" if {*kinds} <= {*KINDS} else "--prompts": ",".join(kinds),
        "--branches": ",".join(map(str, settings["branches"])),
        "--sequential": settings["sequential"], "--scaling": settings["scaling"],
        "--modes": ",".join(settings["modes"]), "--baseline": settings["baseline"],
        "--reference": settings["reference"] and settings["reference"]["mode"],
        "--no-check": settings["reference"] is None, "--max-tokens": sampling["max_tokens"],
        "--temperature": ",".join(map(str, settings["temperatures"])),
        "--top-k": sampling["top_k"], "--top-p": sampling["top_p"], "--seed": settings["seed"],
        "--warm-seed": settings["warm_seed"], "--repeat": settings["repeat"],
        "--peers": ",".join(peers) or None, "--isolate": settings["isolate"], "--reopen": settings["reopen"],
        "--device": None if machine["device"] == "cpu" else machine["device"], "--threads": machine["threads"],
    }  # fmt: skip
    given = {name: [] if value is True else [str(value)] for name, value in told.items() if value not in (None, False)}
    wanted = planned(_words(given))
    for name in [name for name in given if name not in ("--model", "--threads")]:
        fewer = {other: words for other, words in given.items() if other != name}
        try:
            if planned(_words(fewer)) == wanted:
                given = fewer
        except ConfigError:
            pass  # the others cannot do without it
    return shlex.join(["treeagent", "bench", *_words(given)])


def _words(given: dict[str, list[str]]) -> list[str]:
    return [word for name, words in given.items() for word in (name, *words)]
