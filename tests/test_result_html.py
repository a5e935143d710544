"""What a notebook shows of a result."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from journals import HOSTILE
from serve_tools import agent

from treeagent import Judgement, Result, Thought, Tree, Usage
from treeagent.runtime.result import Counts
from treeagent.runtime.tree_html import ROWS


class Shown(HTMLParser):
    """The elements of a piece of HTML, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def result(tree: Tree, thought: Thought | None, text: str = "r") -> Result:
    """A result with this tree."""
    return Result(text, text, None, (), "finished", Usage(), 0.1, 0, Counts(), tree, thought)


def grown(count: int, parent_of: str, text: str = "step") -> tuple[Tree, Thought]:
    """A tree of so many thoughts, a ``chain`` or a ``star`` below the root; and its last thought."""
    tree = Tree(last := Thought(0, None, "", text, text, 0))
    for id in range(1, count + 1):
        above = last if parent_of == "chain" else tree.root
        judgement = Judgement(float(id % 7), (text,))
        last = Thought(id, above.id, f"{text} {id}", text, text, above.depth + 1, answer=text, judgement=judgement)
        tree.add(last)
    return tree, last


def test_a_notebook_shows_the_answer_and_the_way_to_it() -> None:
    """Through IPython's own formatter where it is installed; the way is bold, and every thought of it is there."""
    found = agent(seed=3).solve("r")
    html = found._repr_html_()
    formatters = pytest.importorskip("IPython.core.formatters")
    assert formatters.DisplayFormatter().format(found)[0]["text/html"] == html
    text = Shown(html).text
    assert found.answer is not None
    assert f"r → {found.answer}" in text
    assert all(step in text for step in found.path)
    assert html.count("<b>") == len(found.path) + 1  # the root as well


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_shown_and_never_obeyed(text: str) -> None:
    """No element and no attribute but the piece's own, no control character, and nothing is fetched."""
    tree, last = grown(3, "chain", text)
    shown = Shown(result(tree, last, text)._repr_html_())
    assert shown.tags == {"div", "br", "details", "summary", "pre", "b"}
    assert shown.names == {"class", "open", "style"}
    assert shown.open == []
    assert not set(shown.text) & {"\x1b", "\x00", "\x07", "\u202e", "\ud800"}


@pytest.mark.parametrize("shape", ["chain", "star"])
def test_a_huge_tree_has_a_bounded_size(shape: str) -> None:
    """The way to the answer goes first; the rest is counted; long texts are cut."""
    tree, last = grown(5000, shape, "&" * 2000)
    html = result(tree, last)._repr_html_()
    assert len(html) < 120_000
    assert html.count("└") <= ROWS + 10
    assert f"+{5001 - ROWS if shape == 'star' else 1:,} more" in html
    assert "5,000 thoughts" in html
