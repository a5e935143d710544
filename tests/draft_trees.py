"""Random draft trees around the tokens that are right, for drafts of any quality."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from seed_tools import tokenizer_size

from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.records import Draft, SequenceState


class Trees(Drafter):
    """Random trees around the truth: each level has the right token with probability ``hit``, and wrong siblings.

    ``over`` levels more than a row has room for, so that texts end inside drafts.
    """

    name = "trees"

    def __init__(self, truth: Mapping[int, Sequence[int]], *, hit: float, over: int = 0, seed: int = 0) -> None:
        self.truth, self.hit, self.over = truth, hit, over
        self.random = random.Random(seed)

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`; the floor is ignored."""
        return [self._draft(row, min(depth, max(0, row.room) + self.over)) for row in rows]

    def _draft(self, row: SequenceState, depth: int) -> Draft:
        draft, right = Draft(), list(self.truth[row.stream][row.position :])
        parent: int | None = -1
        for level in range(self.random.randint(0, depth)):
            true = right[level] if parent is not None and level < len(right) else None
            tokens = set(self.random.sample(range(tokenizer_size()), self.random.randint(1, 3))) - {true}
            order = self.random.sample(sorted(tokens), len(tokens))
            if true is not None and self.random.random() < self.hit:
                order.insert(self.random.randint(0, len(order)), true)
            above = parent if parent is not None else len(draft) - 1  # off the truth, anywhere will do
            children = range(len(draft), len(draft) + len(order))
            for token in order:
                draft.tokens.append(token)
                draft.parents.append(above)
                draft.confidence.append(self.random.random())
            parent = children[order.index(true)] if true in order else None
            if not order:
                break
        return draft
