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
from typing import Union

import numpy as np
import torch

from treeagent.errors import BackendError

from .branch import CHUNK, Branch, Reading
from .drafters import Draft
from .drafting import Drafting
from .jobs import NOT_FINITE, Growing, Scoring
from .metrics import DEPTHS, Counters
from .pool import Slots
from .prefixes import OutOfMemory
from .runner import Runner
from .verify import Claim, Logits, Verdict, Verifier

POLICIES = ("rounds", "fcfs", "serial")

HEADROOM = 128
"""Slots for drafts that old prefixes make way for: the nodes of the largest pass whose time is measured."""

Job = Union[Growing, Scoring]  # noqa: UP007  # Python 3.10 evaluates it


class Scheduler:
    """The live branches of one target, and the rounds that grow them."""

    def __init__(
        self,
        runner: Runner,
        drafting: Drafting,
        verifier: Verifier,
        *,
        policy: str = "rounds",
        eos: frozenset[int] = frozenset(),
        max_rows: int = 256,
        chunk: int = 1024,
    ) -> None:
        self.runner = runner
        self.verifier = verifier
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
        while self.waiting and len(self.live) < most and not (self._full and self.live):
            job = self.waiting.popleft()
            self.live.append(job)  # from here on it fails with the round, or it would fail the next one too
            try:
                job.branch = Branch(self.runner.forest, job.prompt())
            except OutOfMemory:
                self._full = True
                self.live.pop()
                if self.live:
                    self.waiting.appendleft(job)
                    return
                self._refuse(job)  # alone, and still no room
                continue
            self.counters.prefix_tokens_reused += job.branch.reused
            self.counters.prefix_tokens_computed += job.branch.length - job.branch.reused

    def _pass(self) -> None:
        """Draft, verify, commit."""
        self._make_room()
        reading = Reading([job.branch for job in self.live if job.branch is not None], self.chunk)
        going = set(reading.ready)
        ready = [job for job in self.live if job.branch in going]
        growing = [job for job in ready if isinstance(job, Growing)]
        room = self.runner.forest.pool.room - sum(job.width for job in ready)
        if self.policy == "fcfs":  # all draft, then one is verified: who has waited longest
            self.drafting.draft([job for job in growing if job.draft is None], 1, room, together=False)
            ready = sorted(ready, key=lambda job: job.served)[:1]
        else:
            self.drafting.draft(growing, len(growing), room)
        slots = self._allocate(ready)
        spans = [*reading.spans, *(job.span(own) for job, own in zip(ready, slots, strict=True))]
        before = self.runner.seconds
        logits, rows = self.runner.forward(spans)
        self.counters.rounds += 1
        if not reading.spans and ready:
            self.counters.verified_seconds += self.runner.seconds - before
            drafted = sum(map(_drafted, ready))
            self.counters.predicted_seconds += self.drafting.cost(sum(job.width for job in ready), drafted)
        reading.done()
        self._settle(ready, slots, logits, rows[len(reading.spans) :])

    def _make_room(self) -> None:
        """See to it that every live branch can take a step, giving up the youngest branches if need be."""
        forest = self.runner.forest
        while True:
            try:
                forest.make_room(sum(_branch(job).wants(job.width) for job in self.live))
                break
            except OutOfMemory:
                for job in self.live:
                    _branch(job).free_spare()
            if sum(job.width for job in self.live) > forest.pool.room:
                job = self.live.pop()
                self._release(job, keep=True)
                self.waiting.appendleft(job)
                self.counters.preempted += 1
                self._full = True
        wanted = sum(job.width for job in self.live) + HEADROOM
        if self.drafting.drafter is not None and not self._full and forest.pool.room < wanted <= forest.pool.limit // 8:
            forest.evict(wanted - forest.pool.room)

    def _allocate(self, ready: Sequence[Job]) -> list[Slots]:
        """Slots for all new tokens: some ahead if there are many, and none for drafts if there are too few."""
        for ahead in (CHUNK, 0):
            taken: list[Slots] = []
            try:
                for job in ready:
                    taken.append(_branch(job).take(job.width + _drafted(job), ahead))
                return taken
            except OutOfMemory:
                for job, own in zip(ready, taken, strict=False):  # those before the one that found no room
                    _branch(job).give_back(own)
                for job in self.live:
                    _branch(job).free_spare()
        for job in ready:
            if isinstance(job, Growing):
                job.draft = Draft()
        return [_branch(job).take(job.width, ahead=0) for job in ready]

    def _settle(
        self, ready: Sequence[Job], slots: Sequence[Slots], tensor: torch.Tensor, rows: Sequence[range]
    ) -> None:
        """Commit what was verified, and let go what is finished."""
        logits = Logits(tensor)
        growing = [(job, own, at) for job, own, at in zip(ready, slots, rows, strict=True) if isinstance(job, Growing)]
        claims = [Claim(job.row, job.draft or Draft(), at.start) for job, _, at in growing]
        outcomes: list[tuple[float, bool]] = []
        verdicts = self.verifier.verify(claims, logits)
        for (job, own, _), claim, verdict in zip(growing, claims, verdicts, strict=True):
            if verdict is None:
                _branch(job).give_back(own)
                job.failed(BackendError(NOT_FINITE))
                self._let_go(job, keep=False)
            else:
                outcomes += self.counters.count(claim.draft, verdict)
                self._commit(job, own, verdict)
        self.drafting.calibration.learn(outcomes)
        for scoring, own, at in zip(ready, slots, rows, strict=True):
            if isinstance(scoring, Scoring):
                _branch(scoring).give_back(own)
                scoring.take(tensor[at.start : at.stop])
                self._let_go(scoring, keep=True)

    def _commit(self, job: Growing, slots: Slots, verdict: Verdict) -> None:
        """Append tokens until the sample ends; keep the keys and values of all but the last, free the others."""
        row, branch = job.row, _branch(job)
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

    def _let_go(self, job: Job, *, keep: bool) -> None:
        self._release(job, keep=keep)
        self.live.remove(job)
        self._full = False

    def _release(self, job: Job, *, keep: bool) -> None:
        """Give up a job's place in the forest; ``keep`` leaves its tokens there until memory is wanted."""
        if job.branch is not None:
            job.branch.leave(keep=keep)
            job.branch = None
        if isinstance(job, Growing):
            self.drafting.forget(job)


def _branch(job: Job) -> Branch:
    assert job.branch is not None  # noqa: S101  # a live job has joined
    return job.branch


def _drafted(job: Job) -> int:
    return len(job.draft) if isinstance(job, Growing) and job.draft is not None else 0


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
