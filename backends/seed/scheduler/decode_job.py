"""A job that generates one sample, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from treeagent.errors import BackendError

from ...local.sample import Sample
from ...local.token_masks import TokenMask
from ...sampling.sampler import NOT_FINITE, is_cut
from ..executor.compiled_steps import EndTokens, StepRow, StepTokens
from ..executor.segment import Segment
from ..kv_cache.pool import Slots
from ..records import NO_DRAFT, SequenceState
from ..verifiers.base import DraftCheck
from .jobs import CERTAIN, Committed, GenerationJob, JobOutput, Rank, segment_of
from .metrics import Counters


class DecodeJob(GenerationJob):
    """One sample and its branch."""

    def __init__(
        self,
        sample: Sample,
        eos: frozenset[int],
        finished: Callable[[], None],
        failed: Callable[[BaseException], None],
        rank: Rank = CERTAIN,
        mask: TokenMask | None = None,
        ends: EndTokens | None = None,
    ) -> None:
        """``eos``: ids of the tokens that end a text; ``rank`` as in :class:`Job`; ``mask``: of a constraint.

        ``ends``: what most likely ends the text; None: ``eos`` alone.
        """
        super().__init__(failed, rank)
        self.sample = sample
        self.sequence = SequenceState(
            list(sample.prompt), len(sample.prompt), sample.sampling, sample.stream, sample.limit, mask=mask
        )
        self.sequences = [self.sequence]
        self._eos = eos
        self._finished = finished
        self._ends = EndTokens(eos) if ends is None else ends
        self._steps = 1
        """Tokens that it takes in the passes that are made next."""

    @property
    def open(self) -> bool:
        """See :class:`Job`."""
        return self.sample.open

    @property
    def most(self) -> int:
        """Prompt and text."""
        return self.sequence.prompt + self.sequence.limit

    def leave(self, *, keep: bool) -> None:
        """See :class:`Job`."""
        self._steps = 1
        super().leave(keep=keep)

    @property
    def most_steps(self) -> int:
        """See :class:`Job`."""
        sampling, sequence = self.sequence.sampling, self.sequence
        free = sampling.temperature == 0 or not is_cut(sampling)
        return sequence.room + 1 if free and sequence.mask is None and self.sample.takes_any else 0

    def plan_steps(self, count: int) -> None:
        """See :class:`Job`."""
        self._steps, self.drafts = min(count, self.most_steps), None

    def drop_drafts(self) -> None:
        """See :class:`Job`; nor does it take more than one step."""
        self._steps = 1
        super().drop_drafts()

    def step_row(self, slots: Slots) -> StepRow:
        """See :class:`Job`."""
        sequence = self.sequence
        return StepRow(
            sequence.tokens,
            self.branches[0].table,
            slots,
            sequence.sampling.temperature,
            sequence.stream,
            sequence.position,
            self._ends,
        )

    def commit_steps(self, new: StepTokens, slots: Slots, counters: Counters) -> Committed:
        """See :class:`Job`; what lies behind the end of the text is dropped."""
        sequence, branch = self.sequence, self.branches[0]
        self._steps, self.last_round = 1, counters.rounds
        if not new.tokens:
            branch.give_back(slots)
            return Committed()
        taken = self.sample.accept_all(new.tokens, self._eos, new.logprobs)
        branch.extend_chosen(sequence.tokens[-1:] + taken[:-1], slots, range(len(taken)))
        sequence.append(taken, len(taken))
        counters.count_steps(len(new.tokens), len(taken))
        return Committed(ended=self.sample.completion is not None)

    @property
    def needed(self) -> list[int]:
        """See :class:`Job`."""
        return [self._steps] if self.drafts is None else [self._steps + len(self.drafts[0].tokens)]

    def segments(self, slots: Sequence[Slots]) -> list[Segment]:
        """See :class:`Job`."""
        draft = NO_DRAFT if self.drafts is None else self.drafts[0]
        return [segment_of(self.sequence, draft, self.branches[0], slots[0])]

    def expect_drafts(self) -> None:
        """See :class:`Job`."""
        self.sample.mark_drafted(0)

    def checks(self, rows: Sequence[range]) -> list[DraftCheck]:
        """The draft of its sequence."""
        draft = NO_DRAFT if self.drafts is None else self.drafts[0]
        return [DraftCheck(self.sequence, draft, rows[0].start)]

    def commit(self, output: JobOutput, counters: Counters) -> Committed:
        """Append accepted tokens until the sample ends; keep the keys and values of all but the last new token."""
        verification, slots, branch = output.verifications[0], output.slots[0], self.branches[0]
        if verification is None:
            branch.give_back(slots)
            return Committed(error=BackendError(NOT_FINITE))
        sample, sequence, accepted = self.sample, self.sequence, verification.accepted
        draft = NO_DRAFT
        if self.drafts is not None:
            draft = self.drafts[0]
            if accepted:
                sample.mark_drafted(len(accepted))
        new = sample.accept_all(verification.tokens, self._eos, output.logprobs[0])
        held = sequence.tokens[-1:] + new[:-1]
        if len(slots) == 1:
            branch.extend(held, slots)
        else:
            branch.extend_chosen(held, slots, [0, *(node + 1 for node in accepted[: len(new) - 1])])
        sequence.append(new)
        self.drafts, self.last_round = None, counters.rounds
        outcomes = counters.count(draft, verification, len(new))
        return Committed(draft.by, outcomes, (), sample.completion is not None)

    def finished(self) -> None:
        """See :class:`Job`."""
        self._finished()
