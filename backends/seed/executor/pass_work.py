"""What a pass of a model computes, in the counts that its time follows from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATES = ("spans", "wanted", "keys", "pairs", "shared", "groups")
"""The counts that take time at a rate; ``keys`` are private and common ones."""


@dataclass(frozen=True, slots=True)
class PassWork:
    """Counts of one pass; a key stands for a key and its value, in every layer."""

    tokens: float = 0
    """New tokens."""
    spans: float = 0
    """Segments of new tokens, one for each row."""
    wanted: float = 0
    """Tokens whose logits are wanted."""
    private: float = 0
    """Keys that are read for one span each, the new ones included."""
    common: float = 0
    """Keys of shared prefixes, which are read once for all their spans."""
    pairs: float = 0
    """Private keys times the tokens that attend to them."""
    shared: float = 0
    """Keys of shared prefixes times the tokens that attend to them."""
    groups: float = 0
    """Shared prefixes that are attended to once for all their spans."""

    @classmethod
    def of(cls, groups: Iterable[tuple[int, Sequence[tuple[int, int, int]]]]) -> PassWork:
        """The sum over groups: (length of the shared prefix, or 0; context, new and wanted tokens of each span)."""
        tokens = spans = wanted = private = common = pairs = shared = prefixes = 0
        for depth, members in groups:
            together = 0
            for context, new, logits in members:
                private += context - depth + new
                pairs += (context - depth + new) * new
                together += new
                wanted += logits
            spans += len(members)
            tokens += together
            if depth:
                common += depth
                shared += depth * together
                prefixes += 1
        return cls(tokens, spans, wanted, private, common, pairs, shared, prefixes)

    @property
    def counts(self) -> tuple[float, ...]:
        """All but the tokens, as :data:`RATES` names them."""
        return self.spans, self.wanted, self.private + self.common, self.pairs, self.shared, self.groups

    def counts_of(self, rows: float, nodes: float) -> tuple[float, ...]:
        """:attr:`counts` of a pass of ``rows`` rows, one new token each, and ``nodes`` drafted nodes.

        The contexts are like these: on average every row reads, and every token attends to, as many keys as here.
        """
        spans, tokens = max(self.spans, 1), max(self.tokens, 1)
        own = max(self.private - (self.tokens - self.spans), spans) / spans
        everything = rows + nodes
        return (
            rows,
            everything,
            own * rows + nodes + self.common,
            own * everything + nodes,
            self.shared / tokens * everything,
            self.groups,
        )
