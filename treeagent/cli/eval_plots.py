"""The plots of an evaluation: a figure for each message, and none where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ..display.text import one_line
from ..evaluation.outcomes import Outcome
from ..evaluation.repeats import AtK
from ..evaluation.statistics import Z, percentile, share
from ..evaluation.summary import Summary
from .plot_style import COLOURS, as_percent, percent, plotted, rows_of, spread

MOST = 16
"""Rows of a figure."""
FEWEST = 5
"""Problems from which on a spread says anything."""


def draw(path: Path, name: str, outcomes: Sequence[Outcome], summary: Summary, tries: Sequence[AtK] = ()) -> list[Path]:
    """Write the accuracy to ``path``, and other figures beside it; returns those written. Raises OSError.

    ``name`` says what was run. The others are ``tokens``, ``seconds``, ``evaluator`` and ``repeats``, with ``-NAME``
    at the end of the file's name. A figure without data is not drawn.
    """
    figures: list[tuple[str, Callable[[Path], bool]]] = [
        ("", lambda at: _accuracy(at, name, outcomes, summary)),
        ("tokens", lambda at: _tokens(at, name, outcomes)),
        ("seconds", lambda at: _seconds(at, name, outcomes)),
        ("evaluator", lambda at: _evaluator(at, name, summary)),
        ("repeats", lambda at: _repeats(at, name, tries)),
    ]
    written = []
    for part, figure in figures:
        place = path.with_stem(f"{path.stem}-{part}") if part else path
        if figure(place):
            written.append(place)
    return written


def _accuracy(path: Path, name: str, outcomes: Sequence[Outcome], summary: Summary) -> bool:
    """By group where there are groups, else by the number of problems."""
    whole = summary.accuracy
    if whole.value is None:
        return False
    problems = "problem" if whole.whole == 1 else "problems"
    between = f"95 %: {percent(whole.low)} to {percent(whole.high)}"
    message = f"{percent(whole.value)} of {whole.whole:,} {problems} solved ({between})"
    left_out = [
        f"{count:,} {what}" for count, what in ((summary.failed, "failed"), (summary.ungraded, "ungraded")) if count
    ]
    note = name + (f"; not in it: {', '.join(left_out)}" if left_out else "")
    if summary.run < summary.wanted:
        note += f"; {summary.run:,} of {summary.wanted:,} problems run"
    if summary.unanswered:
        note += f"; {summary.unanswered:,} without any answer"
    if summary.groups:
        groups = sorted(summary.groups.items(), key=lambda group: -(group[1].value or 0.0))
        shown = [("all", whole), *groups[:MOST]]
        note += f"; {len(groups) - MOST} more groups" if len(groups) > MOST else ""
        with plotted(path, message, note, height=max(3.0, 1.9 + 0.42 * len(shown))) as axes:
            for row, (_, part) in enumerate(shown):
                value = part.value or 0.0
                colour = COLOURS[1] if row == 0 else COLOURS[0]
                axes.errorbar(
                    value, row, xerr=spread(value, part.low, part.high), fmt="o", color=colour, capsize=5,
                    markersize=8,
                )  # fmt: skip
            rows_of(axes, [f"{one_line(group, 28)} ({part.whole})" for group, part in shown])
            axes.set(xlim=(0, 1), xlabel="accuracy, with 95 % interval")
            as_percent(axes.xaxis)
        return True
    verdicts = [bool(each.right) for each in sorted(outcomes, key=lambda each: each.number) if _graded(each)]
    steps = [share(sum(verdicts[:count]), count) for count in range(1, len(verdicts) + 1)]
    with plotted(path, message, note) as axes:
        numbers = range(1, len(steps) + 1)
        axes.fill_between(numbers, [step.low for step in steps], [step.high for step in steps], alpha=0.25, linewidth=0)
        axes.plot(numbers, [step.value for step in steps], marker="o" if len(steps) < 30 else None)
        axes.set(xlabel="problems, in their order", ylabel="accuracy (band: 95 %)", ylim=(0, 1))
        as_percent(axes.yaxis)
        _whole_numbers(axes)
    return True


def _tokens(path: Path, name: str, outcomes: Sequence[Outcome]) -> bool:
    """What right and wrong problems cost: every one, and the medians with their intervals."""
    amounts = {
        word: sorted(
            each.tokens for each in outcomes if _graded(each) and each.right is right and each.tokens is not None
        )
        for word, right in (("right", True), ("wrong", False))
    }
    rows = [(word, values) for word, values in amounts.items() if values]
    if sum(len(values) for _, values in rows) < FEWEST:
        return False
    unknown = sum(each.tokens is None for each in outcomes if _graded(each))
    middles = [percentile(values, 0.5) or 0.0 for _, values in rows]
    message = " and ".join(f"{middle:,.0f} for a {word} one" for (word, _), middle in zip(rows, middles, strict=True))
    note = f"{name}; diamonds: medians with 95 % intervals" + (f"; {unknown:,} with unknown tokens" if unknown else "")
    with plotted(path, f"Tokens of a problem, median: {message}", note, height=3.4) as axes:
        for row, (word, values) in enumerate(rows):
            heights = [row + 0.22 * math.sin(7.3 * place) for place in range(len(values))]
            colour = COLOURS[2] if word == "right" else COLOURS[1]
            axes.plot(values, heights, "o", color=colour, alpha=0.35, markersize=5, linewidth=0)
            low, high = _median_interval(values)
            axes.errorbar(
                middles[row], row, xerr=spread(middles[row], low, high), fmt="D", color="black",
                capsize=6, markersize=8,
            )  # fmt: skip
        rows_of(axes, [f"{word} ({len(values):,})" for word, values in rows])
        axes.set(xlim=(0, None), xlabel="tokens of a problem")
        axes.xaxis.set_major_formatter("{x:,.0f}")
    return True


def _seconds(path: Path, name: str, outcomes: Sequence[Outcome]) -> bool:
    """The share of problems that end within some time, with its band."""
    values = sorted(each.seconds for each in outcomes if each.error is None)
    if len(values) < FEWEST:
        return False
    half, most = percentile(values, 0.5) or 0.0, percentile(values, 0.99) or 0.0
    band = math.sqrt(math.log(2 / 0.05) / (2 * len(values)))  # Dvoretzky, Kiefer and Wolfowitz, by Massart (1990)
    shares = [count / len(values) for count in range(1, len(values) + 1)]
    message = f"Half of the problems take up to {half:.2g} s, 99 % up to {most:.2g} s"
    with plotted(path, message, f"{name}; other problems run at the same time") as axes:
        low, high = ([min(1.0, max(0.0, each + side * band)) for each in shares] for side in (-1, 1))
        axes.fill_between(values, low, high, step="post", alpha=0.25, linewidth=0)
        axes.step(values, shares, where="post")
        for part, at in ((0.5, half), (0.99, most)):
            axes.plot([at], [part], "o", color="black", markersize=8)
        axes.set(xlim=(0, None), ylim=(0, 1.03), xlabel="seconds of a problem", ylabel="problems ended (band: 95 %)")
        as_percent(axes.yaxis)
    return True


def _evaluator(path: Path, name: str, summary: Summary) -> bool:
    """The share of good thoughts for each value."""
    ranking, levels = summary.ranking, summary.ranking.levels[:50]
    if ranking.auc is None or len(levels) < 2:
        return False
    between = "" if ranking.low is None or ranking.high is None else f" (95 %: {ranking.low:.2f} to {ranking.high:.2f})"
    message = f"The evaluator ranks a good thought above a bad one in {ranking.auc:.2f} of pairs{between}"
    note = f"{name}; chance: 0.50; in brackets: thoughts with this value"
    with plotted(path, message, note, height=max(3.2, 2.2 + 0.4 * min(len(levels), MOST))) as axes:
        for row, (_, good, whole) in enumerate(levels[:MOST]):
            part = share(good, whole)
            value = part.value or 0.0
            axes.errorbar(
                value, row, xerr=spread(value, part.low, part.high), fmt="o", color=COLOURS[0], capsize=5,
                markersize=8,
            )  # fmt: skip
        rows_of(axes, [f"{value:g} ({whole:,})" for value, _, whole in levels[:MOST]])
        axes.set(xlim=(0, 1), xlabel="good thoughts among them, with 95 % interval", ylabel="value")
        as_percent(axes.xaxis)
    return True


def _repeats(path: Path, name: str, tries: Sequence[AtK]) -> bool:
    """pass@k and maj@k."""
    if len(tries) < 2:
        return False
    last = tries[-1]
    message = (
        f"One of {last.k} tries is right for {percent(last.passed.value)} of problems, "
        f"their vote for {percent(last.voted.value)}"
    )
    with plotted(path, message, f"{name}; {last.passed.problems:,} problems; bars: 95 % by bootstrap") as axes:
        for place, (label, means) in enumerate((
            ("pass@k", [each.passed for each in tries]), ("maj@k", [each.voted for each in tries])
        )):  # fmt: skip
            shift = 0.06 * (2 * place - 1)
            limits = [spread(each.value, each.low, each.high) for each in means]
            yerr = [[each[side][0] for each in limits] for side in (0, 1)]
            axes.errorbar([each.k + shift for each in tries], [each.value for each in means], yerr=yerr, fmt="o-",
                          capsize=5, markersize=7, label=label)  # fmt: skip
        axes.set(xlabel="k, tries of each problem", ylabel="problems", ylim=(0, 1), xticks=[each.k for each in tries])
        as_percent(axes.yaxis)
        axes.legend(loc="lower right")
    return True


def _graded(outcome: Outcome) -> bool:
    return outcome.error is None and outcome.right is not None


def _median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median of sorted values by their ranks (the normal approximation of the sign test)."""
    half = Z * math.sqrt(len(values)) / 2
    first, last = math.floor(len(values) / 2 - half), math.ceil(len(values) / 2 + half)
    return values[max(0, first - 1)], values[min(len(values) - 1, last)]


def _whole_numbers(axes: object) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # type: ignore[attr-defined]
