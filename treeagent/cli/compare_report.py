"""The report of a comparison as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..backend import Backend
from ..comparison.race import RaceResult
from ..comparison.speedup import ENOUGH, Score
from ..display.text import printable
from .metrics_text import headline, lost, paragraph


def to_json(race: RaceResult, settings: dict[str, Any]) -> dict[str, Any]:
    """The object that ``treeagent compare --json`` prints."""
    first, *others = race.scores
    reference = first if race.difference is None else None
    return {
        **settings,
        "repeats": len(race.passes),
        "warm": race.warm,
        "same_tree": race.difference is None,
        "difference": None if race.difference is None else race.difference.to_json(),
        "backends": [first.to_json(None), *(score.to_json(reference) for score in others)],
    }


def report(race: RaceResult, ran: Mapping[str, Sequence[Backend]]) -> str:
    """Equality of the trees, a row for each backend, speed-ups, and the figures that the backends name for a summary.

    ``ran``: the backends behind each name.
    """
    scores, difference = race.scores, race.difference
    if difference is None:
        lines = [f"same tree: {race.inputs} input(s), token for token"]
    else:
        when = f" in repeat {difference.repeat}" if difference.repeat > 1 else ""
        which = f"{difference.backend}{when} against {race.backends[0]}"
        lines = [f"not the same tree: input {difference.input}, {which}: {difference.difference}"]
    seconds = "seconds" if len(race.passes) == 1 else "median seconds"
    table = [("backend", "solved", "tokens", seconds, "generated tokens/s"), *map(_cells, scores)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([name.strip().ljust(widths[0]), *cells]))
    if difference is None:
        lines += _speedups(race, scores)
    lines += _counts(scores)
    for score in scores:
        lines += paragraph(f"{score.backend} engine", headline(score.engine, ran[score.backend]))
    return printable("\n".join(lines))


def _cells(score: Score) -> tuple[str, ...]:
    first = score.passes[0]
    solved = "unknown" if first.solved is None else str(first.solved)
    tokens = "unknown" if first.tokens is None else f"{first.tokens:,}"
    speed = "unknown" if score.speed is None else f"{score.speed:,.0f}"
    return score.backend, f"{solved}/{first.graded or first.inputs}", tokens, f"{score.seconds:.2f}", speed


def _counts(scores: Sequence[Score]) -> list[str]:
    """What was dropped or lost: once where all backends agree, else for each."""
    first = scores[0].passes[0]
    lines = []
    if first.graded < first.inputs:
        lines.append(f"{first.inputs - first.graded} of {first.inputs} input(s) have no gold answer and no other check")
    texts = []
    for score in scores:
        counts = score.passes[0].counts
        dropped = (
            f"{counts.thoughts:,} thoughts, {counts.duplicates:,} duplicates merged, {counts.illegal:,} illegal, "
            f"{counts.unparsed:,} unparsed, {counts.judgements_unparsed:,} judgements unparsed"
        )
        texts.append([dropped, *lost(counts)])
    if all(text == texts[0] for text in texts):
        return [*lines, *texts[0]]
    return lines + [f"{score.backend}: {line}" for score, text in zip(scores, texts, strict=True) for line in text]


def _speedups(race: RaceResult, scores: Sequence[Score]) -> list[str]:
    """One line for each backend but the first."""
    if len(race.passes) == 1:
        return [f"speed-ups need --repeat {ENOUGH}: the first run of a process is slower than later ones"]
    caches = "each backend kept" if race.warm else "each with a fresh backend"
    lines = [f"speed-up over {scores[0].backend} ({len(race.passes)} repeats, {caches}):"]
    width = max(len(score.backend) for score in scores[1:])
    for score in scores[1:]:
        speedup = score.speedup(scores[0])
        if speedup is None:
            text = "unknown: too fast for the clock"
        elif speedup.interval is None:
            text = f"{speedup.ratio:.2f}  (an interval needs --repeat {ENOUGH})"
        else:
            text = f"{speedup.ratio:.2f}  (95 % interval {speedup.interval[0]:.2f} - {speedup.interval[1]:.2f})"
        lines.append(f"  {score.backend:<{width}}  {text}")
    return lines
