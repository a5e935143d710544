"""Random trees for property-based tests, beside the synthetic task and backend of the contract kit."""

from __future__ import annotations

from hypothesis import strategies as st

from treeagent import Checker, YamlTask
from treeagent.testing.synthetic import TASK, TOP, Node, TreeBackend, best, essence, named, optimum, solve, task

__all__ = [
    "TASK",
    "TOP",
    "CheckedTask",
    "Node",
    "TreeBackend",
    "best",
    "essence",
    "named",
    "optimum",
    "solve",
    "task",
    "trees",
]


class CheckedTask(YamlTask):
    """The synthetic task with a checker that is not registered; ``**{old: new}`` replaces text of its file."""

    def __init__(self, checker: Checker, **replaced: str) -> None:
        text = TASK
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        super().__init__(text)
        self.checker = checker


@st.composite
def trees(draw: st.DrawFn, depth: int = 3, width: int = 3) -> list[Node]:
    """A tree whose leaves have different values; every inner node has a child."""

    def shape(levels: int, top: bool = False) -> Node:
        if not top and (levels == 0 or draw(st.booleans())):
            return 0
        return [shape(levels - 1) for _ in range(draw(st.integers(1, width)))]

    root = shape(depth, top=True)
    values = draw(st.permutations(range(TOP + 1)))

    def fill(node: Node) -> Node:
        return [fill(child) for child in node] if isinstance(node, list) else values.pop()

    filled = fill(root)
    assert isinstance(filled, list)
    return filled
