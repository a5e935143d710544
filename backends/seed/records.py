"""Records that scheduler, speculator, drafters and verifiers exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from treeagent.request import Sampling

from ..local.beam_search import BeamSearch, Hypothesis, Pick
from ..local.token_masks import TokenMask
from .kv_cache.page_table import PageTable

MODEL, BEAMS = "model", "beams"
"""Kinds of drafts, see :attr:`Draft.by`: a draft model's for single sequences and for groups of beams; drafts of tables
have none."""


@dataclass(slots=True, eq=False)
class SequenceState:
    """One live sequence as drafters and verifiers see it; only its job changes it."""

    tokens: list[int]
    """Prompt and committed tokens so far; grows in place. The target computes the last one in the next pass."""
    prompt: int
    """Number of prompt tokens."""
    sampling: Sampling
    stream: int
    """Key of its noise; the noise of the next token has the position :attr:`position`."""
    limit: int
    """The most tokens it may generate."""
    group: BeamGroup | None = None
    """The group, where the sequence is one of several beams."""
    mask: TokenMask | None = None
    """What may come next, where the text has a constraint."""
    pages: PageTable | None = None
    """The slots of its tokens in the target's cache, for drafters that read there; None while it has none."""
    passes: int = 0
    """Passes that have added tokens to it."""

    @property
    def position(self) -> int:
        """Index of the next token among the generated ones."""
        return len(self.tokens) - self.prompt

    def hold(self, pages: PageTable | None) -> None:
        """Take or give up slots in the target's cache."""
        self.pages = pages

    def append(self, tokens: Sequence[int], passes: int = 1) -> None:
        """Commit the tokens of so many passes."""
        self.tokens += tokens
        self.passes += passes
        if self.mask is not None:
            for token in tokens:
                self.mask.take(token)

    def set_generated(self, tokens: Sequence[int]) -> None:
        """Replace all generated tokens."""
        self.tokens[self.prompt :] = tokens

    @property
    def room(self) -> int:
        """Levels of the deepest useful draft: every pass adds one token of the target's own."""
        return self.limit - self.position - 1


@dataclass(frozen=True, slots=True)
class BeamLayer:
    """One drafted step of a group of beams; its nodes are in the drafts of the group's sequences."""

    parents: tuple[Hypothesis, ...]
    """The beams that the step starts from, the first layer's being the group's own."""
    picks: tuple[Pick, ...]
    """The drafted extensions, in the order they were drawn."""
    law: dict[tuple[int, ...], NDArray[np.float64]] | None = None
    """The distribution that the picks were drawn from, see :func:`treeagent.backends.local.beam_search.law_of`: by a
    beam's ``raw`` the probabilities (V,) of its extensions. None: the picks were chosen, for coupled verification."""


@dataclass(slots=True, eq=False)
class BeamGroup:
    """The beams of one completion, which are drafted for together. No part of their drafts may be cut."""

    run: BeamSearch
    rows: list[SequenceState] = field(default_factory=list)
    """One sequence for every distinct live beam."""
    layers: list[BeamLayer] = field(default_factory=list)
    """The drafted steps that are not verified yet."""

    def add_layer(self, layer: BeamLayer) -> None:
        """Append a drafted step."""
        self.layers.append(layer)

    def clear_layers(self) -> None:
        """Drop the drafted steps."""
        self.layers = []


@dataclass(slots=True)
class Draft:
    """A tree of n proposed tokens after a sequence's last token; parents stand before their children.

    ``law`` is used by rejection sampling alone: for each node the distribution (V,) that the first of its siblings was
    drawn from; None: the choice was deterministic (a point mass). Siblings stand in the order they were drawn.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """Index of each node's parent, -1 for a child of the sequence's last token."""
    confidence: list[float] = field(default_factory=list)
    """For each node the drafter's probability that it is accepted once its parent is; corrected by the engine."""
    law: list[NDArray[np.float64]] | None = None
    distinct: bool = True
    """Whether siblings differ: each is drawn from the first's distribution without the earlier ones."""
    by: str = ""
    """The kind of drafter that made it; acceptance is estimated for each kind apart."""
    bound: int = 0
    """The most nodes that it, or the drafts of its group together, could have had when they were drawn; 0 for drafts
    that may be cut or dropped. So much memory is kept for it until it is verified."""
    forced: int = 0
    """How many of the first nodes, which are a chain, a constraint all but forces."""

    def __len__(self) -> int:
        return len(self.tokens)

    def keep_room(self, nodes: int) -> None:
        """Record the most nodes that it could have, see :attr:`bound`."""
        self.bound = nodes

    def keep(self, nodes: Sequence[int]) -> Draft:
        """The part made of the given nodes (ascending, closed under parents)."""
        count = len(nodes)
        if count and nodes[-1] < count and self.law is None:  # the first ones
            first = (self.tokens[:count], self.parents[:count], self.confidence[:count])
            return Draft(*first, None, self.distinct, self.by, self.bound)
        place = {-1: -1} | {node: i for i, node in enumerate(nodes)}
        return Draft(
            [self.tokens[node] for node in nodes],
            [place[self.parents[node]] for node in nodes],
            [self.confidence[node] for node in nodes],
            None if self.law is None else [self.law[node] for node in nodes],
            self.distinct,
            self.by,
            self.bound,
        )


NO_DRAFT = Draft()
"""Nothing is proposed; shared, and never changed."""
