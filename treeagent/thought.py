"""Thoughts and the tree that links them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, SupportsFloat

from .text import printable

if TYPE_CHECKING:
    import networkx


LARGEST = 1e100
"""Largest size of a value; sums, products of a few and spreads of such values are finite as well."""


def _known(value: object) -> float | None:
    """A number of any kind as one that JSON has; None where it cannot be ranked. Raises TypeError for no number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number: float = value  # whole numbers stay whole in journals
    elif isinstance(value, SupportsFloat):
        number = float(value)
    else:
        raise TypeError(f"the value of a judgement is a number or None, not {type(value).__name__}")
    return number if -LARGEST <= number <= LARGEST else None  # false for NaN


@dataclass(frozen=True, slots=True)
class Judgement:
    """An evaluator's judgement of a thought.

    A value that is not finite, or beyond ``LARGEST``, becomes None and counts as unparsed: it cannot be ranked, and no
    JSON file could hold it. A number of another library becomes a float; TypeError is raised for what is no number.
    """

    value: float | None
    """Higher is better; None when nothing could be parsed, which is not the same as 0."""
    labels: tuple[str, ...] = ()
    """The label of each parsed sample, for evaluators that have labels."""
    unparsed: int = 0
    """Samples that no label could be read from, and values that are not finite."""

    def __post_init__(self) -> None:
        if self.value is None:
            return
        known = _known(self.value)
        object.__setattr__(self, "value", known)
        if known is None:
            object.__setattr__(self, "unparsed", self.unparsed + 1)


@dataclass(frozen=True, slots=True)
class Thought:
    """A node of the search tree. Its content never changes; a judged thought is a new record with the same id."""

    id: int
    """Number within the tree; the root is 0."""
    parent: int | None
    text: str
    """The step itself, empty at the root."""
    state: str
    """What prompts show of the problem after this step."""
    key: str
    """Thoughts with equal keys are the same state."""
    depth: int
    path: tuple[int, ...] = ()
    """Sibling indices from the root, as generated, before any filtering."""
    terminal: bool = False
    answer: str | None = None
    """The answer read from a completion, where there is one."""
    judgement: Judgement | None = None
    """None until it is judged."""
    request: str | None = None
    """Id of the request that generated it."""
    sample: int | None = None
    """Which of the request's completions it came from."""
    model: str | None = None
    """Name of the model that wrote it, where the search has several."""

    @property
    def value(self) -> float | None:
        """The judgement's value; None when unjudged or unparsed."""
        return None if self.judgement is None else self.judgement.value

    @property
    def place(self) -> str:
        """The path as text, ``root`` or ``0.3.1``: the place in a request's key."""
        return ".".join(map(str, self.path)) or "root"


_MERMAID = str.maketrans(
    {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;", "#": "#35;", "`": "#96;", "\n": "<br/>", "\r": ""}
)


class Tree:
    """All thoughts of one search."""

    def __init__(self, root: Thought) -> None:
        self._thoughts = {root.id: root}
        self._children: dict[int, list[int]] = {root.id: []}

    def __len__(self) -> int:
        return len(self._thoughts)

    def __iter__(self) -> Iterator[Thought]:
        return iter(self._thoughts.values())

    def __getitem__(self, id: int) -> Thought:
        return self._thoughts[id]

    @property
    def root(self) -> Thought:
        """The thought that stands for the input itself."""
        return self._thoughts[0]

    def add(self, thought: Thought) -> None:
        """Link a new thought under its parent. Raises KeyError when the parent is not in the tree."""
        if thought.parent is None:
            raise KeyError("only the root has no parent")
        self._children[thought.parent].append(thought.id)
        self._thoughts[thought.id] = thought
        self._children[thought.id] = []

    def update(self, thought: Thought, **changes: Any) -> Thought:
        """Replace a thought by a copy with more known about it (a judgement, an answer), and return the copy."""
        self._thoughts[thought.id] = replace(self._thoughts[thought.id], **changes)
        return self._thoughts[thought.id]

    def children(self, thought: Thought) -> list[Thought]:
        """In the order they were added."""
        return [self._thoughts[id] for id in self._children[thought.id]]

    def lineage(self, thought: Thought) -> list[Thought]:
        """From the first step to this thought; the root is left out."""
        ancestors = []
        while thought.parent is not None:
            ancestors.append(thought)
            thought = self._thoughts[thought.parent]
        return ancestors[::-1]

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to this thought."""
        return [ancestor.text for ancestor in self.lineage(thought)]

    def to_json(self) -> list[dict[str, Any]]:
        """One plain dict a thought, in the order of their ids."""
        return [asdict(thought) for thought in self]

    def to_networkx(self) -> networkx.DiGraph[int]:
        """A directed graph from parents to children; each node carries the thought's fields."""
        import networkx  # noqa: PLC0415  0.2 s that only callers of this pay

        graph: networkx.DiGraph[int] = networkx.DiGraph()
        for thought in self:
            graph.add_node(thought.id, **asdict(thought))
            if thought.parent is not None:
                graph.add_edge(thought.parent, thought.id)
        return graph

    def to_mermaid(self, highlight: Thought | None = None) -> str:
        """A Mermaid flowchart; the path to ``highlight`` is drawn bold."""
        bold = {0, *(thought.id for thought in self.lineage(highlight))} if highlight else set()
        lines = ["flowchart TD"]
        for thought in self:
            label = printable(thought.text or thought.state).translate(_MERMAID)
            value = "" if thought.value is None else f"<br/>{thought.value:g}"
            lines.append(f'    n{thought.id}["{label}{value}"]')
            if thought.parent is not None:
                lines.append(f"    n{thought.parent} {'==>' if thought.id in bold else '-->'} n{thought.id}")
        return "\n".join(lines) + "\n"


def ranked(thoughts: Iterable[Thought]) -> list[Thought]:
    """Best value first; equal values keep their order, and thoughts of unknown value come last."""
    return sorted(thoughts, key=lambda thought: (thought.value is None, -(thought.value or 0.0)))
