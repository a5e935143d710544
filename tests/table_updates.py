"""Tables that keep the target's own logits, empty or after a text, and what the target said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from draft_trees import Trees
from seed_tools import MIX, Naive

from treeagent.backends.seed.drafters.base import VerifiedDraft
from treeagent.backends.seed.drafters.tables.base import TableDrafter
from treeagent.backends.seed.drafters.tables.stand import StandDrafter
from treeagent.backends.seed.drafters.tables.token_recycling import RecyclingDrafter
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.request import Sampling

DRAFTERS = (RecyclingDrafter, StandDrafter)
Law = dict[int, float]


def row(tokens: Sequence[int], temperature: float = 0.0, stream: int = 0, limit: int = 100_000) -> SequenceState:
    """A branch that has generated nothing yet."""
    return SequenceState(list(tokens), len(tokens), Sampling(temperature=temperature), stream, limit)


def said(
    branch: SequenceState, laws: Sequence[Law], draft: Draft | None = None, tokens: Sequence[int] = ()
) -> VerifiedDraft:
    """A pass in which the target said these laws after the last token and after each drafted one."""
    ranked = [sorted(law, key=lambda token: -law[token]) for law in laws]
    chances = [[law[token] for token in order] for law, order in zip(laws, ranked, strict=True)]
    return VerifiedDraft(
        branch, draft or Draft(), tuple(tokens or (ranked[0][0],)), np.array(ranked), np.array(chances)
    )


def candidates(drafter: TableDrafter, tokens: Sequence[int], temperature: float = 0.0) -> Law:
    """What a table holds after a text."""
    known = drafter.look_up("".join(map(chr, tokens[-drafter.order :])), temperature)
    return dict(zip(known.tokens, known.chances, strict=True))


@pytest.fixture(params=DRAFTERS, ids=[made.name for made in DRAFTERS])
def drafter(request: pytest.FixtureRequest) -> TableDrafter:
    """An empty table."""
    made: TableDrafter = request.param(coupled=True)
    return made


def play(drafter: TableDrafter, branch: SequenceState, tokens: Sequence[int]) -> None:
    """Tokens are committed one a pass, the target being in two minds about each."""
    for token in tokens:
        drafter.learn([said(branch, [{token: 0.6, (token + 1) % 5: 0.3}], tokens=[token])])
        branch.tokens.append(token)


class Listening(Trees):
    """Random trees, and what it receives of their passes."""

    top_k_wanted = 3

    def __init__(self, naive: Naive) -> None:
        super().__init__(naive.truth(MIX), hit=0.8)
        self.heard: list[tuple[int, VerifiedDraft]] = []

    def learn(self, told: Sequence[VerifiedDraft]) -> None:
        """Note it with the position."""
        self.heard += [(verified.row.position, verified) for verified in told]
