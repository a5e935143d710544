"""Thoughts, their tree, and its exports."""

from __future__ import annotations

import dataclasses
import json
import re

import networkx
import pytest

from treeagent import Judgement, Thought, Tree


def small_tree() -> Tree:
    """The root with two children, the first with one."""
    tree = Tree(Thought(0, None, "", "4 6", "4 6", 0))
    tree.add(Thought(1, 0, "first", "s1", "k1", 1, (0,)))
    tree.add(Thought(2, 0, "second", "s2", "k2", 1, (3,)))
    tree.add(Thought(3, 1, "third", "s3", "k3", 2, (0, 1), terminal=True))
    return tree


def test_thoughts_are_immutable() -> None:
    """A record's content never changes."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_tree().root.text = "other"  # type: ignore[misc]


def test_a_tree_has_children_lineage_and_steps() -> None:
    """Children in the order they came; the lineage leaves the root out."""
    tree = small_tree()
    assert [child.id for child in tree.children(tree.root)] == [1, 2]
    assert tree.children(tree[3]) == []
    assert [thought.id for thought in tree.lineage(tree[3])] == [1, 3]
    assert tree.steps(tree[3]) == ["first", "third"]
    assert tree.steps(tree.root) == []
    assert (len(tree), [thought.id for thought in tree]) == (4, [0, 1, 2, 3])


def test_a_path_is_a_place() -> None:
    """The path as text goes into a request's key; the root has a name of its own."""
    tree = small_tree()
    assert [thought.place for thought in tree] == ["root", "0", "3", "0.1"]


def test_a_judged_thought_is_a_new_record_of_the_same_id() -> None:
    """The old record stays as it was; the tree shows the new one, and a second update keeps the first."""
    tree = small_tree()
    old = tree[1]
    tree.update(old, judgement=Judgement(0.0, ("impossible",)))
    tree.update(old, answer="24")
    assert (old.value, old.answer) == (None, None)
    assert (tree[1].value, tree[1].answer, tree[1].text) == (0.0, "24", "first")


def test_an_orphan_is_refused() -> None:
    """A thought without a parent in the tree changes nothing."""
    tree = small_tree()
    for parent in (None, 17):
        with pytest.raises(KeyError):
            tree.add(Thought(9, parent, "x", "x", "x", 1))
    assert len(tree) == 4


def test_json_is_plain_and_complete() -> None:
    """One object a thought with all of its fields."""
    tree = small_tree()
    tree.update(tree[1], judgement=Judgement(20.0, ("sure",), 2))
    rows = json.loads(json.dumps(tree.to_json()))
    assert [row["id"] for row in rows] == [0, 1, 2, 3]
    assert rows[1]["judgement"] == {"value": 20.0, "labels": ["sure"], "unparsed": 2}
    assert set(rows[0]) == {field.name for field in dataclasses.fields(Thought)}


def test_networkx_has_the_same_tree() -> None:
    """Edges go from parents to children, and nodes carry the fields."""
    graph = small_tree().to_networkx()
    assert sorted(graph.edges) == [(0, 1), (0, 2), (1, 3)]
    assert networkx.is_arborescence(graph)
    assert graph.nodes[3]["text"] == "third"


def test_mermaid_draws_every_thought_and_the_chosen_path() -> None:
    """The path to the highlighted thought is bold; values are shown; the root shows its state."""
    tree = small_tree()
    tree.update(tree[2], judgement=Judgement(0.5))
    lines = tree.to_mermaid(tree[3]).splitlines()
    assert lines[0] == "flowchart TD"
    assert '    n0["4 6"]' in lines
    assert '    n2["second<br/>0.5"]' in lines
    assert [line.strip() for line in lines if "n" in line and (">" in line and "[" not in line)] == [
        "n0 ==> n1",
        "n0 --> n2",
        "n1 ==> n3",
    ]
    assert "==>" not in tree.to_mermaid()


@pytest.mark.parametrize(
    "text", ['say "hi"', "a < b > c", "<script>alert(1)</script>", "a & b", "two\nlines", "#quot;", "`code`"]
)
def test_no_text_breaks_out_of_its_mermaid_label(text: str) -> None:
    """Quotes, angle brackets, ampersands, entities and line ends are escaped; a node stays on one line."""
    tree = small_tree()
    tree.update(tree[1], text=text)
    [line] = [line for line in tree.to_mermaid().splitlines() if line.strip().startswith("n1[")]
    label = re.fullmatch(r'    n1\["(.*)"\]', line)
    assert label is not None
    assert not re.search(r'["<>]', label[1].replace("<br/>", ""))
    assert "#" not in re.sub(r"#\d+;", "", label[1])
    assert "`" not in label[1]
