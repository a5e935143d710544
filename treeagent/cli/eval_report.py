"""What an evaluation has shown, for a person and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.outcomes import Outcome
from ..evaluation.statistics import Paired
from ..evaluation.summary import Summary
from .arguments import printable
from .metrics_text import paragraph


def report(title: str, found: Summary, seconds: float | None, engine: Mapping[str, Any]) -> str:
    """Accuracy first; never without its errors."""
    tokens = "unknown" if found.tokens is None else f"{found.tokens:,}"
    dollars = "unknown" if found.dollars is None else f"{found.dollars:.4f}"
    lines = [
        title,
        accuracy(found),
        f"{tokens} tokens, {found.calls:,} calls, dollars {dollars}"
        + ("" if seconds is None else f", {seconds:.1f} s this time"),
        f"a problem took {_seconds(found.p50)} (median), {_seconds(found.p99)} (99 %), others running beside it",
        f"{found.thoughts:,} thoughts, {found.unparsed:,} unparsed; {found.judged:,} judged, "
        f"{found.judgements_unparsed:,} judgements unparsed",
    ]
    if set(found.ended) - {"finished"}:
        lines.append("ended: " + ", ".join(f"{why} {count}" for why, count in found.ended.items()))
    lines += ranked(found)
    return printable("\n".join([*lines, *paragraph("engine", dict(engine))]))


def accuracy(found: Summary) -> str:
    """The share solved with its interval; with errors, what it lies between."""
    part, done = found.accuracy, f"{found.run} of {found.wanted} problems run"
    if part.value is None:
        verdict = "accuracy unknown: no problem has a verdict"
    elif found.bounds is None:
        verdict = f"accuracy {part.value:.1%} [{part.low:.1%} - {part.high:.1%}], {part.part} of {part.whole}"
    else:
        verdict = (
            f"{found.failed} problem(s) FAILED, so the accuracy lies between {found.bounds[0]:.1%} (all of them wrong) "
            f"and {found.bounds[1]:.1%} (all right); of the others {part.part} of {part.whole} are right"
        )
    missing = f"; {found.unanswered} without any answer" if found.unanswered else ""
    return f"{verdict}{missing} ({done})"


def ranked(found: Summary) -> list[str]:
    """What the evaluator's values are worth, where an exact checker knows."""
    ranking = found.ranking
    if ranking.auc is None:
        return []
    interval = "" if ranking.low is None else f" [{ranking.low:.3f} - {ranking.high:.3f}]"
    lines = [f"evaluator: ranks a good thought above a bad one in {ranking.auc:.3f}{interval} of pairs (0.5: guessing)"]
    if len(ranking.levels) <= 8:
        lines += [f"  value {value:g}: {good} of {whole} good" for value, good, whole in ranking.levels]
    return lines


def against(found: Paired | None, first: str, second: str) -> str:
    """The paired comparison."""
    if found is None:
        return f"{first} and {second} have no problem with a verdict in common"
    whole = found.both + found.first + found.second + found.neither
    return (
        f"{first} against {second} on {whole} common problems: {found.difference:+.1%} "
        f"[{found.low:+.1%} to {found.high:+.1%}]; only the first solves {found.first}, only the second "
        f"{found.second}, both {found.both}, neither {found.neither}; exact McNemar test p = {found.p:.3g}"
    )


def draw(path: Path, title: str, outcomes: list[Outcome], found: Summary) -> None:
    """Accuracy as problems came in, seconds and tokens of problems, the evaluator's levels. Raises OSError."""
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    from ..evaluation.statistics import share

    figure = Figure(figsize=(9.0, 6.0), dpi=150, layout="constrained")
    growth, seconds, tokens, levels = figure.subplots(2, 2).ravel()
    known = [outcome for outcome in sorted(outcomes, key=lambda each: each.number) if outcome.right is not None]
    steps = [share(sum(bool(each.right) for each in known[:n]), n) for n in range(1, len(known) + 1)]
    numbers = range(1, len(steps) + 1)
    growth.fill_between(numbers, [each.low for each in steps], [each.high for each in steps], alpha=0.25)
    growth.plot(numbers, [each.value for each in steps])
    growth.set(title="accuracy and its 95 % interval", xlabel="problems", ylim=(0, 1))
    seconds.hist([each.seconds for each in outcomes if each.error is None], bins=30)
    seconds.set(title="seconds of a problem", xlabel="s")
    for right, colour in ((True, "tab:green"), (False, "tab:red")):
        amounts = [each.tokens for each in known if each.right is right and each.tokens is not None]
        tokens.hist(amounts, bins=30, alpha=0.6, color=colour, label="right" if right else "wrong")
    tokens.set(title="tokens of a problem", xlabel="tokens")
    tokens.legend()
    for value, good, whole in found.ranking.levels[:50]:
        levels.plot(value, good / whole, "o", color="black", markersize=3 + min(12.0, whole**0.5))
    levels.set(title="share of good thoughts by value", xlabel="evaluator's value", ylim=(-0.05, 1.05))
    figure.suptitle(title)
    figure.savefig(path)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"
