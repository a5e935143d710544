"""What scheduler, drafters and verifiers exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from treeagent.backend import Sampling

from ..local.beam_search import BeamSearch, Hypothesis, Pick

MODEL, BEAMS = "model", "beams"
"""Kinds of drafts: a draft model's for single branches and for groups of beams; those of tables have none."""


@dataclass(slots=True, eq=False)
class SequenceState:
    """What a drafter may know of one live branch; the engine owns it, drafters only read it."""

    tokens: list[int]
    """Prompt and committed tokens so far; grows in place, and the last one has not been read by the target yet."""
    prompt: int
    """How many of them are the prompt."""
    sampling: Sampling
    stream: int
    """Key of its noise; the noise of the next token has position ``len(tokens) - prompt``."""
    limit: int
    """The most tokens it may generate."""
    group: BeamGroup | None = None
    """Set where the row is one of several beams."""

    @property
    def position(self) -> int:
        """Index of the next token among the generated ones."""
        return len(self.tokens) - self.prompt

    def append(self, tokens: Sequence[int]) -> None:
        """Commit tokens."""
        self.tokens += tokens

    def set_generated(self, tokens: Sequence[int]) -> None:
        """Replace all generated tokens."""
        self.tokens[self.prompt :] = tokens

    @property
    def room(self) -> int:
        """How deep a draft is of use: one token less than may still be generated, as every pass adds one of its own."""
        return self.limit - self.position - 1


@dataclass(frozen=True, slots=True)
class BeamLayer:
    """One drafted step of a group of beams; the nodes that it adds are in the drafts of the group's rows."""

    parents: tuple[Hypothesis, ...]
    """The beams that the step starts from, the first layer's being the group's own."""
    picks: tuple[Pick, ...]
    """What was drafted, in the order it was drawn."""
    law: dict[tuple[int, ...], NDArray[np.float64]] | None = None
    """The law that the picks were drawn from, as :func:`treeagent.backends.local.beam_search.law_of` has it; None says
    that they were chosen, which only coupled verification can use."""


@dataclass(slots=True, eq=False)
class BeamGroup:
    """The beams of one completion, which are drafted for together. Their drafts count whole: no part may be cut."""

    run: BeamSearch
    rows: list[SequenceState] = field(default_factory=list)
    """One for every distinct live beam."""
    layers: list[BeamLayer] = field(default_factory=list)
    """What has been drafted and not verified yet."""


@dataclass(slots=True)
class Draft:
    """A tree of proposed tokens after a row's last token; parents stand before their children.

    ``law`` matters to rejection sampling alone: per node the distribution (V,) that the first of its siblings was drawn
    from; None says that the choice was deterministic (a point mass). Siblings stand in the order they were drawn.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """Index of each node's parent, -1 for a child of the row's last token."""
    confidence: list[float] = field(default_factory=list)
    """For each node the claimed probability that it is accepted once its parent is; the engine calibrates it."""
    law: list[NDArray[np.float64]] | None = None
    distinct: bool = True
    """Whether siblings differ: the law of a later one is the first's without the earlier ones."""
    by: str = ""
    """What kind of drafter made it; what claims were worth is learnt for each kind apart."""

    def __len__(self) -> int:
        return len(self.tokens)

    def keep(self, nodes: Sequence[int]) -> Draft:
        """The part made of the given nodes (ascending, closed under parents)."""
        place = {-1: -1} | {node: i for i, node in enumerate(nodes)}
        return Draft(
            [self.tokens[node] for node in nodes],
            [place[self.parents[node]] for node in nodes],
            [self.confidence[node] for node in nodes],
            None if self.law is None else [self.law[node] for node in nodes],
            self.distinct,
            self.by,
        )
