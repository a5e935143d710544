"""The files of ``python -m treeagent.backends.bench.early`` as tables of the documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from treeagent.backends.bench.early.summary import summary

AIMS = {"dfs": 1.8, "best-first": 1.6, "mcts": 1.8, "bfs": 1.15}
"""How many times as fast a search with ``auto`` is to be, one problem at a time; the others are to lose nothing."""
NO_LOSS = 0.98
"""The same of the others, and of all with problems at once: what a measurement tells apart from 1."""
BOTH = 2.5
"""With drafts and early requests, against neither."""
ALONE = (
    "search", "seconds without", "aim", "`auto`: times as fast", "8: times as fast", "at most by the chain",
    "by the work", "passes without", "with `auto`", "hits", "misses", "tokens of misses",
)  # fmt: skip
NEITHER = ("search", "seconds with neither", "drafts", "aim", "both", "both, at most by the chain", "by the work")
TOGETHER = (
    "search", "at once", "seconds without", "aim", "`auto`: times as fast", "P50 without", "with `auto`", "P99 without",
    "with `auto`", "hits", "misses", "tokens of misses",
)  # fmt: skip


def markdown(report: Mapping[str, Any]) -> str:
    """The tables of a file: one problem at a time, against neither kind of speculation, and problems at once."""
    cases = summary(report["rows"])
    parts = [_table(ALONE, _alone(cases)), _table(NEITHER, _neither(cases)), _table(TOGETHER, _together(cases))]
    return "\n".join(part for part in [*parts, _where(report)] if part)


def _alone(cases: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, figures in cases.items():
        case, _, speculate = name.partition(" speculate=")
        if speculate != "auto" or "together=" in case:
            continue
        search = case.split()[1]
        base, eight = cases[f"{case} speculate=0"], cases[f"{case} speculate=8"]
        yield (
            f"`{search}`", f"{base['seconds'][0]:.2f}", f"{AIMS.get(search, NO_LOSS)}", _gain(figures), _gain(eight),
            *_bounds(figures), f"{base['passes'][0]:.0f}", f"{figures['passes'][0]:.0f}", *_guesses(figures),
        )  # fmt: skip


def _neither(cases: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, figures in cases.items():
        case, _, speculate = name.partition(" speculate=")
        if speculate == "auto against neither":
            drafts = cases[f"{case} speculate=0 against neither"]
            own = (f"`{case.split()[1]}`", f"{figures['base_seconds']:.2f}")
            yield *own, _gain(drafts), f"{BOTH}", _gain(figures), *_bounds(figures)


def _together(cases: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, figures in cases.items():
        case, _, speculate = name.partition(" speculate=")
        if speculate == "auto" and "together=" in case:
            _, search, at_once = case.split()
            base = cases[f"{case} speculate=0"]
            times = [f"{each[part][0]:.2f}" for part in ("p50", "p99") for each in (base, figures)]
            own = (f"`{search}`", at_once.partition("=")[2], f"{base['seconds'][0]:.2f}")
            yield *own, f"{NO_LOSS}", _gain(figures), *times, *_guesses(figures)


def _gain(figures: Mapping[str, Any]) -> str:
    return "{:.2f} ({:.2f} - {:.2f})".format(*figures["gain"])


def _bounds(figures: Mapping[str, Any]) -> Sequence[str]:
    return [f"{figures[least]:.2f}" if least in figures else "-" for least in ("gain_chain", "gain_work")]


def _guesses(figures: Mapping[str, Any]) -> Sequence[str]:
    return f"{figures['hits'][0]:.0f}", f"{figures['misses'][0]:.0f}", f"{figures['wasted']:.1%}"


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    head = ["| " + " | ".join(columns) + " |", "| --- |" + " --- |" * (len(columns) - 1)]
    return "\n".join([*head, *lines, ""]) if lines else ""


def _where(report: Mapping[str, Any]) -> str:
    machine, counts = report["machine"], {row["repeats"] for row in summary(report["rows"]).values()}
    cores = f"{machine['cores']} cores of {machine['cpu']}, {machine['threads']} threads of torch {machine['torch']}"
    repeats = " or ".join(map(str, sorted(counts)))
    return f"Medians of {repeats} repeats, with the lowest and the highest; {cores}; {report['began'][:10]}.\n"
