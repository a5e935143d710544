"""The report of searches at equal tokens as text and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..display.text import printable
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..evaluation.equal_tokens import EqualTokens


def report(task: str, result: EqualTokens, failed: int, wanted: int) -> str:
    """A row for each search: accuracy at parts of the budget, tokens, the judge's part; then the paired tests."""
    first, width = result.searches[0], max(6, *(len(search.name) for search in result.searches))
    columns = [f"{tokens:,}" for tokens in result.budgets]
    lines = [
        f"{task}: {len(result.numbers)} of {wanted} problems with a verdict in every search"
        + (f", {failed} run(s) failed" if failed else ""),
        "accuracy at tokens of a problem, the judge's included",
        f"{'search':<{width}}  " + "  ".join(f"{column:>8}" for column in columns) + "  95 % interval     mean   judge",
    ]
    for search in result.searches:
        parts = [search.at(tokens, result.numbers) for tokens in result.budgets]
        shares = "  ".join(f"{part.value or 0.0:8.1%}" for part in parts)
        mean, judge = search.tokens(result.budget, result.numbers), search.judging(result.numbers)
        interval = f"[{parts[-1].low:6.1%} - {parts[-1].high:6.1%}]"
        lines.append(f"{search.name:<{width}}  {shares}  {interval}  {mean:7,.0f}  {judge:5.0%}")
    for search in result.searches[1:]:
        pair = result.against_first(search)
        lines.append(
            f"{search.name} against {first.name} at {result.budget:,} tokens: {pair.difference:+.1%} "
            f"[{pair.low:+.1%} to {pair.high:+.1%}]; only {search.name} solves {pair.first}, only {first.name} "
            f"{pair.second}; exact McNemar test p = {pair.p:.3g}"
        )
    return printable("\n".join(lines))


def draw(path: Path, task: str, result: EqualTokens) -> None:
    """Plot the accuracy of each search over the tokens of a problem, with 95 % intervals. Raises ConfigError."""
    from .plot_style import DASHES, as_percent, percent, plotted

    ends = {search.name: search.at(result.budget, result.numbers) for search in result.searches}
    ordered = sorted(ends.items(), key=lambda end: -(end[1].value or 0.0))
    best, value = ordered[0][0], ordered[0][1].value or 0.0
    rest = ", ".join(f"{name} {percent(part.value or 0.0)}" for name, part in ordered[1:4])
    message = f"At {result.budget:,} tokens {best} solves {percent(value)}" + (f", {rest}" if rest else "")
    note = f"{task}, {len(result.numbers)} problems; bands: 95 % interval"
    try:
        with plotted(path, message, note, height=5.0) as axes:
            for place, search in enumerate(result.searches):
                points = result.points(search)
                tokens, shares = [at for at, _ in points], [part for _, part in points]
                [line] = axes.step(
                    tokens, [part.value or 0.0 for part in shares], where="post", label=search.name,
                    linestyle=DASHES[place % len(DASHES)],
                )  # fmt: skip
                axes.fill_between(
                    tokens, [part.low for part in shares], [part.high for part in shares], step="post", alpha=0.15,
                    color=line.get_color(), linewidth=0,
                )  # fmt: skip
            axes.set(
                xlabel="tokens of a problem, the judge's included", ylabel="accuracy", ylim=(0, 1),
                xlim=(0, result.budget),
            )  # fmt: skip
            as_percent(axes.yaxis)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.legend(loc="upper left")
    except OSError as error:
        raise ConfigError(f"--plot: cannot write {path}: {error.strerror}") from error
