"""What drafting has cost and gained in the last rounds, from which the least value of a further node follows."""

from __future__ import annotations

from dataclasses import dataclass

FADE = 0.1
"""Weight of a round in the recent means."""


@dataclass(slots=True)
class DraftPace:
    """Recent means."""

    node_seconds: float = 1e-5
    """Seconds that the drafter takes to propose a node, the passes of a draft model not counted; at first a table's."""
    speedup: float = 1.0
    """Expected tokens per second as a multiple of those without drafts, drafting included; 1 at least."""

    def record_proposal(self, seconds: float, nodes: int) -> None:
        """Nodes were proposed in so many seconds."""
        if nodes:
            self.node_seconds += FADE * (seconds / nodes - self.node_seconds)

    def record_speedup(self, ratio: float) -> None:
        """A round is expected to give so many times the tokens per second of one without drafts."""
        self.speedup += FADE * (max(ratio, 1.0) - self.speedup)
