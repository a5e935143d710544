"""Rounds: admit, draft, verify, commit (scheduled speculative decoding, Wang et al., arXiv 2406.18200).

A round admits waiting requests, drafts for all live branches, verifies all of them in one target pass, commits what was
accepted and lets finished requests go; what they lead to enters the next round. Prompts are read in the same passes, at
most ``chunk`` tokens a round, so that long ones do not hold up the others. The paper verifies one branch after another;
its schedule (``fcfs``) and its baseline (``serial``: one branch at a time, from beginning to end) can be chosen to be
measured.

Everything here runs in the engine's thread. A request that nobody waits for any more leaves at the next round.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from treeagent.errors import BackendError

from ..executor.logits import Logits
from ..executor.model_runner import ModelRunner
from ..executor.prefill import PrefillChunk
from ..kv_cache.page_table import CHUNK, PageTable
from ..kv_cache.pool import Slots
from ..kv_cache.radix_tree import OutOfMemory
from ..records import BEAMS, Draft
from ..speculation.speculator import Speculator
from ..verifiers.base import DraftCheck, Verification, Verifier
from ..verifiers.beam_coupled import BeamVerifier, BeamWalk
from .beam_job import BeamJob
from .jobs import NOT_FINITE, DecodeJob, Job
from .metrics import DEPTHS, Counters
from .score_job import ScoreJob

HEADROOM = 128
"""Slots for drafts that old prefixes make way for: the nodes of the largest pass whose time is measured."""


class Scheduler:
    """The live branches of one target, and the rounds that grow them."""

    def __init__(
        self,
        runner: ModelRunner,
        drafting: Speculator,
        verifier: Verifier,
        *,
        beams: BeamVerifier,
        policy: str = "rounds",
        eos: frozenset[int] = frozenset(),
        max_rows: int = 256,
        chunk: int = 1024,
    ) -> None:
        self.runner = runner
        self.verifier = verifier
        self.beams = beams
        """The verifier of jobs with beams."""
        self.drafting = drafting
        self.policy = policy
        self.eos = eos
        self.max_rows = max_rows
        self.chunk = chunk
        self.counters = Counters()
        self.waiting: deque[Job] = deque()
        self.live: list[Job] = []
        """In order of admission."""
        self._full = False
        """Memory ran out: nobody joins until somebody leaves."""

    def submit(self, job: Job) -> None:
        """Queue a request; it fails at once when it could never fit."""
        if job.most > self.runner.forest.pool.limit:
            self._refuse(job)
        else:
            self.waiting.append(job)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.live or self.waiting)

    def round(self) -> None:
        """One round. An exception means that the requests in it are lost: see :meth:`fail`."""
        began = time.perf_counter()
        in_passes, (in_drafts, drafts, exits) = self.runner.seconds, self.drafting.spent
        self._drop()
        self._admit()
        if self.live:
            self._pass()
        counters = self.counters
        counters.seconds += time.perf_counter() - began
        counters.target_seconds += self.runner.seconds - in_passes
        seconds, passes, left = self.drafting.spent
        counters.draft_seconds += seconds - in_drafts
        counters.draft_passes += passes - drafts
        for place, (now, then) in enumerate(zip(left, exits, strict=True)):
            counters.draft_exits[min(place, DEPTHS - 1)] += now - then

    def fail(self, error: BaseException, *, everything: bool = False) -> None:
        """Give up all live requests with the cause, and with ``everything`` the waiting ones too."""
        jobs, self.live = self.live, []
        if everything:
            jobs += self.waiting
            self.waiting.clear()
        for job in jobs:  # first of all, as what broke may break again
            job.failed(error)
        self.runner.forest = self.runner.new_forest()  # wherever it happened, no slot is lost
        self._full = False
        for job in jobs:
            self._release(job, keep=False)

    def _refuse(self, job: Job) -> None:
        limit, slot = self.runner.forest.pool.limit, self.runner.forest.pool.slot_bytes
        job.failed(
            BackendError(
                f"kv_memory is too small: one request needs the keys and values of {job.most} tokens "
                f"({_mebibytes(job.most * slot)}), the limit is {limit} tokens ({_mebibytes(self.runner.memory)}). "
                "Raise kv_memory, or ask for fewer tokens."
            )
        )

    def _drop(self) -> None:
        """Let go what nobody waits for."""
        gone = [job for job in self.live if not job.open]
        for job in gone:
            self._let_go(job, keep=False)
        if any(not job.open for job in self.waiting):
            self.waiting = deque(job for job in self.waiting if job.open)

    def _admit(self) -> None:
        """First come, first served, as far as rows and memory go."""
        most = 1 if self.policy == "serial" else self.max_rows
        while self.waiting and self._has_room(most):
            job = self.waiting.popleft()
            self.live.append(job)  # from here on it fails with the round, or it would fail the next one too
            try:
                for tokens in job.prompts():
                    job.branches.append(PageTable(self.runner.forest, tokens))
            except OutOfMemory:
                self._full = True
                self.live.pop()
                _leave(job, keep=True)  # those of its branches that found room
                if self.live:
                    self.waiting.appendleft(job)
                    return
                self._refuse(job)  # alone, and still no room
                continue
            for branch in job.branches:
                self.counters.prefix_tokens_reused += branch.reused
                self.counters.prefix_tokens_computed += branch.length - branch.reused

    def _has_room(self, most: int) -> bool:
        """Whether the next in the queue may join: the only job always may, however many branches it needs."""
        rows = sum(job.rows for job in self.live)
        return not self.live or (not self._full and rows + self.waiting[0].rows <= most)

    def _pass(self) -> None:
        """Draft, verify, commit."""
        self._make_room()
        reading = PrefillChunk([branch for job in self.live for branch in job.branches], self.chunk)
        going = set(reading.ready)
        ready = [job for job in self.live if going.issuperset(job.branches)]
        growing = [job for job in ready if isinstance(job, DecodeJob)]
        beams = [job for job in ready if isinstance(job, BeamJob)]
        room = self.runner.forest.pool.room - sum(job.width for job in ready)
        if self.policy == "fcfs":  # all draft, then one is verified: who has waited longest
            new = [job for job in growing if job.draft is None]
            self.drafting.draft(new, 1, room, together=False, beams=[job for job in beams if job.drafts is None])
            ready = sorted(ready, key=lambda job: job.served)[:1]
        else:
            self.drafting.draft(growing, len(growing), room, beams=beams)
        slots = self._allocate(ready)
        spans = [*reading.spans, *(span for job, own in zip(ready, slots, strict=True) for span in job.spans(own))]
        before = self.runner.seconds
        logits, rows = self.runner.forward(spans)
        self.counters.rounds += 1
        self.counters.read += reading.tokens
        if not reading.spans and ready:
            self.counters.verified_seconds += self.runner.seconds - before
            drafted = sum(sum(job.drafted) for job in ready)
            self.counters.predicted_seconds += self.drafting.cost(sum(job.width for job in ready), drafted)
        reading.done()
        mine = iter(rows[len(reading.spans) :])
        self._settle(ready, slots, logits, [[next(mine) for _ in job.branches] for job in ready])

    def _make_room(self) -> None:
        """See to it that every live branch can take a step, giving up the youngest branches if need be."""
        forest = self.runner.forest
        while True:
            try:
                wants = (zip(job.branches, job.widths, strict=True) for job in self.live)
                forest.make_room(sum(branch.wants(width) for pairs in wants for branch, width in pairs))
                break
            except OutOfMemory:
                self._free_spare()
            if sum(job.width for job in self.live) > forest.pool.room:
                job = self.live.pop()
                self._release(job, keep=True)
                self.waiting.appendleft(job)
                self.counters.preempted += 1
                self._full = True
        wanted = sum(job.width for job in self.live) + HEADROOM
        if self.drafting.drafter is not None and not self._full and forest.pool.room < wanted <= forest.pool.limit // 8:
            forest.evict(wanted - forest.pool.room)

    def _allocate(self, ready: Sequence[Job]) -> list[list[Slots]]:
        """For each branch of each job slots for its new tokens: some ahead if there are many, and none for drafts if
        there are too few.
        """
        for ahead in (CHUNK, 0):
            taken: list[tuple[PageTable, Slots]] = []
            try:
                slots = []
                for job in ready:
                    sizes = [width + drafted for width, drafted in zip(job.widths, job.drafted, strict=True)]
                    for branch, size in zip(job.branches, sizes, strict=True):
                        taken.append((branch, branch.take(size, ahead)))
                    slots.append([own for _, own in taken[len(taken) - len(sizes) :]])
                return slots
            except OutOfMemory:
                for branch, own in taken:
                    branch.give_back(own)
                self._free_spare()
        for job in ready:
            job.drop_drafts()
        return [
            [branch.take(width, ahead=0) for branch, width in zip(job.branches, job.widths, strict=True)]
            for job in ready
        ]

    def _free_spare(self) -> None:
        for job in self.live:
            for branch in job.branches:
                branch.free_spare()

    def _settle(
        self, ready: Sequence[Job], slots: Sequence[list[Slots]], tensor: torch.Tensor, rows: Sequence[list[range]]
    ) -> None:
        """Commit what was verified, and let go what is finished."""
        logits = Logits(tensor)
        growing = [
            (job, own[0], at[0]) for job, own, at in zip(ready, slots, rows, strict=True) if isinstance(job, DecodeJob)
        ]
        claims = [DraftCheck(job.row, job.draft or Draft(), at.start) for job, _, at in growing]
        outcomes: dict[str, list[tuple[float, bool]]] = {}
        verdicts = self.verifier.verify(claims, logits)
        self.drafting.learn(claims, verdicts, logits)
        for (job, own, _), claim, verdict in zip(growing, claims, verdicts, strict=True):
            if verdict is None:
                job.branches[0].give_back(own)
                job.failed(BackendError(NOT_FINITE))
                self._let_go(job, keep=False)
            else:
                outcomes.setdefault(claim.draft.by, []).extend(self.counters.count(claim.draft, verdict))
                self._commit(job, own, verdict)
        for other, taken, places in zip(ready, slots, rows, strict=True):
            if isinstance(other, ScoreJob):
                other.branches[0].give_back(taken[0])
                other.take(tensor[places[0].start : places[0].stop])
                self._let_go(other, keep=True)
            elif isinstance(other, BeamJob):
                steps = self._settle_beams(other, taken, [place.start for place in places], logits)
                outcomes.setdefault(BEAMS, []).extend((1.0, accepted) for accepted in steps)
        self.drafting.settle(outcomes)

    def _commit(self, job: DecodeJob, slots: Slots, verdict: Verification) -> None:
        """Append tokens until the sample ends; keep the keys and values of all but the last, free the others."""
        row, [branch] = job.row, job.branches
        start, last = len(row.tokens), row.tokens[-1]
        if self.drafting.drafter is not None:
            job.sample.guessed(len(verdict.accepted))
        for token in verdict.tokens:
            row.tokens.append(token)
            job.sample.accept(token, self.eos)
            if job.sample.completion is not None:
                break
        new = row.tokens[start:]
        kept = [0, *(node + 1 for node in verdict.accepted[: len(new) - 1])]
        branch.extend([last, *new[:-1]], slots[kept])
        branch.give_back(np.delete(slots, kept))
        job.draft, job.served = None, self.counters.rounds
        self.counters.tokens += len(new)
        self.counters.row_passes += 1
        if job.sample.completion is not None:
            self._let_go(job, keep=True)
            job.finished()

    def _settle_beams(
        self, job: BeamJob, slots: Sequence[Slots], first: Sequence[int], logits: Logits
    ) -> Sequence[bool]:
        """Verify and commit one job with beams; of every drafted step that was come to, whether it was accepted."""
        drafts = job.drafts or [Draft() for _ in first]
        outcome = self.beams.verify(BeamWalk(job.group, drafts, first, logits))
        if outcome is None:
            for branch, own in zip(job.branches, slots, strict=True):
                branch.give_back(own)
            job.failed(BackendError(NOT_FINITE))
            self._let_go(job, keep=False)
            return ()
        layers = len(job.group.layers)
        self.drafting.forget_rows(job.commit(outcome, slots))
        ended = job.run.sample.completion is not None
        accepted = self.counters.count_beams(layers, len(outcome.steps), ended=ended)
        job.served = self.counters.rounds
        if ended:
            self._let_go(job, keep=True)
            job.finished()
        return accepted

    def _let_go(self, job: Job, *, keep: bool) -> None:
        self._release(job, keep=keep)
        self.live.remove(job)
        self._full = False

    def _release(self, job: Job, *, keep: bool) -> None:
        """Give up a job's place in the forest; ``keep`` leaves its tokens there until memory is wanted."""
        _leave(job, keep=keep)
        if isinstance(job, DecodeJob):
            self.drafting.forget(job)
        elif isinstance(job, BeamJob):
            job.drafts, job.group.layers = None, []
            self.drafting.forget_rows(job.group.rows)


def _leave(job: Job, *, keep: bool) -> None:
    branches, job.branches = job.branches, []
    for branch in branches:
        branch.leave(keep=keep)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
