"""Synthetic trees whose thoughts are judged by a value of their own, and how searches order them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from synthetic import TreeBackend, named, trees


@st.composite
def judged_trees(draw: st.DrawFn, unparsed: bool = True) -> tuple[Any, dict[str, int | None]]:
    """A tree, and what a judge with few values says of each node; None is unparsed."""
    tree = draw(trees())
    said = st.integers(0, 4) | st.none() if unparsed else st.integers(0, 4)
    return tree, {name: draw(said) for name in named(tree) if name != "r"}


def backend_of(tree: Any, values: dict[str, int | None]) -> TreeBackend:
    return TreeBackend(tree, judge=lambda name, node: "hm" if values[name] is None else f"v{values[name]}")


def expanded(backend: TreeBackend) -> list[str]:
    """The nodes whose children were asked for, in order."""
    return [prompt.split()[2 if prompt.startswith("children") else 3] for prompt in backend.prompts("ch")]


def children(tree: Any, name: str) -> list[str]:
    node = named(tree)[name]
    return [name + chr(97 + index) for index in range(len(node))] if isinstance(node, list) else []


def order(value: int | None) -> tuple[bool, int]:
    """What a search sorts by: best first, unknown last."""
    return value is None, -(value or 0)


def walk(tree: Any, values: dict[str, int | None], name: str) -> list[str]:
    """From a node down the best children, the first of equals."""
    path = [name]
    while below := children(tree, path[-1]):
        path.append(min(below, key=lambda child: order(values[child])))
    return path
