"""The picture of a tree, and the tree rebuilt from a journal."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from cli_tools import ORACLE, call
from helpers import Oracle

from treeagent import Agent, JournalError, Judgement, Thought, Tree
from treeagent.display.svg import draw
from treeagent.runtime.journal import read
from treeagent.runtime.journal_tree import rebuild

SVG = "{http://www.w3.org/2000/svg}"


def words(svg: str) -> list[str]:
    """The texts that are drawn."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  our own


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(path))
    return path


def test_a_journal_gives_back_the_tree_that_was_grown(tmp_path):
    """Thoughts, judgements, answer and solution are those of the run itself."""
    path = tmp_path / "run.jsonl"
    result = Agent("game24", backend=Oracle()).solve("4 9 10 13", journal=path)
    rebuilt = rebuild(read(path))
    live = [{key: value for key, value in thought.items() if key != "key"} for thought in result.tree.to_json()]
    found = [{key: value for key, value in thought.items() if key != "key"} for thought in rebuilt.tree.to_json()]
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(live))
    assert rebuilt.solution is not None
    assert rebuilt.solution.id == result.thought.id
    assert rebuilt.solved is True


def test_a_journal_cut_short_still_gives_a_tree(journal):
    """What is there is drawn; without an end there is no verdict."""
    events = read(journal)
    rebuilt = rebuild(events[: len(events) // 2])
    assert 1 < len(rebuilt.tree) < 61
    assert rebuilt.solved is None
    assert words(draw(rebuilt.tree, rebuilt.solution, solved=rebuilt.solved))


def test_events_that_do_not_fit_together_are_refused(journal):
    """A thought without its parent is a damaged journal."""
    events = [event for event in read(journal) if event.data.get("id") != 1]
    with pytest.raises(JournalError, match="do not fit together"):
        rebuild(events)


def test_the_picture_holds_the_path_and_the_answer(journal):
    """Every step of the solution is drawn, its lines are thick, and the answer stands at the end."""
    rebuilt = rebuild(read(journal))
    svg = draw(rebuilt.tree, rebuilt.solution, solved=rebuilt.solved)
    texts = words(svg)
    assert {*rebuilt.end["path"], rebuilt.end["answer"], "solved"} <= set(texts)
    assert svg.count('stroke-width="3"') == 4  # three steps and the answer


def test_leaves_that_are_left_out_are_counted(journal):
    """What is drawn and what is counted add up to the whole tree."""
    rebuilt = rebuild(read(journal))
    for leaves in (0, 1, 3, 100):
        texts = words(draw(rebuilt.tree, rebuilt.solution, solved=True, leaves=leaves))
        counted = sum(int(text.split()[0]) for text in texts if text.startswith("+"))
        drawn = sum(text.startswith("value") for text in texts)
        assert drawn + counted == len(rebuilt.tree) - 1
    assert not counted


def test_boxes_do_not_overlap(journal):
    """No two boxes share a point, and all lie within the picture."""
    rebuilt = rebuild(read(journal))
    root = ElementTree.fromstring(draw(rebuilt.tree, rebuilt.solution, leaves=100))  # noqa: S314  our own
    boxes = [[float(rect.get(name, "")) for name in ("x", "y", "width", "height")] for rect in root.iter(f"{SVG}rect")]
    assert len(boxes) == len(rebuilt.tree) + 1
    for i, (x, y, width, height) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + width <= float(root.get("width", ""))
        assert y + height <= float(root.get("height", ""))
        for x2, y2, width2, height2 in boxes[:i]:
            assert x >= x2 + width2 or x2 >= x + width or y >= y2 + height2 or y2 >= y + height


def test_any_text_makes_valid_xml():
    """Markup, control characters and long texts cannot break the file."""
    tree = Tree(Thought(0, None, "", "<in> & \x00 \x1b[31m", "k", 0))
    tree.add(Thought(1, 0, 'a "quoted" <b> & \n' + "long " * 50, "s", "k1", 1, (0,), judgement=Judgement(None)))
    svg = draw(tree, tree[1])
    texts = words(svg)
    assert any(text.startswith('a "quoted" <b> &') and text.endswith("…") for text in texts)
    assert "value unknown" in texts


def test_a_tree_of_one_thought_can_be_drawn():
    """A search that found nothing has a picture too."""
    assert words(draw(Tree(Thought(0, None, "", "1 1 1 1", "k", 0)))) == ["1 1 1 1", "input"]


def test_export_writes_each_format(journal, tmp_path):
    """svg, mermaid and json, to a file or to standard output."""
    assert call("export", str(journal)).stdout.startswith("<svg ")
    assert call("export", str(journal), "-f", "mermaid").stdout.startswith("flowchart TD")
    whole = json.loads(call("export", str(journal), "-f", "json").stdout)
    assert len(whole["thoughts"]) == 61
    assert len(whole["solution"]) == 3
    assert whole["end"]["solved"] is True
    out = tmp_path / "tree.svg"
    call("export", str(journal), "-o", str(out))
    assert out.read_text().startswith("<svg ")
    assert call("export", str(journal), "-o", str(tmp_path)).exit_code == 2
    assert call("export", str(journal), "-f", "png").exit_code == 2
