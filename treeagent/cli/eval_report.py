"""The report of an evaluation as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..display.text import printable
from ..evaluation.statistics import Paired
from ..evaluation.summary import Summary
from .metrics_text import early, lost, paragraph, shown


def report(title: str, summary: Summary, seconds: float | None, engine: Mapping[str, Any]) -> str:
    """Accuracy with the number of failures, then cost, time and judgements."""
    tokens = "unknown" if summary.tokens is None else f"{summary.tokens:,}"
    dollars = "unknown" if summary.dollars is None else f"{summary.dollars:.4f}"
    legal = "" if summary.legal is None else f"; {summary.legal:.1%} of all steps legal"
    lines = [
        title,
        accuracy(summary),
        *groups(summary),
        f"{tokens} tokens, {summary.calls:,} calls, dollars {dollars}"
        + ("" if seconds is None else f", {seconds:.1f} s this time"),
        *_judging(summary),
        f"a problem took {_seconds(summary.p50)} (median), {_seconds(summary.p99)} (99 %), others running beside it",
        f"{summary.thoughts:,} thoughts, {shown(summary.duplicates)} duplicates merged, {summary.illegal:,} illegal, "
        f"{summary.unparsed:,} unparsed{legal}",
        f"{summary.judged:,} judged, {summary.judgements_unparsed:,} judgements unparsed",
        *early(summary.early_hits, summary.early_misses, summary.early_tokens, summary.early_seconds),
        *lost(summary),
    ]
    if set(summary.ended) - {"finished"}:
        lines.append("ended: " + ", ".join(f"{why} {count}" for why, count in summary.ended.items()))
    lines += ranked(summary)
    return printable("\n".join([*lines, *paragraph("engine", dict(engine))]))


def _judging(summary: Summary) -> list[str]:
    """What the evaluator's requests cost of the whole; nothing where there were none, or a file of before."""
    if not summary.judge_calls:
        return []
    return [f"of these for judging: {shown(summary.judge_tokens)} tokens, {summary.judge_calls:,} calls"]


def accuracy(summary: Summary) -> str:
    """The share of solved problems with its interval; with failures, the range it lies in."""
    share, done = summary.accuracy, f"{summary.run} of {summary.wanted} problems run"
    if share.value is None:
        none = "no row has a gold answer" if summary.ungraded else "no problem has a verdict"
        verdict = f"accuracy unknown: {none}"
    elif summary.bounds is None:
        verdict = f"accuracy {share.value:.1%} [{share.low:.1%} - {share.high:.1%}], {share.part} of {share.whole}"
    else:
        verdict = (
            f"{summary.failed} problem(s) FAILED, so the accuracy lies between {summary.bounds[0]:.1%} "
            f"(all of them wrong) and {summary.bounds[1]:.1%} (all right); "
            f"of the others {share.part} of {share.whole} are right"
        )
    graded = summary.accuracy.whole
    if summary.ungraded and graded:
        rows = "1 row has" if summary.ungraded == 1 else f"{summary.ungraded} rows have"
        verdict += f"{' graded' if summary.bounds is None else ''}; {rows} no gold answer"
    missing = f"; {summary.unanswered} without any answer" if summary.unanswered else ""
    return f"{verdict}{missing} ({done})"


def groups(summary: Summary) -> list[str]:
    """The accuracy of each group with its interval, in columns."""
    width = max(map(len, summary.groups), default=0)
    return [
        f"  {name:<{width}}  {part.value:6.1%} [{part.low:.1%} - {part.high:.1%}], {part.part} of {part.whole}"
        for name, part in summary.groups.items()
        if part.value is not None
    ]


def ranked(summary: Summary) -> list[str]:
    """How well the values of the evaluator rank thoughts, where an exact checker knows the truth."""
    ranking = summary.ranking
    if ranking.auc is None:
        return []
    interval = "" if ranking.low is None else f" [{ranking.low:.3f} - {ranking.high:.3f}]"
    lines = [f"evaluator: ranks a good thought above a bad one in {ranking.auc:.3f}{interval} of pairs (0.5: guessing)"]
    if len(ranking.levels) <= 8:
        lines += [f"  value {value:g}: {good} of {whole} good" for value, good, whole in ranking.levels]
    return lines


def against(pair: Paired | None, first: str, second: str) -> str:
    """The paired comparison of two evaluations."""
    if pair is None:
        return f"{first} and {second} have no problem with a verdict in common"
    whole = pair.both + pair.first + pair.second + pair.neither
    return (
        f"{first} against {second} on {whole} common problems: {pair.difference:+.1%} "
        f"[{pair.low:+.1%} to {pair.high:+.1%}]; only the first solves {pair.first}, only the second "
        f"{pair.second}, both {pair.both}, neither {pair.neither}; exact McNemar test p = {pair.p:.3g}"
    )


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"
