"""Tables of evaluations as the documents quote them: from files of one ``treeagent eval --json`` object a line."""

from __future__ import annotations

import json


def markdown(lines: str) -> str:
    """One evaluation a row; how many times as fast it is as the first of its backend and search."""
    rows = [json.loads(line) for line in lines.splitlines()]
    table = [
        "| task | search | backend | at once | solved | 95 % interval | tokens per problem | seconds | speed-up |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    firsts: dict[tuple[str, str, str], float] = {}
    for row in rows:
        settings, accuracy = row["settings"], row["accuracy"]
        backend, search = settings["backend"], settings["search"]["name"]
        first = firsts.setdefault((settings["task"], search, str(backend)), row["seconds"])
        solved = f"{accuracy['part']} of {accuracy['whole']}" + (f", {row['failed']} failed" if row["failed"] else "")
        cells = [
            settings["task"], f"`{search}`", f"`{backend['name']}`, {backend['model']}", str(row["at_once"]), solved,
            f"{100 * accuracy['low']:.0f} - {100 * accuracy['high']:.0f} %", f"{row['tokens'] / row['run']:,.0f}",
            f"{row['seconds']:,.1f}", f"{first / row['seconds']:.2f}",
        ]  # fmt: skip
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table) + "\n"
