"""Hybrid of a table and a draft model: drafts of the table are free, the model drafts where the table has none."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import BeamGroup, Draft, SequenceState
from .base import Drafter, RoundLoad, VerifiedDraft
from .model.drafter import ModelDrafter


class HybridDrafter(Drafter):
    """``table`` drafts first; rows for which it expects less than one accepted token go to ``model``."""

    def __init__(self, table: Drafter, model: ModelDrafter) -> None:
        self.table = table
        self.model = model
        self.name = f"{table.name}+{model.name}"

    @property
    def seconds(self) -> float:  # type: ignore[override]  # the model's
        """Seconds spent in passes."""
        return self.model.seconds

    @property
    def passes(self) -> int:  # type: ignore[override]  # the model's
        """Number of passes."""
        return self.model.passes

    @property
    def exit_counts(self) -> Sequence[int]:  # type: ignore[override]  # the model's
        """See :attr:`Drafter.exit_counts`."""
        return self.model.exit_counts

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`; groups of beams are the model's."""
        single = [i for i, row in enumerate(rows) if row.group is None]
        drafts = [Draft() for _ in rows]
        for i, draft in zip(single, self.table.propose([rows[i] for i in single], floor, depth), strict=True):
            drafts[i] = draft
        expected = [_expected(draft) for draft in drafts]
        poor = [i for i, tokens in enumerate(expected) if tokens < 1]
        if poor:
            good = [i for i, tokens in enumerate(expected) if tokens >= 1]
            tokens, nodes = sum(1 + expected[i] for i in good), sum(len(drafts[i]) for i in good)
            load = RoundLoad(len(good), tokens, nodes)
            for i, draft in zip(poor, self.model.propose([rows[i] for i in poor], floor, depth, load), strict=True):
                # A drawn draft must not be selected by its tokens: the confidence of later ones depends on the first.
                drawn = draft.law is not None or rows[i].group is not None
                better = len(draft) > 0 if drawn else _expected(draft) > expected[i]
                if better:
                    drafts[i] = draft
        return drafts

    def beam_nodes(self, group: BeamGroup) -> int:
        """That of the model."""
        return self.model.beam_nodes(group)

    def nodes_drawn(self, depth: int) -> int:
        """That of the model; a table draws nothing."""
        return self.model.nodes_drawn(depth)

    @property
    def top_k_wanted(self) -> int:  # type: ignore[override]  # the table's
        """That of the table; a model has its own logits."""
        return self.table.top_k_wanted

    def learn(self, verified: Sequence[VerifiedDraft]) -> None:
        """Update the table with all drafts, including those of the model."""
        self.table.learn(verified)

    def warm(self, tokens: Sequence[int]) -> bool:
        """See :class:`Drafter`; the table learns."""
        return self.table.warm(tokens)

    def observe(self, row: SequenceState, start: int) -> None:
        """Pass committed tokens to both."""
        self.table.observe(row, start)
        self.model.observe(row, start)

    def forget(self, row: SequenceState) -> None:
        """Both forget."""
        self.table.forget(row)
        self.model.forget(row)

    def close(self) -> None:
        """Both close."""
        self.table.close()
        self.model.close()


def _expected(draft: Draft) -> float:
    """Accepted tokens that the draft promises."""
    reached: list[float] = []
    for parent, confidence in zip(draft.parents, draft.confidence, strict=True):
        reached.append(confidence * (1.0 if parent < 0 else reached[parent]))
    return sum(reached)
