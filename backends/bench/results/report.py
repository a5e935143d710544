"""The table of a benchmark for a person, and everything there is to know for a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from ..config.plan import Plan
from .rows import QUIET, Row, _steps

NOTHING = "-"

Column = tuple[str, Callable[[Row], str]]


def table(plan: Plan, rows: Sequence[Row]) -> Table:
    """All rows; columns that say nothing in any row are left out."""
    columns: list[Column] = [("mode", lambda row: row.mode)]
    if len(plan.branches) > 1:
        columns.append(("branches", lambda row: str(row.branches)))
    columns.append(("seconds", lambda row: number(row.seconds, ".2f")))
    if plan.scaling:
        steps = _steps(rows)
        columns += [
            ("ms per token", lambda row: number(row.seconds_per_token, ".2f", 1e3)),
            ("per doubling", lambda row: number(steps.get((row.mode, row.branches)), ".2f", sign="x")),
        ]
    else:
        columns += [
            ("tokens/s", lambda row: number(row.tokens_per_second, ",.1f")),
            ("speed-up", lambda row: speedup(row.speedup, row.interval, baseline=row.mode == plan.baseline)),
        ]
    columns.append(("equal", lambda row: _equal(plan, row)))
    if plan.scored:
        columns.append(("log p", lambda row: number(row.score, ".2f")))
    engine: list[Column] = [
        ("tokens/pass", lambda row: number(row.figures.get("block_efficiency"), ".2f")),
        ("accepted", lambda row: number(row.accepted, ".0f", 100, sign=" %")),
        ("MBSU", lambda row: number(row.figures.get("mbsu"), ".2f")),
        ("overhead", lambda row: number(row.figures.get("overhead"), ".1f", 100, sign=" %")),
        ("KV peak", lambda row: number(row.figures.get("kv_peak_bytes"), ",.1f", 2**-20, sign=" MiB")),
    ]
    columns += [(name, cell) for name, cell in engine if any(cell(row) != NOTHING for row in rows)]
    made = Table()
    for column, (name, _) in enumerate(columns):
        made.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for place, row in enumerate(rows):
        last = place + 1 == len(rows) or rows[place + 1].branches != row.branches
        made.add_row(*(cell(row) for _, cell in columns), end_section=last, style="red" if row.wrong else None)
    return made


def title(plan: Plan) -> str:
    """What was run."""
    prompts = f"{', '.join(map(str, plan.branches))} prompts of {plan.workload} (seed {plan.seed})"
    sampling = plan.sampling
    drawing = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}"
    for name, value in (("top-k", sampling.top_k), ("top-p", sampling.top_p)):
        drawing += f", {name} {value:g}" if value is not None and sampling.temperature > 0 else ""
    how = "one at a time" if plan.sequential else "at once"
    draft = "" if plan.draft is None else f", draft {plan.draft}"
    return (
        f"{prompts}, {how}; at most {sampling.max_tokens} new tokens each, {drawing}; {plan.model}, {plan.dtype}{draft}"
    )


def caption(plan: Plan) -> str:
    """How to read it."""
    runs = f"medians of {plan.repeat} alternating runs" if plan.repeat > 1 else "one run"
    tables = "" if plan.warm_seed is None else f", drafters' tables warmed by prompts of seed {plan.warm_seed}"
    lines = [f"{runs}, cold cache{tables}, reading of the prompts included"]
    if not plan.scaling:
        interval = " [95 % interval]" if plan.repeat >= 3 else ""
        lines.append(f"speed-up: tokens/s against {plan.baseline} in the same repeat{interval}")
    if plan.reference is not None:
        lines.append(f"equal: outputs that are, token for token, those of {plan.reference} in {plan.reference_dtype}")
    return "\n".join(lines)


def remarks(rows: Sequence[Row], *, cpu: bool) -> list[str]:
    """A line for every difference and failure, and one for runs that were disturbed, as can be told on a ``cpu``."""
    said = {}
    for row in rows:
        if row.difference is not None:
            kind = "differs from the reference and must not" if row.exact else "differs from the reference"
            said[row.mode, row.branches] = f"{row.mode}, {row.branches} branches: {kind}: {row.difference}"
        if row.error is not None:
            said[row.mode, -1] = row.error if row.error.startswith(row.mode) else f"{row.mode}: {row.error}"
    lines = list(said.values())
    if rows and not any(row.tokens for row in rows):
        lines.append("no mode generated any token: the model ends these texts at once, so nothing was compared")
    disturbed = sum(row.disturbed for row in rows)
    if cpu and disturbed:
        lines.append(
            f"{disturbed} of {sum(row.repeats for row in rows)} runs were held up by other work on this machine (less "
            f"than {QUIET:.0%} of a core): measure again when it is quiet"
        )
    return lines


def number(value: float | None, how: str, scale: float = 1, *, sign: str = "") -> str:
    """A figure for a table, with a dash for what is unknown."""
    return NOTHING if value is None else f"{value * scale:{how}}{sign}"


def speedup(value: float | None, interval: tuple[float, float] | None, *, baseline: bool) -> str:
    """A speed-up with its interval, which the baseline has none of."""
    if value is None:
        return NOTHING
    if interval is None or baseline:
        return f"{value:.2f}x"
    return f"{value:.2f}x [{interval[0]:.2f}-{interval[1]:.2f}]"


def _equal(plan: Plan, row: Row) -> str:
    if row.error is not None and not row.repeats:
        return "failed"
    if row.equal is None:
        sampled = plan.reference is not None and plan.sampling.temperature > 0
        return "sampled, own noise" if sampled else "not checked"
    return f"{row.equal}/{row.branches}" + (" DIFFERS" if row.wrong else "")
