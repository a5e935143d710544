"""A tree as a piece of HTML for notebooks: the way to the answer and the best other thoughts, of bounded size.

It is text with indentation, without scripts, styles of a page or addresses, so it suits light and dark notebooks and
stays readable in an exported one.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..text import printable
from ..thought import Thought, Tree, ranked

ROWS = 60
"""Thoughts that are shown."""
STEP, STATE, LABELS = 120, 60, 40
"""Characters that are shown of a step, of the state after it, and of the labels of its judgement."""
DEEPEST = 20
"""Depth from which on thoughts are not indented further."""


def tree_html(heading: Sequence[str], tree: Tree, solution: Thought | None) -> str:
    """Lines of a heading, then the tree, in which the way to ``solution`` is bold."""
    way = [tree.root, *([] if solution is None else tree.lineage(tree[solution.id]))]
    shown = _shown(tree, way)
    bold = {thought.id for thought in way}
    lines: list[str] = []
    stack: list[tuple[Thought, int]] = [(tree.root, 0)]  # a thought, and how many of its siblings come after it unseen
    while stack:
        thought, folded = stack.pop()
        if folded:
            lines.append(f"{_indent(thought.depth)}+{folded:,} more")
            continue
        line = _indent(thought.depth) + escape(_line(thought))
        lines.append(f"<b>{line}</b>" if thought.id in bold else line)
        children = tree.children(thought)
        seen = [child for child in children if child.id in shown]
        if len(seen) < len(children):
            stack.append((next(child for child in children if child.id not in shown), len(children) - len(seen)))
        stack += [(child, 0) for child in reversed(seen)]
    head = "<br>".join(escape(_cut(line, 2 * STEP)) for line in heading)
    body = "\n".join(lines)
    return (
        f'<div class="treeagent-result"><div>{head}</div><details open><summary>{len(tree) - 1:,} thoughts</summary>'
        f'<pre style="line-height: 1.35; overflow-x: auto">{body}</pre></details></div>'
    )


def _shown(tree: Tree, way: Sequence[Thought]) -> set[int]:
    """Ids of the way to the solution and of the best other thoughts, with what leads to them; at most ``ROWS``."""
    shown = {thought.id for thought in way[:ROWS]}
    for thought in ranked(tree):
        path, at = set[int](), thought
        while at.id not in shown and at.parent is not None and len(path) <= ROWS:
            path.add(at.id)
            at = tree[at.parent]
        if len(shown) + len(path) <= ROWS:
            shown |= path
        if len(shown) == ROWS:
            break
    return shown


def _indent(depth: int) -> str:
    return "  " * min(depth - 1, DEEPEST) + "└ " if depth else ""


def _line(thought: Thought) -> str:
    """What is known of a thought, in a line."""
    parts = [_cut(thought.text or thought.state, STEP)]
    if thought.text and thought.state and thought.state not in thought.text:
        parts.append(f"  {_cut(thought.state, STATE)}")
    if thought.judgement is not None:
        labels = "/".join(dict.fromkeys(thought.judgement.labels))
        parts.append("  value unknown" if thought.value is None else f"  [{thought.value:.4g}]")
        parts.append(f" {_cut(labels, LABELS)}" if labels else "")
    if thought.answer is not None:
        parts.append(f"  → {_cut(thought.answer, STEP)}")
    return "".join(parts)


def _cut(text: str, length: int) -> str:
    """The text on one line, at most so long."""
    line = printable(" ".join(text[: 4 * length].split()), keep="")
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1]}…"
