"""Medians of the engine's rows, with the lowest and the highest of the repeats."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]


def summary(rows: Rows) -> dict[str, dict[str, Any]]:
    """By model, search and setting: how many times as fast as the baseline of the same repeat it was.

    The baseline has ``speculate`` 0, and in ``... against neither`` no token speculation either.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in rows:
        words, repeat = name.rsplit(" ", 1)[0], name.rsplit(" ", 1)[-1]
        case, _, _ = words.rpartition(" speculate=")
        if not case or not repeat.isdigit() or words in found:
            continue
        found[words] = _against(rows, words, f"{case} speculate=0")
        if f"{case} neither {repeat}" in rows:
            found[f"{words} against neither"] = _against(rows, words, f"{case} neither")
    return found


def _against(rows: Rows, words: str, base: str) -> dict[str, Any]:
    def repeats(name: str) -> dict[str, Mapping[str, Any]]:
        return {key[len(name) + 1 :]: row for key, row in rows.items() if key.startswith(f"{name} ")}

    own, others = repeats(words), repeats(base)
    pairs = [(others[repeat]["seconds"], own[repeat]["seconds"]) for repeat in own if repeat in others]
    first = next(iter(own.values()))
    bound = rows.get(f"{' '.join(words.split()[:2])} bound")
    figures: dict[str, Any] = {
        "seconds": spread([row["seconds"] for row in own.values()]),
        "base_seconds": median(before for before, _ in pairs) if pairs else None,
        "gain": spread([before / after for before, after in pairs]) if pairs else None,
        "passes": spread([row["passes"] for row in own.values()]),
        "hits": spread([sum(row["hits"].values()) for row in own.values()]),
        "misses": spread([sum(row["misses"].values()) for row in own.values()]),
        "wasted": round(max(row["tokens_wasted"] / max(1, row["tokens"]) for row in own.values()), 3),
        "repeats": len(own),
    }
    if bound is not None and "together" not in words and pairs:
        for least in ("chain", "work"):
            if f"{least}_seconds" in bound:  # files of before lack the work
                figures[f"gain_{least}"] = round(figures["base_seconds"] / bound[f"{least}_seconds"], 3)
    return figures | {key: spread([row[key] for row in own.values()]) for key in ("p50", "p99") if key in first}


def spread(values: list[float]) -> tuple[float, float, float]:
    """The median, the lowest and the highest."""
    return round(median(values), 3), round(min(values), 3), round(max(values), 3)


def table(rows: Rows) -> str:
    """The summary as a table in Markdown."""

    def shown(figure: Any) -> str:
        if figure is None:
            return ""
        return "{:,.2f} ({:,.2f} - {:,.2f})".format(*figure) if isinstance(figure, tuple) else f"{figure:,.2f}"

    columns = ("seconds", "gain", "gain_chain", "gain_work", "passes", "hits", "misses", "wasted", "p50", "p99")
    lines = ["| case | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name, figures in summary(rows).items():
        lines.append(f"| {name} | " + " | ".join(shown(figures.get(column)) for column in columns) + " |")
    return "\n".join(lines)
