"""Rounds: admit, draft, verify, commit (scheduled speculative decoding, Wang et al., arXiv 2406.18200).

A round admits queued jobs, drafts for all live ones, verifies all drafts in one target pass and commits what was
accepted; the requests that follow from finished ones enter the next round. Prompts are computed in the same passes, at
most ``chunk`` tokens a round, so that long prompts do not delay the other jobs. The paper verifies one branch after
another; its schedule (``fcfs``) and its baseline (``serial``: one branch at a time, from beginning to end) are there to
be measured.

Everything here runs in the models' thread.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from ..executor.logits import Logits
from ..executor.model_runner import ModelRunner
from ..executor.prefill import PrefillChunk
from ..kv_cache.pool import Slots
from ..kv_cache.radix_tree import OutOfMemory
from ..speculation.speculator import Speculator
from ..verifiers.base import Verifier, log_probabilities
from .jobs import Job, JobOutput
from .memory import allocate, evict_for_drafts, make_room, too_large
from .metrics import Counters
from .round_timer import RoundTimer


class Scheduler:
    """The queued and live jobs of one target, and the rounds that serve them."""

    def __init__(
        self,
        runner: ModelRunner,
        speculator: Speculator,
        verifier: Verifier,
        *,
        policy: str = "rounds",
        max_rows: int = 256,
        chunk: int = 1024,
    ) -> None:
        """``policy``, ``max_rows`` and ``chunk`` as in :class:`..config.ResearchOptions`."""
        self.runner = runner
        self.speculator = speculator
        self.verifier = verifier
        self.policy = policy
        self.max_rows = max_rows
        self.chunk = chunk
        self.counters = Counters()
        self.waiting: deque[Job] = deque()
        self.live: list[Job] = []
        """In order of admission."""
        self._full = False
        """Memory ran out: no job is admitted until one ends."""

    def submit(self, job: Job) -> None:
        """Queue a job; it fails at once when it could never fit into memory."""
        if job.most > self.runner.forest.pool.limit:
            job.failed(too_large(job, self.runner))
        else:
            self.waiting.append(job)

    @property
    def busy(self) -> bool:
        """Whether any job is queued or live."""
        return bool(self.live or self.waiting)

    def round(self) -> None:
        """One round. After an exception :meth:`fail` must be called: the jobs in it are lost."""
        timer = RoundTimer(self.runner, self.speculator)
        self._drop_cancelled()
        self._admit()
        if self.live:
            self._pass()
        timer.stop(self.counters)

    def fail(self, error: BaseException, *, everything: bool = False) -> None:
        """Fail all live jobs with the cause, and with ``everything`` the queued ones too."""
        jobs, self.live = self.live, []
        if everything:
            jobs += self.waiting
            self.waiting.clear()
        for job in jobs:  # first of all, as what broke may break again
            job.failed(error)
        self.runner.reset_cache()  # wherever it happened, no slot is lost
        self._full = False
        for job in jobs:
            self._release(job, keep=False)

    # Admit.

    def _drop_cancelled(self) -> None:
        """Remove jobs whose results are not awaited any more."""
        for job in [job for job in self.live if not job.open]:
            self._remove(job, keep=False)
        if any(not job.open for job in self.waiting):
            self.waiting = deque(job for job in self.waiting if job.open)

    def _admit(self) -> None:
        """First come, first served, as far as rows and memory go."""
        while self.waiting and self._has_room():
            job = self.waiting.popleft()
            self.live.append(job)  # from here on it fails with the round, or it would fail the next one too
            try:
                job.join(self.runner.forest)
            except OutOfMemory:
                self._full = True
                self.live.pop()
                job.leave(keep=True)
                if not self.live:
                    job.failed(too_large(job, self.runner))
                    continue
                self.waiting.appendleft(job)
                return
            for branch in job.branches:
                self.counters.add_prompt(branch.length, branch.reused)

    def _has_room(self) -> bool:
        """Whether the next queued job may join: the only job always may, however many branches it needs."""
        most = 1 if self.policy == "serial" else self.max_rows
        rows = sum(job.rows for job in self.live)
        return not self.live or (not self._full and rows + self.waiting[0].rows <= most)

    # Draft, verify, commit.

    def _pass(self) -> None:
        """Draft for the jobs whose prompts are computed, verify their drafts in one target pass, commit."""
        self._make_room()
        prefill = PrefillChunk([branch for job in self.live for branch in job.branches], self.chunk)
        computed = set(prefill.ready)
        ready = self._draft([job for job in self.live if computed.issuperset(job.branches)])
        slots = allocate(ready, self.live)
        segments = [part for job, own in zip(ready, slots, strict=True) for part in job.segments(own)]
        before = self.runner.seconds
        logits, rows = self.runner.forward([*prefill.spans, *segments])
        self.counters.add_pass(prefill.tokens)
        if not prefill.spans and ready:
            seconds = self.runner.seconds - before
            predicted = self.speculator.cost.record(self.runner.work, seconds)
            self.counters.add_prediction(int(self.runner.work.spans), predicted, seconds)
        prefill.done()
        own_rows = iter(rows[len(prefill.spans) :])
        self._commit(ready, slots, [[next(own_rows) for _ in job.branches] for job in ready], Logits(logits))

    def _make_room(self) -> None:
        """Ensure that every live branch can take its next token, and any drafts of it that must not be dropped.

        The youngest jobs are preempted if need be; their drafts, too, were given up whatever they turned out to be.
        """
        cache = self.runner.forest
        while not make_room(cache, self.live):
            if sum(job.width + sum(job.bounds) for job in self.live) > cache.pool.room:
                job = self.live.pop()
                self._release(job, keep=True)
                self.waiting.appendleft(job)
                self.counters.add_preemption()
                self._full = True
        if self.speculator.drafter is not None and not self._full:
            evict_for_drafts(cache, self.live)

    def _draft(self, ready: Sequence[Job]) -> Sequence[Job]:
        """Store drafts in the jobs; returns those that are verified in this pass: under ``fcfs`` one, else all."""
        room = self.runner.forest.pool.room - sum(job.width + sum(job.bounds) for job in ready)
        together = self.policy != "fcfs"
        drafting = [job for job in ready if job.sequences and (together or job.drafts is None)]
        drafts = self.speculator.draft([job.sequences for job in drafting], room, together=together)
        for job, own in zip(drafting, drafts, strict=False):  # none without a drafter
            job.take_drafts(own)
        return ready if together else sorted(ready, key=lambda job: job.last_round)[:1]

    def _commit(
        self, ready: Sequence[Job], slots: Sequence[list[Slots]], rows: Sequence[list[range]], logits: Logits
    ) -> None:
        """Verify the drafts, let jobs take their results, remove the jobs that ended."""
        checks = [job.checks(own) for job, own in zip(ready, rows, strict=True)]
        every = [check for own in checks for check in own]
        verifications = self.verifier.verify(every, logits)
        self.speculator.learn(every, verifications, logits)
        results = iter(zip(verifications, log_probabilities(every, verifications, logits), strict=True))
        outcomes: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
        for job, own_rows, own_slots, own in zip(ready, rows, slots, checks, strict=True):
            verified = [next(results) for _ in own]
            output = JobOutput(
                logits, own_rows, own_slots, [result for result, _ in verified], [values for _, values in verified]
            )
            committed = job.commit(output, self.counters)
            outcomes[committed.drafter].extend(committed.outcomes)
            self.speculator.forget(committed.removed)
            if committed.error is not None:
                job.failed(committed.error)
                self._remove(job, keep=False)
            elif committed.ended:
                self._remove(job, keep=True)
                job.finished()
        self.speculator.record_outcomes(outcomes)

    def _remove(self, job: Job, *, keep: bool) -> None:
        self._release(job, keep=keep)
        self.live.remove(job)
        self._full = False

    def _release(self, job: Job, *, keep: bool) -> None:
        """Give up a job's branches; ``keep`` leaves its tokens cached until memory is needed."""
        job.leave(keep=keep)
        self.speculator.forget(job.sequences)
