"""A table and a model together: the table's guesses are free, the model is asked where the table has none."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import BeamGroup, Draft, SequenceState
from .base import Drafter, RoundLoad, VerifiedDraft


class HybridDrafter(Drafter):
    """``table`` drafts first; rows for which it expects less than one accepted token go to ``model``."""

    def __init__(self, table: Drafter, model: Drafter) -> None:
        self.table = table
        self.model = model
        self.name = f"{table.name}+{model.name}"

    @property
    def seconds(self) -> float:  # type: ignore[override]  # the model's
        """Time spent in passes so far."""
        return self.model.seconds

    @property
    def passes(self) -> int:  # type: ignore[override]  # the model's
        """Passes so far."""
        return self.model.passes

    @property
    def left(self) -> Sequence[int]:  # type: ignore[override]  # the model's
        """By exit."""
        return self.model.left

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
            self.model.others = RoundLoad(len(good), tokens, nodes)
            for i, draft in zip(poor, self.model.propose([rows[i] for i in poor], floor, depth), strict=True):
                # What was drawn must not be chosen by what it is: its later claims depend on its first tokens.
                drawn = draft.law is not None or rows[i].group is not None
                better = len(draft) > 0 if drawn else _expected(draft) > expected[i]
                if better:
                    drafts[i] = draft
        return drafts

    def beam_nodes(self, group: BeamGroup) -> int:
        """Of the model."""
        return self.model.beam_nodes(group)

    def nodes_drawn(self, depth: int) -> int:
        """Of the model, as a table draws nothing."""
        return self.model.nodes_drawn(depth)

    @property
    def wants(self) -> int:  # type: ignore[override]  # the table's
        """Of the table, as a model has logits of its own."""
        return self.table.wants

    def learn(self, told: Sequence[VerifiedDraft]) -> None:
        """The table's, whoever drafted."""
        self.table.learn(told)

    def observe(self, row: SequenceState, start: int) -> None:
        """Both see what was committed."""
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
