"""Rounds: admit, draft, verify, commit (scheduled speculative decoding, Wang et al., arXiv 2406.18200).

A round admits queued jobs, drafts for all live ones, verifies all drafts in one target pass and commits what was
accepted; the requests that follow from finished ones enter the next round. Prompts are computed in the same passes, at
most ``chunk`` tokens a round, so that long prompts do not delay the other jobs. The paper verifies one branch after
another; its schedule (``fcfs``) and its baseline (``serial``: one branch at a time, from beginning to end) are there to
be measured.

Everything here runs in the models' thread.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from ..executor.compiled_steps import StepOutput, StepRow
from ..executor.logits import Logits
from ..executor.model_runner import ModelRunner
from ..executor.prefill import PrefillChunk
from ..executor.segment import Segment
from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import Slots
from ..records import Draft
from ..speculation.forced_drafts import constrained_draft
from ..speculation.speculator import Speculator
from ..verifiers.base import Verifier, log_probabilities
from ..verifiers.tree_masks import masked_tree
from .admission import Admission
from .early_drafts import draft_early
from .jobs import Committed, Job, JobOutput
from .memory import allocate, readable
from .metrics import Counters
from .multi_step import MultiStep
from .round_cost import RoundCost
from .round_timer import RoundTimer

EARLY_CHUNK = 64
"""Prompt tokens of a pass without other jobs than early ones: a request that comes meanwhile waits for its end."""


@dataclass(frozen=True, slots=True, eq=False)
class AskedPass:
    """What a round asks of its target."""

    segments: Sequence[Segment]
    reads: bool
    """Whether prompts are among them."""
    steps: Sequence[StepRow] = ()
    """In place of segments: rows that take several tokens, in as many passes in one call."""


@dataclass(frozen=True, slots=True, eq=False)
class PassOutput:
    """What the target computed."""

    logits: torch.Tensor
    """(R, V)"""
    rows: Sequence[range]
    """For each segment its rows among the R."""
    seconds: float
    """Of the pass."""
    reads: bool
    """Whether prompts were read in it, of this target or of others that shared it."""
    steps: StepOutput | None = None
    """The tokens of rows that take several; there are no logits then."""


Steps = Generator[AskedPass, PassOutput, None]
"""A round, which asks for one pass, or for none."""


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
        self.chunk = chunk
        self.counters = Counters()
        self.cost = RoundCost(speculator.cost)
        self.jobs = Admission(runner, speculator, self.counters, max_rows, self.cost)
        self._timer = RoundTimer(runner, speculator)
        self._rows = 0
        self._steps = MultiStep(runner, speculator, verifier)
        self._alone = True

    def submit(self, job: Job) -> None:
        """Queue a job; it fails at once when it could never fit into memory."""
        if self.speculator.drafter is not None:
            job.expect_drafts()
        self.jobs.submit(job)

    @property
    def live(self) -> list[Job]:
        """The live jobs in order of admission, without early ones that run beside others."""
        return self.jobs.live

    @property
    def busy(self) -> bool:
        """Whether any job is queued or live."""
        return self.jobs.busy

    @property
    def only_early(self) -> bool:
        """Whether there are jobs, all of them sent early."""
        return self.jobs.only_early

    def early_rows(self, most: int) -> int:
        """How many early jobs, up to ``most``, hardly slow down another one; 0 where they would not run beside it."""
        return self.cost.slight(most) if self.policy == "rounds" else 0

    def round(self, *, alone: bool = True) -> Steps:
        """One round, up to its pass and after it. After an exception :meth:`fail` must be called: its jobs are lost.

        ``alone``: no other target shares the pass.
        """
        self._alone = alone
        self._rows, self._passes = 0, 1
        self._timer.start()
        self._steps.forget()
        seconds, tokens = self.counters.seconds, self.counters.tokens
        self.jobs.sort()
        self.jobs.sweep()
        self.jobs.admit(serial=self.policy == "serial")
        if self.live:
            yield from self._pass()
        outside = self._timer.stop(self.counters)
        if self._rows:
            self.cost.record(self._rows, outside / self._passes)
            self._steps.record(self._rows, self.counters.seconds - seconds, outside, self.counters.tokens - tokens)

    def fail(self, error: BaseException, *, everything: bool = False) -> None:
        """Fail all live jobs with the cause, and with ``everything`` the queued ones too."""
        jobs = self.jobs.clear(everything=everything)
        for job in jobs:  # first of all, as what broke may break again
            job.failed(error)
        self.runner.reset_cache()  # wherever it happened, no slot is lost
        for job in jobs:
            self.jobs.release(job, keep=False)

    # Draft, verify, commit.

    def _pass(self) -> Steps:
        """Draft for the jobs whose prompts are computed, verify their drafts in one target pass, commit."""
        self.jobs.make_room()
        chunk = min(self.chunk, EARLY_CHUNK) if self.only_early else self.chunk
        branches = [branch for job in self.live for branch in job.branches]
        self.runner.hold_states(branches)
        prefill = PrefillChunk(branches, readable(self.runner.forest, self.live, chunk))
        ready: Sequence[Job] = list(self.live)
        if len(prefill.ready) < len(branches):
            computed = set(prefill.ready)
            ready = [job for job in self.live if computed.issuperset(job.branches)]
        plain = self._alone and self.policy == "rounds" and not prefill.spans and not self.only_early
        steps = self._steps.choose(ready) if plain else 1
        if steps == 1:
            ready = self._draft(ready)
        if self.jobs.early.busy and self.policy == "rounds":
            early, spare = self.jobs.early.take_in(ready, prefill, self.cost, self.jobs.max_rows)
            held = sum(job.reserved + sum(job.drafted) for job in (*ready, *early))
            if steps == 1:
                draft_early(early, spare, self.speculator, self.runner.forest.pool.room - held)
            ready = [*ready, *early]
        self._rows = sum([len(job.branches) for job in ready])
        if steps > 1 and not prefill.spans and all(job.most_steps for job in ready):
            yield from self._several(ready, steps)
            return
        if steps > 1 or prefill.spans:
            self._steps.forget()  # early rows have changed the round
        slots = allocate(ready, self.live)
        segments = [part for job, own in zip(ready, slots, strict=True) for part in job.segments(own)]
        asked = time.perf_counter()
        output = yield AskedPass([*prefill.spans, *segments], bool(prefill.spans))
        self._timer.skip(time.perf_counter() - asked - output.seconds)
        self.counters.add_pass(prefill.tokens)
        if not output.reads and ready:
            predicted = self.speculator.cost.record(self.runner.work, output.seconds)
            self.counters.add_prediction(int(self.runner.work.spans), predicted, output.seconds)
        prefill.done()
        own_rows = iter(output.rows[len(prefill.spans) :])
        self._commit(ready, slots, [[next(own_rows) for _ in job.branches] for job in ready], output.logits)

    def _several(self, ready: Sequence[Job], steps: int) -> Steps:
        """Up to so many passes in one call, which are verified already."""
        for job in ready:
            job.plan_steps(steps)
        slots = [own for (own,) in allocate(ready, self.live)]
        rows = [job.step_row(own) for job, own in zip(ready, slots, strict=True)]
        output = yield AskedPass((), False, rows)
        found = output.steps
        assert found is not None  # noqa: S101  # it was asked for
        self._steps.settle(settled=found.settled)
        self._passes = found.passes
        again = [len(new.tokens) - 1 for job, new in zip(ready, found.rows, strict=True) if job.early and new.tokens]
        self.counters.add_steps(found.passes, sum(again))
        predicted = self.speculator.cost.record(found.work, output.seconds / found.passes)
        self.counters.add_prediction(round(found.work.spans), found.passes * predicted, output.seconds)
        parts = zip(ready, found.rows, slots, strict=True)
        self._settle(ready, (job.commit_steps(new, own, self.counters) for job, new, own in parts))

    def _draft(self, ready: Sequence[Job]) -> Sequence[Job]:
        """Store drafts in the jobs; returns those that are verified in this pass: under ``fcfs`` one, else all."""
        room = self.runner.forest.pool.room - sum([job.reserved for job in ready])
        together = self.policy != "fcfs"
        drafting = [job for job in ready if job.sequences and (together or job.drafts is None)]
        drafts = self.speculator.draft([job.sequences for job in drafting], room, together=together)
        for job, own in zip(drafting, drafts, strict=False):  # none without a drafter
            job.take_drafts(own)
        if any(row.mask is not None for job in drafting for row in job.sequences):
            self._constrain(ready, list(zip(drafting, drafts, strict=False)))
        return ready if together else sorted(ready, key=lambda job: job.last_round)[:1]

    def _constrain(self, ready: Sequence[Job], drafted: Sequence[tuple[Job, list[Draft]]]) -> None:
        """Add to drafts what constraints force, and take away what they forbid."""
        spare = self.runner.forest.pool.room - sum(job.reserved + sum(job.drafted) for job in ready)
        for job, own in drafted:
            if any(row.mask is not None for row in job.sequences):
                job.take_drafts([constrained_draft(*pair, spare) for pair in zip(job.sequences, own, strict=True)])
                spare -= max(0, sum(job.drafted) - sum(map(len, own)))

    def _commit(
        self, ready: Sequence[Job], slots: Sequence[list[Slots]], rows: Sequence[list[range]], outputs: torch.Tensor
    ) -> None:
        """Verify the drafts by the logits (R, V) of a pass, let jobs take their results, remove the jobs that ended."""
        checks = [job.checks(own) for job, own in zip(ready, rows, strict=True)]
        every = [check for own in checks for check in own]
        logits = Logits(masked_tree(every, outputs))
        verifications = self.verifier.verify(every, logits)
        self.speculator.learn(every, verifications, logits)
        logprobs = log_probabilities(every, verifications, logits)
        ends = list(accumulate(map(len, checks)))
        parts = zip(ready, rows, slots, [0, *ends], ends, strict=False)
        results = (
            job.commit(
                JobOutput(logits, own_rows, own_slots, verifications[begin:end], logprobs[begin:end]), self.counters
            )
            for job, own_rows, own_slots, begin, end in parts
        )
        self._settle(ready, results)

    def _settle(self, ready: Sequence[Job], results: Iterable[Committed]) -> None:
        """Take note of what became of the jobs in a pass, and remove those that ended."""
        live: list[PageTable] = []
        ended: list[PageTable] = []
        outcomes: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
        for job, committed in zip(ready, results, strict=True):
            if committed.error is None:
                (ended if committed.ended else live).extend(job.branches)
            if committed.outcomes:
                outcomes[committed.drafter].extend(committed.outcomes)
            if committed.removed:
                self.speculator.forget(committed.removed)
            if committed.error is not None:
                job.failed(committed.error)
                self.jobs.remove(job, keep=False)
            elif committed.ended:
                self.runner.keep_windows(job.branches)
                self.jobs.remove(job, keep=True)
                job.finished()
        self.runner.settle_states([*live, *ended])
        self.speculator.record_outcomes(outcomes)
