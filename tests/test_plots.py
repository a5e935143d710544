"""Plots of evaluations and comparisons: intervals in all, no empty frames, one message each, legible sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from treeagent.cli import anytime_report, eval_plots
from treeagent.cli.compare_plot import draw_speedups
from treeagent.comparison.speedup import Pass, Score
from treeagent.evaluation.anytime import Curve
from treeagent.evaluation.equal_tokens import SearchCurve, compare
from treeagent.evaluation.outcomes import Outcome
from treeagent.evaluation.repeats import AtK, Mean
from treeagent.evaluation.summary import summary

POINTS = 11
"""The smallest letters: on a slide 25 cm wide they are 3.7 mm high."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures as they are when they are written."""
    figures: list[Figure] = []
    save = Figure.savefig

    def kept(self: Figure, *words: Any, **how: Any) -> None:
        figures.append(self)
        save(self, *words, **how)

    monkeypatch.setattr(Figure, "savefig", kept)
    return figures


def fit(figure: Figure) -> None:
    """One frame with something in it, a message of three lines at most, and every text whole, apart and legible."""
    [axes] = figure.axes
    assert axes.has_data()
    title = figure.get_suptitle()
    assert title
    assert title.count("\n") < 3
    texts = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]
    assert min(each.get_fontsize() for each in texts) >= POINTS
    canvas = figure.bbox
    for text in texts:
        box = text.get_window_extent()
        if text in (*axes.get_xticklabels(), *axes.get_yticklabels()) and not axes.bbox.expanded(1.05, 1.05).overlaps(
            box
        ):
            continue  # a tick beyond the limits, which is not drawn
        assert box.x0 >= -2, text
        assert box.x1 <= canvas.width + 2, text
        assert box.y0 >= -2, text
        assert box.y1 <= canvas.height + 2, text


def bars(figure: Figure) -> int:
    """Intervals: error bars and bands."""
    return len(figure.axes[0].containers) + sum("PolyCollection" in type(each).__name__ or
        "FillBetween" in type(each).__name__ for each in figure.axes[0].collections)  # fmt: skip


def problems(count: int, **more: Any) -> list[Outcome]:
    values = ((3.0, True), (1.0, False), (1.0, True))
    return [
        replace(
            Outcome(
                number, f"input {number}", "a", number % 3 > 0, "finished", None, 1 + number / 7, 5, 90 * number, 10
            ),
            **{"values": values, **more},
        )
        for number in range(count)
    ]


def draw(folder: Path, outcomes: Sequence[Outcome], tries: Sequence[AtK] = ()) -> list[str]:
    total = summary(outcomes, len(outcomes))
    name = "a task with a long name, best-first, openai a-model-with-a-name-that-is-long-too/instruct-2026"
    return [path.name for path in eval_plots.draw(folder / "a.png", name, outcomes, total, tries)]


def test_each_figure_of_an_evaluation_has_a_message_and_intervals(tmp_path: Path, drawn: list[Figure]) -> None:
    """Accuracy, tokens, seconds, values and repeats, each in a file."""
    means = [Mean(0.1 * k, 0.05 * k, 0.15 * k, 40) for k in (1, 2, 3)]
    tries = [AtK(k, mean, mean) for k, mean in enumerate(means, 1)]
    assert draw(tmp_path, problems(40), tries) == [
        "a.png", "a-tokens.png", "a-seconds.png", "a-evaluator.png", "a-repeats.png",
    ]  # fmt: skip
    for figure in drawn:
        fit(figure)
        assert bars(figure) > 0
    messages = [figure.get_suptitle().replace("\n", " ") for figure in drawn]
    assert messages[0] == "65 % of 40 problems solved (95 %: 50 % to 78 %)"
    assert re.match(r"Tokens of a problem, median: 1,\d\d0 for a right one and 1,\d\d0 for a wrong one$", messages[1])
    assert messages[2] == "Half of the problems take up to 3.7 s, 99 % up to 6.6 s"
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("a.png", "a-evaluator.png"))


def test_groups_have_a_row_each(tmp_path: Path, drawn: list[Figure]) -> None:
    """However long their names and however many they are; those left out are counted."""
    outcomes = [
        replace(each, group=f"group {each.number % 30} of a long name that goes on and on") for each in problems(90)
    ]
    draw(tmp_path, outcomes)
    fit(drawn[0])
    assert len(drawn[0].axes[0].containers) == 17
    assert "14 more groups" in drawn[0].get_supxlabel().replace("\n", " ")


def test_nothing_is_drawn_of_nothing(tmp_path: Path, drawn: list[Figure]) -> None:
    """No verdict, no accuracy; few problems, no spread; unknown tokens and values, neither."""
    assert draw(tmp_path, problems(30, right=None, values=())) == ["a-seconds.png"]
    assert draw(tmp_path, problems(2, values=())) == ["a.png"]
    assert draw(tmp_path, problems(30, prompt_tokens=None, values=())) == ["a.png", "a-seconds.png"]
    assert draw(tmp_path, problems(3, error="down", right=None)) == []


def test_comparisons_say_who_wins(tmp_path: Path, drawn: list[Figure]) -> None:
    """Speed-ups and curves at equal tokens, as PNG, SVG or PDF."""
    scores = [
        Score(name, tuple(Pass(1, 1, 9, 9, seconds + 0.01 * k) for k in range(3)))
        for name, seconds in (("transformers:mini", 2.0), ("seed:mini", 1.0))
    ]
    draw_speedups(tmp_path / "speed.svg", scores, "game24, bfs, 3 repeats")
    assert drawn[0].get_suptitle().replace("\n", " ") == "seed:mini is 1.99 times as fast as transformers:mini"
    assert (tmp_path / "speed.svg").read_text().startswith("<?xml")
    curves = [SearchCurve(name, {n: Curve((0, 10), (False, n < right), 10, 0) for n in range(20)})
              for name, right in (("bfs", 12), ("cot-sc", 5))]  # fmt: skip
    anytime_report.draw(tmp_path / "worth.png", "game24", compare(curves, None))
    assert drawn[1].get_suptitle() == "At 10 tokens bfs solves 60 %, cot-sc 25 %"
    for figure in drawn:
        fit(figure)
        assert bars(figure) > 0
    anytime_report.draw(tmp_path / "worth.pdf", "game24", compare(curves, None))
    assert (tmp_path / "worth.pdf").read_bytes().startswith(b"%PDF")
