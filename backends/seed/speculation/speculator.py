"""Decides what is drafted in a round: the drafter proposes, measured times and recent acceptance select."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..draft_arrays import DraftArrays
from ..drafters.base import Drafter, RoundLoad
from ..executor.logits import Logits
from ..executor.pass_cost import PassCost
from ..records import MODEL, NO_DRAFT, BeamGroup, Draft, SequenceState
from ..verifiers.base import DraftCheck, Verification
from .calibration import AcceptanceEstimator
from .compiled_selection import select_compiled
from .draft_pace import DraftPace
from .draft_usage import UNUSED, DraftUsage
from .gate import Gate
from .goodput import floor, select, values
from .observed_tokens import ObservedTokens
from .row_worth import row_worths
from .verified_drafts import verified_drafts

DEPTH = 16
"""Levels of the deepest draft."""
MOST_LOST = 0.05
"""Rounds' time that a round with a draft model loses at most in the gate's eyes: it reads new prompts in some."""
PROVEN = 1.0
"""Accepted tokens after which the gate believes what drafts are expected to gain."""


class Speculator:
    """A drafter and the statistics of its acceptance.

    Its methods take sequences as records and return drafts; the caller stores them.
    """

    def __init__(self, cost: PassCost, draft_tokens: int | None = None) -> None:
        self.cost = cost
        """Seconds of the target's passes."""
        self.draft_tokens = draft_tokens
        """Nodes of every draft; None: by expected tokens per second."""
        self.drafter: Drafter | None = None
        self.gate = Gate()
        self._estimators: defaultdict[str, AcceptanceEstimator] = defaultdict(AcceptanceEstimator)
        self._observed = ObservedTokens()
        self._active = False
        """Whether the drafter was called in the last round that had single sequences."""
        self._learning = 0.0
        """Seconds that the drafter took to learn from the last pass."""
        self._pace = DraftPace()

    def start(self, drafter: Drafter | None) -> None:
        """Continue with another drafter, without statistics. No sequence may be live."""
        self.drafter, self.gate = drafter, Gate()
        self._estimators.clear()
        self._observed = ObservedTokens()
        self._active, self._learning, self._pace = False, 0.0, DraftPace()

    def estimator(self, by: str) -> AcceptanceEstimator:
        """The acceptance of drafts of one kind, see :attr:`Draft.by`."""
        return self._estimators[by]

    def usage(self) -> DraftUsage:
        """The draft model's work so far."""
        drafter = self.drafter
        if drafter is None or not drafter.passes:
            return UNUSED
        return DraftUsage(drafter.seconds, drafter.passes, tuple(drafter.exit_counts))

    def draft(
        self, targets: Sequence[Sequence[SequenceState]], room: int, *, together: bool = True
    ) -> list[list[Draft]]:
        """For each target the drafts of its sequences that are worth verifying.

        Empty without a drafter, and where none can pay and there are neither beams nor constraints.

        A target is one sequence, or all the sequences of a group of beams, whose drafts are given whole or not at all.
        ``room`` slots are free for drafts: all drafts together take no more. Of it the most that random draws can take
        is set aside before they are drawn, so that none is ever cut or dropped because of what it turned out to be.
        ``together``: all drafts are verified in one pass, otherwise one target a pass. Prompt tokens of the same pass
        are left out of its predicted time: they are computed anyway, and would make drafts look cheap.
        """
        if self.drafter is None:
            return []
        if self.gate.paused and self._rests(targets):
            return []
        single = [i for i, rows in enumerate(targets) if rows[0].group is None]
        alone = [targets[i][0] for i in single]
        groups, room = self._groups_that_fit(self.drafter, targets, room)
        verified = len(single) if together else 1
        plan = self._plan(self.drafter, len(single), verified, room)
        if single:  # where all are queued for verification, the last decision holds
            self._active = plan is not None
        if plan is None:
            single, alone = [], []
            if not groups and not any(rows[0].group or rows[0].mask for rows in targets):
                return []
        drafts = [[NO_DRAFT] * len(rows) for rows in targets]
        if not single and not groups:
            return drafts
        floor, depth = plan or (0.0, 0)
        began = time.perf_counter()
        self._observed.show(self.drafter, alone)
        rows = [*alone, *(row for i in groups for row in targets[i])] if groups else alone
        proposals = self._propose(self.drafter, rows, floor, depth)
        if groups:
            proposed = iter(proposals)
            proposals = [next(proposed) for _ in single]
            for i in groups:
                drafts[i] = [next(proposed) for _ in targets[i]]
                drafts[i][0].keep_room(self.drafter.beam_nodes(_group(targets[i])))
        if single:  # of the time only the share of the single sequences tells whether drafting for them pays
            seconds = (time.perf_counter() - began) * len(single) / len(rows)
            if not isinstance(proposals, DraftArrays):
                for draft in proposals:
                    if draft.law is not None:
                        draft.keep_room(self._nodes_drawn(self.drafter, depth))
            empty = isinstance(proposals, DraftArrays) and not proposals.tokens
            worths = row_worths(alone, self.cost) if together and not empty else [1.0] * len(alone)
            chosen = self._select(proposals, worths, verified, room, seconds, together=together)
            for i, draft in zip(single, chosen, strict=True):
                drafts[i] = [draft]
        return drafts

    def _propose(self, drafter: Drafter, rows: Sequence[SequenceState], floor: float, depth: int) -> Sequence[Draft]:
        began, passes = time.perf_counter(), drafter.seconds
        drafts = drafter.propose(rows, floor, depth)
        own = time.perf_counter() - began - (drafter.seconds - passes)
        nodes = len(drafts.tokens) if isinstance(drafts, DraftArrays) else sum(map(len, drafts))
        self._pace.record_proposal(own, nodes)
        return drafts

    def _rests(self, targets: Sequence[Sequence[SequenceState]]) -> bool:
        """Whether the gate, which has paused, still does, and nothing else than drafts of a drafter is wanted."""
        if self.draft_tokens is not None or any(rows[0].group or rows[0].mask for rows in targets):
            return False
        if targets:
            self._active = self.gate.open()
        return self.gate.paused

    def _groups_that_fit(
        self, drafter: Drafter, targets: Sequence[Sequence[SequenceState]], room: int
    ) -> tuple[list[int], int]:
        """Indices of the groups of beams that there is room to draft for, and the room that is left."""
        groups = []
        for i, rows in enumerate(targets):
            if rows[0].group is not None and 0 < (nodes := drafter.beam_nodes(_group(rows))) <= room:
                groups.append(i)
                room -= nodes
        return groups, room

    def _plan(self, drafter: Drafter, count: int, verified: int, room: int) -> tuple[float, int] | None:
        """Least value of a node, and levels, of the drafts of ``count`` single sequences; None: no drafts."""
        most = self.draft_tokens
        depth = DEPTH if most is None else min(DEPTH, most)
        while depth and count * self._nodes_drawn(drafter, depth) > room:
            depth -= 1  # a drawn draft that turned out too large must not be dropped
        if not count or not depth or room < 1:
            return None
        if most is not None:
            return 0.0, depth
        if not self.gate.open():
            return None
        least = floor(self.cost, verified, room, self._pace.node_seconds, self._pace.speedup)
        return (least, depth) if least < 1 else None

    def _nodes_drawn(self, drafter: Drafter, depth: int) -> int:
        """The most nodes of a draft of ``depth`` levels that must be verified, as they are random draws."""
        drawn = drafter.nodes_drawn(depth)
        return drawn if self.draft_tokens is None else min(drawn, self.draft_tokens)

    def _select(
        self,
        drafts: Sequence[Draft],
        worths: Sequence[float],
        verified: int,
        room: int,
        seconds: float,
        *,
        together: bool,
    ) -> list[Draft]:
        """The parts of the drafts, of rows of these ``worths``, to be verified; drafting took so many ``seconds``.

        What was drawn must not be chosen by what it is: all of it is verified, and the other drafts share the room
        that is certain to be left.
        """
        drawn = [] if isinstance(drafts, DraftArrays) else [draft for draft in drafts if draft.law is not None]
        left = room - sum(draft.bound for draft in drawn)
        if self.draft_tokens is not None:
            final = []
            for draft in drafts:
                most = self.draft_tokens if draft.law is not None else min(self.draft_tokens, max(0, left))
                final.append(self._cut(draft, most))
                if together and draft.law is None:
                    left -= len(final[-1])
            return final
        began = time.perf_counter()
        gain = sum(sum(self._values(draft)) for draft in drawn)
        spent = min(seconds, self.cost(verified))  # in some rounds a drafter reads prompts
        load = RoundLoad(len(drawn), len(drawn) + gain, sum(map(len, drawn)), spent)
        free = drafts
        if drawn:
            worths = [worth for draft, worth in zip(drafts, worths, strict=True) if draft.law is None]
            free = [draft for draft in drafts if draft.law is None]
        final, worth = self._choose(free, worths, load, left, together=together)
        if drawn:
            chosen = iter(final)
            final = [next(chosen) if draft.law is None else draft for draft in drafts]
        self._update_gate(final, gain + worth, verified, seconds + time.perf_counter() - began)
        return final

    def _choose(
        self, drafts: Sequence[Draft], worths: Sequence[float], load: RoundLoad, room: int, *, together: bool
    ) -> tuple[list[Draft], float]:
        """The parts of chosen drafts that pay in a pass with a ``load`` beside them, and the tokens they promise."""
        if isinstance(drafts, DraftArrays) and not drafts.tokens:
            return [NO_DRAFT] * len(drafts), 0.0
        kinds = {""} if isinstance(drafts, DraftArrays) else {draft.by for draft in drafts}
        if together and len(kinds) == 1:
            estimator = self.estimator(*kinds)
            if MODEL not in kinds:  # its passes are what takes the time, whatever is verified of its drafts
                room = min(room, estimator.most_nodes(len(drafts)))
            selected = select_compiled(drafts, worths, estimator, self.cost, room, load)
            if selected is not None:
                return selected
        node_values = [self._values(*pair) for pair in zip(drafts, worths, strict=True)]
        if together:
            chosen = select(drafts, node_values, self.cost, room, load)
        else:
            pairs = zip(drafts, node_values, strict=True)
            chosen = [select([draft], [own], self.cost, room)[0] for draft, own in pairs]
        return chosen, sum(sum(self._values(*pair)) for pair in zip(chosen, worths, strict=True))

    def learn(self, checks: Sequence[DraftCheck], verifications: Sequence[Verification | None], logits: Logits) -> None:
        """Show the drafter the target's likeliest tokens of a pass, if it needs them and was called."""
        if self.drafter is None or not self.drafter.top_k_wanted or not self._active or not checks:
            return
        began = time.perf_counter()
        self.drafter.learn(verified_drafts(checks, verifications, logits, self.drafter.top_k_wanted))
        self._learning = time.perf_counter() - began

    def record_outcomes(self, outcomes: Mapping[str, Sequence[tuple[float, bool]]]) -> None:
        """Update the acceptance estimates after a round: (confidence, accepted) by kind of draft."""
        for by in outcomes.keys() | self._estimators.keys():
            self.estimator(by).learn(outcomes.get(by, ()))

    def observe_committed(self, row: SequenceState) -> None:
        """Show the drafter the tokens of a single sequence that were committed since the last call."""
        if self.drafter is not None:
            self._observed.show(self.drafter, [row])

    def forget(self, rows: Sequence[SequenceState]) -> None:
        """Sequences have ended or were preempted; unless drafting is off, the drafter observes their last tokens."""
        if self.drafter is None:
            return
        for row in rows:
            if row.group is None and not self.gate.paused:
                self.observe_committed(row)
            self._observed.forget(row)
            self.drafter.forget(row)

    def _values(self, draft: Draft, worth: float = 1.0) -> list[float]:
        return values(draft, self.estimator(draft.by).probabilities, worth)

    def _cut(self, draft: Draft, most: int) -> Draft:
        """The best ``most`` nodes; of a drawn draft the first, which are chosen whatever they turned out to be."""
        if draft.law is not None or len(draft) <= most:
            return draft.keep(range(min(len(draft), most)))
        node_values = self._values(draft)
        best = sorted(range(len(draft)), key=lambda node: -node_values[node])[:most]  # of equals parents stand first
        return draft.keep(sorted(best))

    def _update_gate(self, chosen: Sequence[Draft], gain: float, verified: int, seconds: float) -> None:
        """Compare the round's expected tokens per second, drafting included, with those of a round without drafts.

        All the drafts are expected to ``gain`` so many tokens; only ``verified`` of them are in the next pass.
        Learning from it is taken to last as long as last time. Expectations count as far as drafts have been accepted.
        """
        part = verified / len(chosen)
        gain *= min(1.0, sum(estimator.accepted for estimator in self._estimators.values()) / PROVEN)
        total = self.cost(verified, sum(map(len, chosen)) * part) + seconds * part + self._learning
        plain = self.cost(verified)
        if self.drafter is not None and self.drafter.passes:
            total = min(total, plain * (1 + gain * part / verified + MOST_LOST))
        self._pace.record_speedup((verified + gain * part) / total * plain / verified)
        self.gate.learn(verified + gain * part, total, verified, plain, self._observed.reading * part)


def _group(rows: Sequence[SequenceState]) -> BeamGroup:
    """The group of a target's sequences."""
    group = rows[0].group
    assert group is not None  # noqa: S101  # the caller's condition
    return group
