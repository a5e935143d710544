"""A tree of thoughts as an SVG picture, without external fonts, readable on light and dark pages.

The tree grows to the right because thoughts are lines of text. Layout: leaves are stacked in order, and each parent is
placed in the middle of its children (Reingold & Tilford 1981, without packing: each leaf has a row).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from ..thought import Thought, Tree, ranked
from .text import one_line

ROW, BOX, GAP, MARGIN = 40, 32, 44, 16
"""Pixels: height of a row and of a box, space between columns, around everything."""
LETTER = 7.0
"""Width of a character at 11.5 px in the monospaced fonts named below; the widest of them has 0.605 em."""
LONGEST = 34
"""Characters shown of a thought; its tool tip has the full text."""

# Boxes have a light fill with dark text, and lines are mid grey, so that the page may have any colour.
GOOD, FAIR, POOR, BLANK = "#b7ebc6", "#fbe7a8", "#e3e7ec", "#ffffff"
INK, FAINT, LINE, PATH = "#1f2328", "#59636e", "#8b949e", "#1a9d4b"


@dataclass(slots=True)
class Box:
    """A box: a thought, or the number of omitted thoughts."""

    text: str
    note: str
    fill: str
    tip: str
    depth: int
    chosen: bool = False
    """On the way to the solution."""
    left_out: bool = False
    children: list[Box] = field(default_factory=list)
    row: float = 0.0

    def all(self) -> Iterator[Box]:
        """The box and all below it."""
        yield self
        for child in self.children:
            yield from child.all()


TALL = 26
"""Most rows of a picture whose number of leaves is not given."""


def draw(tree: Tree, solution: Thought | None = None, *, solved: bool | None = None, leaves: int | None = None) -> str:
    """Draw a tree as SVG text.

    Each thought is drawn with its best ``leaves`` leaves and those on the path of the solution; None draws as many
    as fit a page. ``solved`` marks the answer as verified (True), refuted (False) or not verified (None).
    """
    if leaves is None:
        sizes = ((count, draw(tree, solution, solved=solved, leaves=count)) for count in (8, 5, 3, 2, 1, 0))
        return next((text for count, text in sizes if not count or _height(text) <= TALL * ROW), "")
    chosen = {0, *(thought.id for thought in tree.lineage(solution))} if solution is not None else set()
    root = _box(tree, tree.root, chosen, _scale(tree), leaves)
    if solution is not None and solution.answer is not None:
        note = {True: "solved", False: "answer, refused by the check", None: "answer, not verified"}[solved]
        last = next(box for box in root.all() if box.chosen and not any(child.chosen for child in box.children))
        fill = PATH if solved else FAINT
        last.children.insert(
            0, Box(one_line(solution.answer, LONGEST), note, fill, solution.answer, last.depth + 1, chosen=True)
        )
    rows = _place(root, 0.0)
    boxes = list(root.all())
    widths = [
        max(LETTER * max(len(box.text), len(box.note) * 0.87) + 20 for box in boxes if box.depth == depth)
        for depth in range(max(box.depth for box in boxes) + 1)
    ]
    lefts = [MARGIN + sum(widths[:depth]) + GAP * depth for depth in range(len(widths))]
    size = (round(lefts[-1] + widths[-1] + MARGIN), round(rows * ROW + 2 * MARGIN - (ROW - BOX)))
    return _svg(tree, boxes, widths, lefts, size)


def _box(tree: Tree, thought: Thought, chosen: set[int], colours: dict[int, str], leaves: int) -> Box:
    """A thought with the boxes below it: expanded children, the chosen one, and the best other leaves."""
    children = tree.children(thought)
    ends = [child for child in children if not tree.children(child) and child.id not in chosen]
    best = {
        child.id for child in ranked(ends)[: leaves if len(ends) > leaves + 1 else None]
    }  # "+1 more" takes a row as well
    shown = [child for child in children if child not in ends or child.id in best]
    box = Box(
        one_line(thought.text or thought.state, LONGEST), _note(thought), colours.get(thought.id, BLANK),
        thought.text or thought.state, thought.depth, thought.id in chosen,
    )  # fmt: skip
    box.children = [_box(tree, child, chosen, colours, leaves) for child in shown]
    omitted = len(children) - len(shown)
    if omitted:
        box.children.append(Box(f"+{omitted} more", "", "none", "", thought.depth + 1, left_out=True))
    return box


def _note(thought: Thought) -> str:
    if thought.parent is None:
        return "input"
    if thought.judgement is None:
        return "not judged"
    if thought.value is None:
        return "value unknown"
    labels = list(dict.fromkeys(thought.judgement.labels))
    return f"value {thought.value:.4g}" + (f" · {'/'.join(labels)}" if labels else "")


def _scale(tree: Tree) -> dict[int, str]:
    """Colours by the rank of each value in the tree, which suits any scale of values."""
    values = sorted({thought.value for thought in tree if thought.value is not None})
    if not values:
        return {}
    rank = {value: index / max(len(values) - 1, 1) for index, value in enumerate(values)}
    if len(values) == 1:
        rank = {values[0]: 1.0}
    judged = [(thought.id, rank[thought.value]) for thought in tree if thought.value is not None]
    return {id: GOOD if place > 2 / 3 else FAIR if place > 1 / 3 else POOR for id, place in judged}


def _place(box: Box, row: float) -> float:
    """Assign rows to a box and all boxes below it, from ``row`` on. Returns the next free row."""
    if not box.children:
        box.row = row
        return row + 1
    for child in box.children:
        row = _place(child, row)
    box.row = (box.children[0].row + box.children[-1].row) / 2
    return row


def _svg(
    tree: Tree, boxes: Sequence[Box], widths: Sequence[float], lefts: Sequence[float], size: tuple[int, int]
) -> str:
    title = f"Tree of thoughts for {one_line(tree.root.state)}"
    width, height = size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace">',
        f"<title>{escape(title)}</title>",
        f"<desc>{len(tree) - 1} thoughts; the path to the answer has thick green lines.</desc>",
    ]
    # Chosen lines are drawn last, on top of the others.
    links = sorted(((box, child) for box in boxes for child in box.children), key=lambda link: link[1].chosen)
    for box, child in links:
        x1, x2 = lefts[box.depth] + widths[box.depth], lefts[child.depth]
        y1, y2, bend = _middle(box), _middle(child), (x1 + x2) / 2
        style = f'stroke="{PATH}" stroke-width="3"' if child.chosen else f'stroke="{LINE}" stroke-width="1.2"'
        dash = ' stroke-dasharray="2 4"' if child.left_out else ""
        curve = f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        lines.append(f'<path d="{curve}" fill="none" {style}{dash}/>')
    lines += [line for box in boxes for line in _drawn(box, lefts[box.depth], widths[box.depth])]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _drawn(box: Box, left: float, width: float) -> list[str]:
    middle = _middle(box)
    if box.left_out:
        return [f'<text x="{left + 6:.1f}" y="{middle + 4:.1f}" font-size="11.5" fill="{LINE}">{box.text}</text>']
    ink, faint = (BLANK, BLANK) if box.fill in (PATH, FAINT) else (INK, FAINT)
    outline = f'x="{left:.1f}" y="{middle - BOX / 2:.1f}" width="{width:.1f}" height="{BOX}" rx="7"'
    weight = ' font-weight="600"' if box.chosen else ""
    green = box.chosen and box.fill != FAINT
    edge = f'stroke="{PATH}" stroke-width="2.5"' if green else f'stroke="{LINE}" stroke-width="1"'
    return [
        f"<g><title>{escape(one_line(box.tip))}</title>",
        f'<rect {outline} fill="{box.fill}" {edge}/>',
        f'<text x="{left + 10:.1f}" y="{middle - 2:.1f}" font-size="11.5" fill="{ink}"'
        f"{weight}>{escape(box.text)}</text>",
        f'<text x="{left + 10:.1f}" y="{middle + 11:.1f}" font-size="10" fill="{faint}">{escape(box.note)}</text></g>',
    ]


def _height(text: str) -> int:
    return int(text.split('height="', 1)[1].split('"', 1)[0])


def _middle(box: Box) -> float:
    return MARGIN + box.row * ROW + BOX / 2
