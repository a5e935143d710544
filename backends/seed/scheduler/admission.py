"""Which jobs are live: admission, memory, and what happens to jobs that were sent early."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from ..executor.model_runner import ModelRunner
from ..kv_cache.radix_tree import OutOfMemory
from ..speculation.speculator import Speculator
from .early_jobs import EarlyJobs
from .jobs import Job
from .memory import evict_for_drafts, make_room, short_of_memory, too_large, too_many_branches
from .metrics import Counters
from .round_cost import RoundCost


class Admission:
    """The queued and live jobs of one target. Jobs that were sent early are apart, and take nothing from the others."""

    def __init__(
        self, runner: ModelRunner, speculator: Speculator, counters: Counters, max_rows: int, cost: RoundCost
    ) -> None:
        """``max_rows`` as in :class:`..config.ResearchOptions`; early jobs are weighed by ``cost``."""
        self._cost = cost
        self._runner, self._speculator, self._counters = runner, speculator, counters
        self.max_rows = max_rows
        self.waiting: deque[Job] = deque()
        self.live: list[Job] = []
        """In order of admission."""
        self.early = EarlyJobs(runner, counters)
        self._full = False
        """Memory ran out: no job is admitted until one ends."""

    def submit(self, job: Job) -> None:
        """Queue a job; it fails at once when it could never fit into memory."""
        if job.most > self._runner.forest.pool.most_tokens(job.rows):
            job.failed(too_large(job, self._runner))
        elif job.rows > (self._runner.most_branches or job.rows):
            job.failed(too_many_branches(job, self._runner))
        elif job.early:
            self.early.waiting.append(job)
        else:
            self.waiting.append(job)

    @property
    def busy(self) -> bool:
        """Whether any job is queued or live."""
        return bool(self.live or self.waiting or self.early.busy)

    @property
    def only_early(self) -> bool:
        """Whether there are jobs, all of them early."""
        return not self.waiting and all(job.early for job in self.live) and self.busy

    def sort(self) -> None:
        """Remove jobs whose results are not awaited any more, and queue early ones that have become certain."""
        for job in [job for job in self.live if not job.open]:
            self.early.count_waste(job)
            self.remove(job, keep=False)
        if self.waiting and (closed := [job for job in self.waiting if not job.open]):
            self.waiting = deque(job for job in self.waiting if job.open)  # first, as a release may break
            for job in closed:
                if job.branches:
                    self.release(job, keep=False)
        if self.early.busy:
            for job in self.early.take_closed():
                self.release(job, keep=False)
            self.waiting += self.early.take_certain()
        if self.live and self.live[0].early and (self.waiting or len(self.live) > 1):
            self.early.live.append(self.live.pop(0))  # others have come
            self._full = False

    def admit(self, *, serial: bool = False) -> None:
        """First come, first served, as far as rows and memory go; without any, the likeliest early one.

        Jobs with an order go by it.

        ``serial``: one job at a time.
        """
        most = 1 if serial else self.max_rows
        if not self.live and not self.waiting and (best := self.early.take_best()) is not None:
            self.waiting.append(best)
        if any(job.remaining is not None for job in self.waiting):
            self.waiting = deque(sorted(self.waiting, key=_turn))
        while self.waiting and self._has_room(most):
            job = self.waiting.popleft()
            self.live.append(job)  # from here on it fails with the round, or it would fail the next one too
            if not job.branches and not self._join(job):
                break
        if not self._full:
            self.early.admit(self.live, self._cost, most)

    def _join(self, job: Job) -> bool:
        """Give memory to the last live job, which is queued again or fails where there is none; False: stop here."""
        try:
            job.join(self._runner.forest)
        except OutOfMemory:
            self.live.pop()
            job.leave(keep=True)
            self.sweep()
            if self._evict_early():
                self.waiting.appendleft(job)
                return True
            self._full = True
            if not self.live:
                job.failed(too_large(job, self._runner))
                return True
            self.waiting.appendleft(job)
            return False
        for branch in job.branches:
            self._counters.add_prompt(branch.length, branch.reused)
        return True

    def _has_room(self, most: int) -> bool:
        """Whether the next queued job may join: the only job always may, however many branches it needs."""
        rows = sum(job.rows for job in self.live)
        return not self.live or (not self._full and rows + self.waiting[0].rows <= most)

    def make_room(self) -> None:
        """Ensure that every live branch can take its next token, and any drafts of it that must not be dropped.

        Early jobs, then the youngest, are preempted if need be; their drafts, too, were given up whatever they turned
        out to be.
        """
        cache = self._runner.forest
        while not make_room(cache, self.live):
            if short_of_memory(cache, self.live) and not self._evict_early():
                job = self.live.pop()
                self.release(job, keep=True)
                self.sweep()
                self.waiting.appendleft(job)
                self._counters.add_preemption()
                self._full = True
        if self._speculator.drafter is not None and not self._full:
            evict_for_drafts(cache, self.live)

    def sweep(self) -> None:
        """Give back what no branch of a job sees any more of layers with windows, while no pass is under way."""
        jobs = (*self.live, *self.waiting, *self.early.live)
        self._runner.sweep(branch for job in jobs for branch in job.branches)

    def _evict_early(self) -> bool:
        """Free the memory of the early job that is least likely to be wanted; False where none has any."""
        job = self.early.least()
        if job is None:
            return False
        self.release(job, keep=False)
        self.early.put_back(job)
        self.sweep()
        return True

    def remove(self, job: Job, *, keep: bool) -> None:
        """A live job has ended."""
        self.release(job, keep=keep)
        if job in self.live:
            self.live.remove(job)
        else:
            self.early.live.remove(job)
        self._full = False

    def clear(self, *, everything: bool) -> Sequence[Job]:
        """All live jobs, and with ``everything`` the queued ones too; none of them is known any more."""
        jobs, self.live = [*self.live, *self.early.live, *(job for job in self.waiting if job.branches)], []
        self.waiting = deque(job for job in self.waiting if not job.branches)
        self.early.live.clear()
        if everything:
            jobs += [*self.waiting, *self.early.waiting]
            self.waiting.clear()
            self.early.waiting.clear()
        self._full = False
        return jobs

    def release(self, job: Job, *, keep: bool) -> None:
        """Give up a job's branches; ``keep`` leaves its tokens cached until memory is needed."""
        job.leave(keep=keep)
        self._speculator.forget(job.sequences)


def _turn(job: Job) -> float:
    return -math.inf if job.remaining is None else job.remaining
