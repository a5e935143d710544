"""Jobs whose results may turn out not to be wanted, as their requests were sent before a search asked for them.

They take part in a pass where that pays: an early row is taken in while the time that it adds to the pass is less than
what its token saves, times the chance that it is wanted. A token that is there already saves a row's share of a later
pass, t(R) / R of the R rows that get a token in this one: beside one row a whole pass, beside many hardly more than the
row adds.
All early rows together lengthen a pass by half at most, as chances may be estimated wrongly. Drafts of the other rows
are decided first, and those of early rows keep to the same rule. A prompt that is computed now need not be computed
later, so of its time only the part counts that is lost where the request is not wanted. A job that is not taken in
keeps its keys and values until memory is needed. Where no other job is live, the likeliest early one takes the place of
one, see :class:`.admission.Admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..executor.model_runner import ModelRunner
from ..executor.prefill import PrefillChunk
from ..kv_cache.radix_tree import OutOfMemory
from .jobs import Job
from .metrics import Counters
from .round_cost import RoundCost

SLOWDOWN = 0.5
"""The most that early rows together may add to a pass, as a part of its time without them."""
MARGIN = 1.5
"""How many times what it costs an early row must save: what a pass takes is an estimate as well, and so is a chance."""
DELAY = 3.0
"""As much with the time of prompts that later passes need not take: other rows wait for it, whatever it saves."""
LUMP = 256
"""Slots of cached prefixes that are freed at a time, as the search for them takes as long for one."""
REFUSALS = 4
"""Jobs that are not taken in before the search for others ends; those that follow are less likely to be wanted."""


class EarlyJobs:
    """The early jobs of one target, queued and with memory."""

    def __init__(self, runner: ModelRunner, counters: Counters) -> None:
        self._runner, self._counters = runner, counters
        self.waiting: list[Job] = []
        self.live: list[Job] = []
        """With branches; set aside where they are not in the pass."""
        self._running: set[Job] = set()
        """Those in the last pass."""

    @property
    def busy(self) -> bool:
        """Whether there is any."""
        return bool(self.live or self.waiting)

    def take_closed(self) -> list[Job]:
        """Remove and return the jobs whose results are not awaited any more."""
        closed = [job for job in (*self.live, *self.waiting) if not job.open]
        for job in closed:
            (self.live if job in self.live else self.waiting).remove(job)
            self.count_waste(job)
        return closed

    def count_waste(self, job: Job) -> None:
        """Count the tokens of a job that was given up, if it was early."""
        if job.early:
            self._counters.add_early_waste(sum(sequence.position for sequence in job.sequences))

    def take_certain(self) -> list[Job]:
        """Remove and return the jobs whose results are wanted by now, those with memory first."""
        certain = [job for job in (*self.live, *self.waiting) if not job.early]
        for job in certain:
            (self.live if job in self.live else self.waiting).remove(job)
        return certain

    def least(self) -> Job | None:
        """Remove and return the job with memory that is least likely to be wanted, the youngest of equals."""
        if not self.live:
            return None
        job = min(reversed(self.live), key=lambda job: job.priority)
        self.live.remove(job)
        return job

    def put_back(self, job: Job) -> None:
        """Queue a job that has lost its memory."""
        self.waiting.insert(0, job)

    def take_best(self) -> Job | None:
        """Remove and return the job that is likeliest to be wanted, of equals one that has memory."""
        if not self.busy:
            return None
        job = max((*self.live, *self.waiting), key=lambda job: job.priority)
        (self.live if job in self.live else self.waiting).remove(job)
        return job

    def admit(self, others: Sequence[Job], cost: RoundCost, max_rows: int) -> None:
        """Give memory to queued jobs that would be taken in beside ``others`` if all prompts were computed."""
        if not self.waiting:
            return
        branches = sum(job.rows for job in others)
        spare = Spare(cost, branches, branches, sum(job.width for job in others))
        held = sum(job.width for job in others)
        for job in self._likeliest(spare, max_rows):
            if job.branches or self._join(job, held):
                spare.add(job.rows, job.width)
                held += job.width

    def take_in(
        self, ready: Sequence[Job], prefill: PrefillChunk, cost: RoundCost, max_rows: int
    ) -> tuple[list[Job], Spare]:
        """The early jobs that the next pass verifies beside ``ready`` ones, and the time that is left for their drafts.

        Their prompts are added to ``prefill``.
        """
        branches = sum(len(job.branches) for job in ready)
        held = sum(job.width + sum(job.drafted) for job in ready)
        spare = Spare(cost, branches, len(prefill.spans) + branches, prefill.tokens + held)
        chosen: list[Job] = []
        started: set[Job] = set()
        for job in self._likeliest(spare, max_rows):
            if not job.branches or not self._has_room(held + job.width):
                continue
            tokens = spare.prompt(prefill.missing(job.branches), job.priority)
            tokens = self._runner.forest.pool.readable(tokens, held + job.width)
            added = prefill.add(job.branches, tokens)
            if added:
                spare.add_prompt(added, job.priority)
                started.add(job)
            if set(prefill.ready).issuperset(job.branches):
                spare.add(job.rows, job.width)
                held += job.width
                chosen.append(job)
                started.add(job)
        self._counters.add_early(len(chosen), sum(1 for job in self._running - started if job in self.live))
        self._running = started
        return chosen, spare

    def _likeliest(self, spare: Spare, max_rows: int) -> Iterator[Job]:
        """The jobs that pay, likeliest first, as long as ``spare`` grows by those that are used."""
        refused = 0
        for job in sorted((*self.live, *self.waiting), key=lambda job: -job.priority):
            if refused == REFUSALS or spare.rows + job.rows > max_rows:
                return
            if spare.affords(job.rows, job.width, job.priority):
                yield job
            else:
                refused += 1

    def _join(self, job: Job, held: int) -> bool:
        """Whether a queued job gets memory beside ``held`` slots for others."""
        if not self._has_room(held + job.width + sum(map(len, job.prompts()))):
            return False
        try:
            job.join(self._runner.forest)
        except OutOfMemory:
            job.leave(keep=True)
            return False
        self.waiting.remove(job)
        self.live.append(job)
        for branch in job.branches:
            self._counters.add_prompt(branch.length, branch.reused)
        return True

    def _has_room(self, slots: int) -> bool:
        """Whether so many slots are free, or cached prefixes that no job uses can make room for them."""
        cache = self._runner.forest
        if cache.pool.room < slots:
            cache.evict(max(slots - cache.pool.room, LUMP))
        return cache.pool.room >= slots


class Spare:
    """The time of a round that early rows may take."""

    def __init__(self, cost: Callable[[float, float], float], certain: int, rows: int, tokens: int) -> None:
        """``cost``: seconds of a round by its rows and the further tokens.

        ``rows`` and ``tokens`` of the pass without early ones; ``certain`` of its rows get a token.
        """
        self._cost = cost
        self.rows, self._tokens, self._sharing = rows, tokens, max(1, certain)
        self._seconds = self._base = self._after(0, 0)
        self._moved = 0.0
        """Seconds of prompts that later passes need not take, by the chances of their requests."""

    @property
    def _saving(self) -> float:
        """Seconds that a token saves: the share of a row in a later pass, beside all that get a token in this one."""
        return self._cost(self._sharing, 0.0) / self._sharing

    @property
    def least_value(self) -> float:
        """The least probability that a drafted node must have to pay."""
        return (self._after(0, 1) - self._seconds) / self._saving

    def affords(self, rows: int, tokens: int, chance: float) -> bool:
        """Whether so many rows with so many tokens pay, or so many tokens more where there is no row."""
        return self._pays(self._after(rows, tokens), chance * self._saving * max(1, rows), 0.0)

    def prompt(self, tokens: int, chance: float) -> int:
        """How many of a prompt's tokens pay."""
        while tokens and not self._pays(self._after(1, tokens), chance * self._saving, chance * self._later(tokens)):
            tokens //= 2
        return tokens

    def add(self, rows: int, tokens: int) -> None:
        """They are in the pass."""
        self._enter(rows, tokens)
        self._sharing += rows

    def add_prompt(self, tokens: int, chance: float) -> None:
        """So many tokens of a prompt are in the pass."""
        self._moved += chance * self._later(tokens)
        self._enter(1, tokens)

    def _enter(self, rows: int, tokens: int) -> None:
        self._seconds = self._after(rows, tokens)
        self.rows += rows
        self._tokens += tokens

    def _pays(self, seconds: float, saved: float, moved: float) -> bool:
        """Whether the pass may take so long, where what is new in it saves a part and moves another one."""
        added, moved_in_all = seconds - self._base, self._moved + moved
        fits = added <= DELAY * self._base and added - moved_in_all <= SLOWDOWN * self._base
        return fits and MARGIN * (seconds - self._seconds - moved) <= saved

    def _later(self, tokens: int) -> float:
        """Seconds that so many tokens of a prompt would take in a later pass, beside a row."""
        return self._cost(2.0, tokens - 1.0) - self._cost(1.0, 0.0)

    def _after(self, rows: int, tokens: int) -> float:
        rows += self.rows
        return self._cost(max(1, rows), max(0, self._tokens + tokens - rows))
