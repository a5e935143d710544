"""What a comparison has shown, for a person and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..comparison.race import Race
from ..comparison.speedup import ENOUGH, Score
from .arguments import printable
from .metrics_text import paragraph


def to_json(race: Race, settings: dict[str, Any]) -> dict[str, Any]:
    """The object that ``treeagent compare --json`` prints."""
    first, *others = race.scores
    reference = first if race.parting is None else None
    return {
        **settings,
        "repeats": len(race.passes),
        "warm": race.warm,
        "same_tree": race.parting is None,
        "difference": None if race.parting is None else race.parting.to_json(),
        "backends": [first.to_json(None), *(score.to_json(reference) for score in others)],
    }


def report(race: Race) -> str:
    """Same tree or not, a row for each backend, speed-ups, the backends' own figures."""
    scores, parting = race.scores, race.parting
    if parting is None:
        lines = [f"same tree: {len(race.data.rows)} input(s), token for token"]
    else:
        when = f" in repeat {parting.repeat}" if parting.repeat > 1 else ""
        which = f"{parting.backend}{when} against {race.names[0]}"
        lines = [f"not the same tree: input {parting.input}, {which}: {parting.difference}"]
    seconds = "seconds" if len(race.passes) == 1 else "median seconds"
    table = [("backend", "solved", "tokens", seconds, "generated tokens/s"), *map(_cells, scores)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([name.strip().ljust(widths[0]), *cells]))
    if parting is None:
        lines += _speedups(race, scores)
    for score in scores:
        lines += paragraph(f"{score.backend} engine", score.engine)
    return printable("\n".join(lines))


def _cells(score: Score) -> tuple[str, ...]:
    done = score.passes[0]
    solved = "unknown" if done.solved is None else str(done.solved)
    tokens = "unknown" if done.tokens is None else f"{done.tokens:,}"
    speed = "unknown" if score.speed is None else f"{score.speed:,.0f}"
    return score.backend, f"{solved}/{done.inputs}", tokens, f"{score.seconds:.2f}", speed


def _speedups(race: Race, scores: Sequence[Score]) -> list[str]:
    """One line for each backend but the first."""
    if len(race.passes) == 1:
        return [f"speed-ups need --repeat {ENOUGH}: the first run of a process is slower than those after it"]
    kept = "each backend kept" if race.warm else "each with a fresh backend"
    lines = [f"speed-up over {scores[0].backend} ({len(race.passes)} repeats, {kept}):"]
    width = max(len(score.backend) for score in scores[1:])
    for score in scores[1:]:
        found = score.speedup(scores[0])
        if found is None:
            said = "unknown: too quick for the clock"
        elif found.interval is None:
            said = f"{found.ratio:.2f}  (an interval needs --repeat {ENOUGH})"
        else:
            said = f"{found.ratio:.2f}  (95 % interval {found.interval[0]:.2f} - {found.interval[1]:.2f})"
        lines.append(f"  {score.backend:<{width}}  {said}")
    return lines
