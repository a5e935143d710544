"""What every branch gets drafted in a round: the drafter proposes, measured times and late outcomes decide."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .budget import Calibration, CostTable, Gate, floor, select, values
from .drafters import Draft, Drafter, Row
from .jobs import Growing

DEPTH = 16
"""Levels of the deepest draft."""


class Drafting:
    """A drafter and what is known of its worth."""

    def __init__(self, cost: CostTable, draft_tokens: int | None = None) -> None:
        self.cost = cost
        """Seconds of the target's passes."""
        self.draft_tokens = draft_tokens
        """Nodes of every draft; None weighs expected tokens against measured times."""
        self.drafter: Drafter | None = None
        self.calibration = Calibration()
        self.gate = Gate()

    def start(self, drafter: Drafter | None) -> None:
        """Go on with a drafter of which nothing is known."""
        self.drafter, self.calibration, self.gate = drafter, Calibration(), Gate()

    @property
    def spent(self) -> tuple[float, int]:
        """Seconds and passes of the draft model so far."""
        return (0.0, 0) if self.drafter is None else (self.drafter.seconds, self.drafter.passes)

    def draft(self, jobs: Sequence[Growing], verified: int, room: int, *, together: bool = True) -> None:
        """Give each branch the draft that is worth verifying in a pass of ``verified`` branches.

        ``room`` slots are free for drafts; ``together`` says that all drafts are verified in one pass, rather than each
        alone. Prompts that the pass reads as well are paid for anyway; counting their time would make drafts look
        cheap.
        """
        for job in jobs:
            job.draft = Draft()
        if self.drafter is None or not jobs:
            return
        drafter, rows, most = self.drafter, [job.row for job in jobs], self.draft_tokens
        depth = DEPTH if most is None else min(DEPTH, most)
        while depth and len(rows) * drafter.drawn(depth) > room:
            depth -= 1  # a drawn draft that turned out too large must not be dropped
        if not depth or room < 1:
            return
        if most is not None:
            self.watch(jobs)
            for job, draft in zip(jobs, drafter.propose(rows, 0.0, depth), strict=True):
                job.draft = self._cut(draft, most)
            return
        least = floor(self.cost, verified, room)
        if not least < 1 or not self.gate.open():
            return
        began = time.perf_counter()
        self.watch(jobs)
        drafts = drafter.propose(rows, least, depth)
        worths = [values(draft, self.calibration.worth) for draft in drafts]
        if together:
            chosen = select(drafts, worths, self.cost, room)
        else:
            chosen = [select([draft], [worth], self.cost, room)[0] for draft, worth in zip(drafts, worths, strict=True)]
        # What was drawn must not be chosen by what it is.
        final = [draft if draft.law is not None else kept for draft, kept in zip(drafts, chosen, strict=True)]
        self._judge(final, verified, time.perf_counter() - began)
        for job, draft in zip(jobs, final, strict=True):
            job.draft = draft

    def forget_rows(self, rows: Sequence[Row]) -> None:
        """Beams that are no more."""
        if self.drafter is not None:
            for row in rows:
                self.drafter.forget(row)

    def watch(self, jobs: Sequence[Growing]) -> None:
        """Show the drafter what was committed since it looked last."""
        for job in jobs:
            if self.drafter is not None and job.watched < len(job.row.tokens):
                self.drafter.observe(job.row, job.watched)
                job.watched = len(job.row.tokens)

    def forget(self, job: Growing) -> None:
        """A branch leaves; what it wrote may be of use to others, unless drafting rests."""
        job.draft = None
        if self.drafter is not None:
            if self.gate.resting == 0:
                self.watch([job])
            self.drafter.forget(job.row)
            job.watched = 0

    def _cut(self, draft: Draft, most: int) -> Draft:
        """The best ``most`` nodes; of a drawn draft the first, which are chosen whatever they turned out to be."""
        if draft.law is not None or len(draft) <= most:
            return draft.keep(range(min(len(draft), most)))
        worth = values(draft, self.calibration.worth)
        best = sorted(range(len(draft)), key=lambda node: -worth[node])[:most]  # of equals parents stand first
        return draft.keep(sorted(best))

    def _judge(self, chosen: Sequence[Draft], verified: int, took: float) -> None:
        """Tell the gate what the round promises, the drafter's time included; only a part of what was drafted may be
        verified in the next pass.
        """
        part = verified / len(chosen)
        gain = sum(sum(values(draft, self.calibration.worth)) for draft in chosen)
        seconds = self.cost(verified, sum(map(len, chosen)) * part) + took * part
        self.gate.learn(verified + gain * part, seconds, verified, self.cost(verified))
