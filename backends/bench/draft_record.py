"""Drafts at every place of a text, none of which is verified.

What a draft model or head drafts after each token follows from the text alone, and the text is that of plain decoding.
So the drafts of one run without any verification tell how many tokens every policy would have had accepted, see
:mod:`.draft_replay`. A table may have learnt less by the same place where other texts are further.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..seed.drafters.base import Drafter
from ..seed.records import NO_DRAFT, Draft, SequenceState


@dataclass(frozen=True, slots=True)
class RecordedText:
    """What could have been drafted for one text."""

    late: int
    """Rounds before the first draft for it."""
    right: list[int]
    """From there on, for every place: how many drafted tokens in a row are those of the text."""


class RecordingDrafter(Drafter):
    """Lets a drafter draft ``depth`` tokens for every sequence in every round, and proposes nothing of it."""

    name = "recording"

    def __init__(self, drafter: Drafter, depth: int, floor: float = 0.0) -> None:
        """``floor``: what is accepted more rarely by the drafter's own account is left out."""
        self._drafter, self._depth, self._floor = drafter, depth, floor
        self._drafts: dict[SequenceState, list[tuple[int, Draft]]] = {}
        self._proposed: list[tuple[float, float]] = []
        """Of each round when its drafts began, by ``time.monotonic``, and their seconds."""
        self._listened: list[float] = []
        """Of each round the seconds that a model's drafter took in the target's pass before it."""
        self._known = drafter.seconds

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        self._listened.append(self._drafter.seconds - self._known)
        began = time.monotonic()
        drafts = self._drafter.propose(rows, self._floor, self._depth)
        self._proposed.append((began, time.monotonic() - began))
        self._known = self._drafter.seconds
        for row, draft in zip(rows, drafts, strict=True):
            self._drafts.setdefault(row, []).append((len(row.tokens), draft))
        return [NO_DRAFT] * len(rows)

    def observe_all(self, fresh: Sequence[tuple[SequenceState, int]]) -> None:
        """See :class:`Drafter`."""
        self._drafter.observe_all(fresh)

    def forget(self, row: SequenceState) -> None:
        """See :class:`Drafter`."""
        self._drafter.forget(row)

    def texts(self) -> list[RecordedText]:
        """What was drafted, beside what came."""
        found = []
        for row, drafts in self._drafts.items():
            late = next((i for i, (_, draft) in enumerate(drafts) if draft.tokens), len(drafts))
            right = [_agreeing(likeliest_path(draft), row.tokens[place:]) for place, draft in drafts[late:]]
            found.append(RecordedText(late, right))
        return found

    def draft_seconds(self) -> float:
        """Median seconds of the drafts of a round."""
        return statistics.median(seconds for _, seconds in self._proposed)

    def draft_seconds_in(self, began: float, ended: float) -> float:
        """Seconds of the drafts between two times, by ``time.monotonic``."""
        return sum(seconds for at, seconds in self._proposed if began <= at < ended)

    def reading_seconds(self) -> float:
        """Seconds in which prompts were read: what some rounds took beyond twice the median."""
        usual = self.draft_seconds()
        return sum(max(0.0, seconds - 2 * usual) for _, seconds in self._proposed)

    def listening_seconds(self) -> float:
        """Median seconds that the drafter takes in a pass of the target."""
        return statistics.median(self._listened)


def likeliest_path(draft: Draft) -> list[int]:
    """The tokens of the chain that takes the most confident child at every level."""
    path: list[int] = []
    parent = -1
    while children := [node for node, above in enumerate(draft.parents) if above == parent]:
        parent = max(children, key=lambda node: draft.confidence[node])
        path.append(draft.tokens[parent])
    return path


def _agreeing(drafted: Sequence[int], came: Sequence[int]) -> int:
    """How many of the drafted tokens, from the first one on, came."""
    pairs = zip(drafted, came, strict=False)
    return next((i for i, (token, own) in enumerate(pairs) if token != own), min(len(drafted), len(came)))
