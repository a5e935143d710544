"""Tables of speculative methods as the documents quote them, from a file of ``treeagent bench --suite papers``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from treeagent.backends.bench.results.report import NOTHING, number

Report = dict[str, Any]
Line = dict[str, Any]
Column = tuple[str, Callable[[Line], str]]


def markdown(report: Report, only: Sequence[str] = ()) -> str:
    """A table for every kind of task and temperature, and what to know of them.

    ``only`` names kinds of task, or ``methods`` for what is to be known alone, where a page shows a part.
    """
    cells = [cell for cell in report["cells"] if not only or cell["workload"] in only]
    parts = [part for cell in cells for part in _cell(cell, report["settings"])]
    caption = _caption(report) if not only or "methods" in only else ()
    return "\n".join([*parts, *caption]).rstrip("\n") + "\n"


def _cell(cell: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    lines = cell["rows"]
    columns: list[Column] = [
        ("method", lambda line: line["label"]),
        ("tokens/s", lambda line: number(line["tokens_per_second"], ",.1f")),
        ("speed-up", lambda line: _speedup(line, settings["baseline"])),
        ("block efficiency", lambda line: _estimate(line["block_efficiency"])),
        ("accepted", lambda line: number(line["accepted"], ".0f", 100, unit=" %")),
        ("MBSU", lambda line: number(line["mbsu"], ".2f")),
        ("peak memory, MiB", lambda line: number(line.get("peak_bytes"), ",.0f", 2**-20)),
        ("KV peak, MiB", lambda line: number(line["kv_peak_bytes"], ",.1f", 2**-20)),
        ("log p", lambda line: _estimate(line["score"])),
        ("equal", _equal),
    ]
    shown = [(name, text) for name, text in columns if any(text(line) != NOTHING for line in lines)]
    drawing = "greedy" if cell["temperature"] == 0 else f"temperature {cell['temperature']:g}"
    return [
        f"**`{cell['workload']}`, {drawing}**",
        "",
        "| " + " | ".join(name for name, _ in shown) + " |",
        "| --- " * len(shown) + "|",
        *("| " + " | ".join(text(line) for _, text in shown) + " |" for line in lines),
        "",
        *_remarks(cell),
    ]


def _remarks(cell: dict[str, Any]) -> list[str]:
    lines, said = cell["rows"], []
    if (auto := cell["auto"]) is not None:
        interval = "" if auto["interval"] is None else " ({:.2f} - {:.2f})".format(*auto["interval"])
        said.append(f"`auto` has {auto['ratio']:.2f}{interval} of the speed of {auto['best']}: {auto['said']}.")
    said += [f"{line['label']} failed: {' '.join(line['error'].split())}" for line in lines if line["error"]]
    for line in lines:
        if (found := line["difference"]) is not None:
            gap = "" if found["gap"] is None else f" (gap {found['gap']:.2g})"
            said.append(
                f"{line['label']} differs first in repeat {line['difference_repeat'] + 1}, prompt {found['prompt']}, "
                f"token {found['position']}{gap}."
            )
    disturbed, total = (sum(line[key] for line in lines) for key in ("disturbed", "repeats"))
    if disturbed:
        said.append(f"{disturbed} of {total} runs were held up by other work on the machine.")
    return [*said, ""] if said else []


def _speedup(line: Line, baseline: str) -> str:
    if line["speedup"] is None:
        return "failed" if line["error"] else NOTHING
    if line["interval"] is None or line["mode"] == baseline:
        return f"{line['speedup']:.2f}"
    return "{:.2f} ({:.2f} - {:.2f})".format(line["speedup"], *line["interval"])


def _estimate(found: dict[str, float | None] | None) -> str:
    """A mean with its standard error."""
    if found is None:
        return NOTHING
    return f"{found['mean']:.2f}" if found["error"] is None else f"{found['mean']:.2f} ± {found['error']:.2f}"


def _equal(line: Line) -> str:
    return NOTHING if line["equal"] is None else f"{line['equal']}/{line['compared']}"


def widened(report: Report) -> str:
    """The mark of a widened model, for its name in a caption."""
    label = report.get("widened", {}).get(report["settings"]["model"])
    return "" if label is None else f" ({label})"


def _caption(report: Report) -> Sequence[str]:
    """What was run, on what, and what the methods are; one sentence a line."""
    settings, machine = report["settings"], report["machine"]
    repeat, seed, sampling = settings["repeat"], settings["seed"], settings["sampling"]
    branches = ", ".join(map(str, settings["branches"]))
    draft = f", draft `{settings['draft']}`" if settings["draft"] else ""
    seeds = f"seed {seed}" if repeat == 1 else f"seeds {seed} to {seed + repeat - 1}, one a run"
    runs = f"medians of {repeat} alternating runs" if repeat > 1 else "one run"
    warm = "" if settings["warm_seed"] is None else f", tables warmed by prompts of seed {settings['warm_seed']}"
    where = machine["gpu"] or f"{machine['cores']} cores ({machine['cpu']}), threads: {machine['threads']}"
    cuts = "".join(f", {name} {sampling[name]:g}" for name in ("top_k", "top_p") if sampling[name])
    how = "one at a time" if settings["sequential"] else "at once"
    interval = ", with its 95 % interval" if repeat >= 3 else ""
    error = ", with the standard error over the runs" if repeat > 1 else ""
    held = settings["reference"]
    equal = f"Equal: outputs that are, token for token, those of `{held['mode']}` in {held['dtype']}." if held else ""
    return [
        f"`{settings['model']}`{widened(report)} in {settings['dtype']}{draft}; {branches} prompts {how} ({seeds}); at "
        f"most {sampling['max_tokens']} new tokens each{cuts}.",
        f"{runs[0].upper()}{runs[1:]}, cold cache{warm}, on {where}, torch {machine['torch']}, "
        f"transformers {machine['transformers']}, {report['began'][:10]}.",
        f"The speed-up is over `{settings['baseline']}` in the same run{interval}.",
        f"Block efficiency: tokens that a branch gets from a pass{error}.",
        *([equal] if equal else []),
        "",
        "| method | what it does | mode | source |",
        "| --- | --- | --- | --- |",
        *(
            f"| {each['label']} | {each['what']} | `{each['mode']}` | {each['source'] or ''} |".replace("|  |", "| |")
            for each in report["methods"]
        ),
    ]
