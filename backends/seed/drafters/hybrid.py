"""A table and a draft model together: table drafts cost no pass, the model drafts where the table has no good draft."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import BeamGroup, Draft, SequenceState
from .base import EMPTY_LOAD, Drafter, RoundLoad, VerifiedDraft


class HybridDrafter(Drafter):
    """``table`` drafts first; ``model`` drafts for sequences whose table draft has an expected gain below one token."""

    def __init__(self, table: Drafter, model: Drafter) -> None:
        self.table = table
        self.model = model
        self.name = f"{table.name}+{model.name}"

    @property
    def seconds(self) -> float:  # type: ignore[override]  # the model's
        """See :class:`Drafter`; the model's."""
        return self.model.seconds

    @property
    def passes(self) -> int:  # type: ignore[override]  # the model's
        """See :class:`Drafter`; the model's."""
        return self.model.passes

    @property
    def exit_counts(self) -> Sequence[int]:  # type: ignore[override]  # the model's
        """See :class:`Drafter`; the model's."""
        return self.model.exit_counts

    def propose(
        self, rows: Sequence[SequenceState], floor: float, depth: int, load: RoundLoad = EMPTY_LOAD
    ) -> list[Draft]:
        """See :class:`Drafter`; groups of beams are the model's."""
        single = [i for i, row in enumerate(rows) if row.group is None]
        drafts = [Draft() for _ in rows]
        for i, draft in zip(single, self.table.propose([rows[i] for i in single], floor, depth, load), strict=True):
            drafts[i] = draft
        expected = [_expected_tokens(draft) for draft in drafts]
        poor = [i for i, tokens in enumerate(expected) if tokens < 1]
        if poor:
            good = [i for i, tokens in enumerate(expected) if tokens >= 1]
            model_load = RoundLoad(
                load.rows + len(good),
                load.tokens + sum(1 + expected[i] for i in good),
                load.nodes + sum(len(drafts[i]) for i in good),
            )
            proposals = self.model.propose([rows[i] for i in poor], floor, depth, model_load)
            for i, draft in zip(poor, proposals, strict=True):
                # A drawn draft must not be selected by its content: its later confidences depend on its first tokens.
                drawn = draft.law is not None or rows[i].group is not None
                better = len(draft) > 0 if drawn else _expected_tokens(draft) > expected[i]
                if better:
                    drafts[i] = draft
        return drafts

    def beam_nodes(self, group: BeamGroup) -> int:
        """See :class:`Drafter`; the model's."""
        return self.model.beam_nodes(group)

    def nodes_drawn(self, depth: int) -> int:
        """See :class:`Drafter`; the model's, as tables draw nothing at random."""
        return self.model.nodes_drawn(depth)

    @property
    def top_k_wanted(self) -> int:  # type: ignore[override]  # the table's
        """See :class:`Drafter`; the table's, as the model has logits of its own."""
        return self.table.top_k_wanted

    def learn(self, verified: Sequence[VerifiedDraft]) -> None:
        """See :class:`Drafter`; the table learns from all drafts, whichever drafter made them."""
        self.table.learn(verified)

    def observe(self, row: SequenceState, start: int) -> None:
        """See :class:`Drafter`; for both."""
        self.table.observe(row, start)
        self.model.observe(row, start)

    def forget(self, row: SequenceState) -> None:
        """See :class:`Drafter`; for both."""
        self.table.forget(row)
        self.model.forget(row)

    def close(self) -> None:
        """See :class:`Drafter`; for both."""
        self.table.close()
        self.model.close()


def _expected_tokens(draft: Draft) -> float:
    """Expected number of accepted tokens, by the draft's confidences."""
    reached: list[float] = []
    for parent, confidence in zip(draft.parents, draft.confidence, strict=True):
        reached.append(confidence * (1.0 if parent < 0 else reached[parent]))
    return sum(reached)
