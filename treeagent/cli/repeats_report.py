"""The report of repeated evaluations: the accuracy of each, pass@k and maj@k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..evaluation.repeats import AtK, at_each_k
from ..evaluation.summary import summary

if TYPE_CHECKING:
    from ..evaluation.outcomes import Outcome
    from ..evaluation.run import Evaluation
    from ..task import Task
    from ..taskfile.dataset import Data


def figures(task: Task, data: Data, evaluations: Sequence[Evaluation]) -> list[AtK]:
    """pass@k and maj@k; answers are one in a vote where the task says so."""
    bound = {row.number: task.for_row(row.input, row.fields or None) for row in data.rows}

    def key(outcome: Outcome) -> str | None:
        return None if outcome.answer is None else bound[outcome.number].answer_key(outcome.answer)

    return at_each_k([evaluation.done_outcomes for evaluation in evaluations], key)


def to_json(evaluations: Sequence[Evaluation], tries: Sequence[AtK]) -> dict[str, Any]:
    """Part of the object that ``treeagent eval --json`` prints."""
    rows = []
    for evaluation in evaluations:
        total = summary(evaluation.done_outcomes, len(evaluation.data.rows))
        accuracy = {**asdict(total.accuracy), "value": total.accuracy.value}
        rows.append({"seed": evaluation.agent.seed, "accuracy": accuracy, "tokens": total.tokens})
    return {"repeats": rows, "at_k": [asdict(each) for each in tries]}


def report(evaluations: Sequence[Evaluation], tries: Sequence[AtK]) -> str:
    """A line for each repeat, then one for each k."""
    lines = []
    for evaluation in evaluations:
        share = summary(evaluation.done_outcomes, len(evaluation.data.rows)).accuracy
        shown = "unknown" if share.value is None else f"{share.value:.1%}, {share.part} of {share.whole}"
        lines.append(f"seed {evaluation.agent.seed}: accuracy {shown}")
    if not tries:
        return "\n".join([*lines, "pass@k and maj@k are unknown: no problem has a verdict in every repeat"])
    lines.append(f"over the {tries[0].passed.problems} problems with a verdict in every repeat (95 % by bootstrap):")
    for each in tries:
        passed, voted = each.passed, each.voted
        lines.append(
            f"  k = {each.k}: pass@k {passed.value:.1%} [{passed.low:.1%} - {passed.high:.1%}], "
            f"maj@k {voted.value:.1%} [{voted.low:.1%} - {voted.high:.1%}]"
        )
    return "\n".join(lines)
