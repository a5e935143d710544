"""Plots say what they leave out because it is unknown."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from treeagent.cli.eval_plots import draw
from treeagent.evaluation.outcomes import Outcome
from treeagent.evaluation.summary import summary


def test_the_plot_of_an_evaluation_counts_what_is_unknown(tmp_path: Path) -> None:
    """What failed, has no gold answer or no answer, or was not run is a number in the figure."""
    outcomes = [
        Outcome(0, "a", "24", True, "finished", prompt_tokens=3, completion_tokens=4, truncated=5, refused=6),
        Outcome(1, "b", None, False, "finished", prompt_tokens=None, unparsed=7, judgements_unparsed=8, truncated=0),
        Outcome(2, "c", "x", None, "finished", truncated=0),
        Outcome(3, "d", error="the backend failed"),
    ]
    path = tmp_path / "plot.svg"
    with rc_context({"svg.fonttype": "none"}):
        assert draw(path, "a title", outcomes, summary(outcomes, 9)) == [path]
    text = path.read_text()
    for part in (
        "4 of 9 problems run", "1 failed, 1 ungraded", "1 without any answer",
    ):  # fmt: skip
        assert part in text, part
