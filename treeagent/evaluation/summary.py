"""The figures of an evaluation: accuracy with its interval, cost, time, and the quality of the evaluator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..sums import total
from .outcomes import Outcome
from .statistics import Paired, Ranking, Share, paired, percentile, ranking, share


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over the problems that were run; unknown is None."""

    wanted: int
    """Problems of the evaluation, run or not."""
    run: int
    failed: int
    """Problems without a verdict because the backend failed: neither right nor wrong."""
    accuracy: Share
    """Share of solved problems among those with a verdict."""
    bounds: tuple[float, float] | None
    """The accuracy if all failed problems were wrong, and if all were right; None when none failed."""
    ungraded: int
    """Problems without a verdict that did not fail: no gold answer, and no check of the task. Not in the accuracy."""
    unanswered: int
    """Problems that ended without any answer; graded ones of them count as wrong."""
    ended: dict[str, int]
    """Number of searches by the reason of their end."""
    tokens: int | None
    completion_tokens: int | None
    calls: int
    judge_tokens: int | None
    """The evaluator's part of ``tokens``, and of ``calls``; unknown in files of before."""
    judge_calls: int | None
    dollars: float | None
    p50: float | None
    """Median seconds of a problem, while others were running."""
    p99: float | None
    thoughts: int
    unparsed: int
    illegal: int
    legal: float | None
    """The share of legal steps among all that were written, duplicates and unparsed ones included."""
    duplicates: int | None
    """This and the next four are unknown when a file of before has no such count."""
    truncated: int | None
    empty: int | None
    refused: int | None
    missing: int | None
    early_hits: int | None
    """This and the next two are unknown where no requests are sent early."""
    early_misses: int | None
    early_tokens: int | None
    early_seconds: float | None
    """Sum over problems of the estimated seconds that early requests saved; unknown in files of before."""
    judged: int
    judgements_unparsed: int
    ranking: Ranking
    groups: dict[str, Share]
    """The accuracy of each group, where the task groups its rows; problems without a group are in none."""

    def to_json(self) -> dict[str, Any]:
        """Part of the object that ``treeagent eval --json`` prints."""
        groups = {name: {**asdict(part), "value": part.value} for name, part in self.groups.items()}
        accuracy = {**asdict(self.accuracy), "value": self.accuracy.value}
        return {**asdict(self), "accuracy": accuracy, "groups": groups}


def summary(outcomes: Iterable[Outcome], wanted: int, *, legality: bool = True) -> Summary:
    """Summarize outcomes of an evaluation of ``wanted`` problems; ``legality``: illegal steps were dropped."""
    everything = list(outcomes)
    fine = [outcome for outcome in everything if outcome.error is None]
    known = [outcome for outcome in fine if outcome.right is not None]
    right, failed = sum(bool(outcome.right) for outcome in known), len(everything) - len(fine)
    whole = len(known) + failed
    return Summary(
        wanted=wanted,
        run=len(everything),
        failed=failed,
        accuracy=share(right, len(known)),
        bounds=(right / whole, (right + failed) / whole) if failed else None,
        ungraded=len(fine) - len(known),
        unanswered=sum(outcome.answer is None for outcome in fine),
        ended=dict(Counter(outcome.ended for outcome in everything).most_common()),
        tokens=total(*(outcome.tokens for outcome in fine)),
        completion_tokens=total(*(outcome.completion_tokens for outcome in fine)),
        calls=sum(outcome.calls for outcome in fine),
        judge_tokens=total(*(outcome.judge_tokens for outcome in fine)),
        judge_calls=total(*(outcome.judge_calls for outcome in fine)),
        dollars=total(*(outcome.dollars for outcome in fine)) if fine else None,
        p50=percentile([outcome.seconds for outcome in fine], 0.5),
        p99=percentile([outcome.seconds for outcome in fine], 0.99),
        thoughts=sum(outcome.thoughts for outcome in fine),
        unparsed=sum(outcome.unparsed for outcome in fine),
        illegal=sum(outcome.illegal for outcome in fine),
        legal=_legal(fine, legality=legality),
        duplicates=total(*(outcome.duplicates for outcome in fine)),
        truncated=total(*(outcome.truncated for outcome in fine)),
        empty=total(*(outcome.empty for outcome in fine)),
        refused=total(*(outcome.refused for outcome in fine)),
        missing=total(*(outcome.missing for outcome in fine)),
        early_hits=total(*(outcome.early_hits for outcome in fine)) if fine else None,
        early_misses=total(*(outcome.early_misses for outcome in fine)) if fine else None,
        early_tokens=total(*(outcome.early_tokens for outcome in fine)) if fine else None,
        early_seconds=total(*(outcome.early_seconds for outcome in fine)) if fine else None,
        judged=sum(outcome.judged for outcome in fine),
        judgements_unparsed=sum(outcome.judgements_unparsed for outcome in fine),
        ranking=ranking([outcome.values for outcome in fine]),
        groups=_groups(known),
    )


def _legal(fine: Sequence[Outcome], *, legality: bool) -> float | None:
    """None where nothing was written, or a file of before has no count of duplicates."""
    kept = total(*(outcome.thoughts for outcome in fine), *(outcome.duplicates for outcome in fine))
    if kept is None:
        return None
    illegal = sum(outcome.illegal for outcome in fine)
    legal = kept if legality else kept - illegal
    written = legal + illegal + sum(outcome.unparsed for outcome in fine)
    return legal / written if written else None


def _groups(known: Sequence[Outcome]) -> dict[str, Share]:
    """By name; the verdicts of each group."""
    verdicts: dict[str, list[bool]] = {}
    for outcome in known:
        if outcome.group is not None:
            verdicts.setdefault(outcome.group, []).append(bool(outcome.right))
    return {name: share(sum(verdicts[name]), len(verdicts[name])) for name in sorted(verdicts)}


def compared(first: Iterable[Outcome], second: Iterable[Outcome]) -> Paired | None:
    """The paired comparison on the inputs with a verdict in both runs; None when there is no such input."""
    verdicts = [
        {outcome.input: outcome.right for outcome in run if outcome.error is None and outcome.right is not None}
        for run in (first, second)
    ]
    common = [(bool(verdicts[0][text]), bool(verdicts[1][text])) for text in verdicts[0] if text in verdicts[1]]
    return paired(common) if common else None
