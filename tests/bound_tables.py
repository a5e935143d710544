"""What drafts could gain, as ``python -m treeagent.backends.bench.draft_bound`` predicts it, beside what they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from treeagent.backends.bench.results.report import number

KIND = "draft bounds"
DEPTHS = 4
"""Passes that are shown, from the one without drafts on."""
POSITIONS = 3
"""Positions in a draft whose acceptance is shown."""
COLUMNS = (
    "prompts, branches", "a pass with 0, 1, 2, 3 drafted tokens each, ms", "first and further tokens of a draft, ms",
    "accepted at 1, 2, 3", "best depth", "speed-up after the prompts", "with prompts", "with hindsight",
    "perfect drafts", "measured",
)  # fmt: skip


def markdown(report: dict[str, Any], results: Path) -> str:
    """The table of a file; ``results`` has the files of what was measured."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for each in report["bounds"]:
        best = max((name for name in each["whole"] if name.isdigit()), key=each["whole"].__getitem__)
        gains = (each["decoding"][best], each["whole"][best], each["whole"]["hindsight"], each["perfect"])
        cells = [
            f"`{each['workload']}`, {each['branches']}",
            ", ".join(f"{1e3 * seconds:.1f}" for seconds in each["passes"][:DEPTHS]),
            ", ".join(f"{1e3 * seconds:.1f}" for seconds in each["levels"]),
            ", ".join(number(share, ".0f", 100, unit=" %") for share in each["accepted"][:POSITIONS]),
            best,
            *(f"{gain:.2f}" for gain in gains),
            number(_measured(results, each, report["draft"]), ".2f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    machine, draft = report["machine"], "the table `ngram`" if report["draft"] is None else f"`{report['draft']}`"
    said = [
        f"`{report['model']}` in {report['dtype']}, drafts by {draft}; at most {report['max_tokens']} new tokens each.",
        f"On {machine['cores']} cores ({machine['cpu']}), threads: {machine['threads']}, torch {machine['torch']}, "
        f"{report['began'][:10]}.",
    ]
    return "\n".join([*lines, "", *said]) + "\n"


def _measured(results: Path, bound: dict[str, Any], draft: str | None) -> float | None:
    """The speed-up that the benchmark measured with as many branches; None where it did not."""
    name, mode = f"bench-heads-{bound['workload']}.json", "seed-model"
    if draft is None:
        name, mode = "bench-branches.json", "seed"
    elif draft == "twin":
        mode = "seed-model@draft=twin"
    path = results / name
    file = json.loads(path.read_text()) if path.exists() else {"cells": []}
    if mode == "seed-model" and file["cells"] and file["settings"]["draft"] != draft:
        return None
    rows = [row for cell in file["cells"] if cell["workload"] == bound["workload"] for row in cell["rows"]]
    found = (row["speedup"] for row in rows if row["mode"] == mode and row["branches"] == bound["branches"])
    return next(found, None)
