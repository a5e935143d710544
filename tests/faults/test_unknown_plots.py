"""Plots say what they leave out because it is unknown."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from treeagent.cli.eval_report import draw
from treeagent.evaluation.outcomes import Outcome
from treeagent.evaluation.summary import summary


def test_the_plot_of_an_evaluation_counts_what_is_unknown(tmp_path: Path) -> None:
    """What failed, has no gold answer or answer, was unparsed or lost is a number in the figure, or unknown there."""
    outcomes = [
        Outcome(0, "a", "24", True, "finished", prompt_tokens=3, completion_tokens=4, truncated=5, refused=6),
        Outcome(1, "b", None, False, "finished", prompt_tokens=None, unparsed=7, judgements_unparsed=8, truncated=0),
        Outcome(2, "c", "x", None, "finished", truncated=0),
        Outcome(3, "d", error="the backend failed"),
    ]
    path = tmp_path / "plot.svg"
    with rc_context({"svg.fonttype": "none"}):
        draw(path, "a title", outcomes, summary(outcomes, 9))
    text = path.read_text()
    for part in (
        "4 of 9 problems run", "1 failed and 1 without a gold answer", "1 without any answer",
        "7 steps and 8 judgements unparsed", "5 completions cut off, unknown refused", "1 problems with unknown tokens",
    ):  # fmt: skip
        assert part in text, part
