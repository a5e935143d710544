"""The contract of a job: what a request becomes in the scheduler.

A job has one branch of the prefix cache or, with beams, several, which are admitted, verified and preempted together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from treeagent.errors import TreeagentError

from ..executor.compiled_steps import StepRow, StepTokens
from ..executor.logits import Logits
from ..executor.segment import Segment
from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import Slots
from ..kv_cache.radix_tree import RadixCache
from ..records import NO_DRAFT, Draft, SequenceState
from ..verifiers.base import DraftCheck, Verification
from .metrics import Counters


class JobOutput(NamedTuple):
    """What a target pass computed for one job."""

    logits: Logits
    """(R, V) of the whole pass."""
    rows: list[range]
    """For each branch its rows among the R."""
    slots: list[Slots]
    """For each branch the slots (n,) of its new tokens."""
    verifications: list[Verification | None]
    """For each of the job's :meth:`Job.checks`."""
    logprobs: list[Sequence[float]]
    """For each verification the natural-log probability of each of its tokens, untempered."""


class Committed(NamedTuple):
    """What became of a job in a pass."""

    drafter: str = ""
    """Which kind of drafter made its drafts, see :attr:`Draft.by`."""
    outcomes: Sequence[tuple[float, bool]] = ()
    """(confidence, accepted) of each drafted token whose parent was accepted."""
    removed: Sequence[SequenceState] = ()
    """Sequences that ended while the job continues, such as beams that were not drawn again."""
    ended: bool = False
    """Whether the job is complete."""
    error: TreeagentError | None = None
    """Why the job failed; None where it did not."""


class Rank(Protocol):
    """What decides when a job is served."""

    @property
    def priority(self) -> float:
        """Probability that its result will be used."""

    @property
    def remaining(self) -> float | None:
        """See :attr:`treeagent.request.Request.remaining`."""


class Certain(NamedTuple):
    """The rank of a job whose result is wanted, in no order."""

    priority: float = 1.0
    remaining: float | None = None


CERTAIN = Certain()


class Job(ABC):
    """A piece of work, with branches of the prefix cache while it is live."""

    def __init__(self, failed: Callable[[BaseException], None], rank: Rank = CERTAIN) -> None:
        """``rank`` may change while the job is queued or live."""
        self.failed = failed
        """Sends an error in place of the reply."""
        self._rank = rank
        self.branches: list[PageTable] = []
        """Empty while the job is queued, and after it was preempted."""
        self.sequences: list[SequenceState] = []
        """For each branch the text to draft for; empty for jobs that generate nothing."""
        self.drafts: list[Draft] | None = None
        """For each sequence what is to be verified in its next pass; None before it was drafted for."""
        self.last_round = 0
        """Number of the round in which it was verified last."""

    @property
    def priority(self) -> float:
        """Probability that the result will be used; 1 for one that is asked for."""
        return self._rank.priority

    @property
    def remaining(self) -> float | None:
        """See :attr:`treeagent.request.Request.remaining`."""
        return self._rank.remaining

    @property
    def early(self) -> bool:
        """Whether the result may turn out not to be used."""
        return self._rank.priority < 1

    @property
    @abstractmethod
    def open(self) -> bool:
        """Whether its result is still awaited."""

    @property
    @abstractmethod
    def most(self) -> int:
        """The most tokens that it may hold at one time."""

    @property
    @abstractmethod
    def widths(self) -> list[int]:
        """For each branch the number of tokens of its next pass, without drafts."""

    @property
    def rows(self) -> int:
        """The most branches that it may hold at one time."""
        return 1

    @property
    def width(self) -> int:
        """Tokens of its next pass, without drafts."""
        return sum(self.widths)

    @property
    def reserved(self) -> int:
        """Tokens of its next pass, and the memory to keep for drafts that must not be dropped."""
        return self.width if self.drafts is None else self.width + sum([draft.bound for draft in self.drafts])

    @property
    def drafted(self) -> list[int]:
        """For each branch the number of drafted tokens of its next pass."""
        return [0] * len(self.widths) if self.drafts is None else [len(draft) for draft in self.drafts]

    @property
    def needed(self) -> list[int]:
        """For each branch the number of tokens of its next pass."""
        return [width + drafted for width, drafted in zip(self.widths, self.drafted, strict=True)]

    @property
    def bounds(self) -> list[int]:
        """For each branch the memory to keep for drafts that must not be dropped, see :attr:`Draft.bound`."""
        return [0] * len(self.widths) if self.drafts is None else [draft.bound for draft in self.drafts]

    @abstractmethod
    def prompts(self) -> list[list[int]]:
        """For each branch the tokens that must be computed before its next pass."""

    @abstractmethod
    def segments(self, slots: Sequence[Slots]) -> list[Segment]:
        """For each branch what its next pass computes, in the given slots (n,)."""

    def checks(self, rows: Sequence[range]) -> list[DraftCheck]:
        """The drafts that are verified together with those of all other jobs; ``rows`` as in :class:`JobOutput`."""
        return []

    @abstractmethod
    def commit(self, output: JobOutput, counters: Counters) -> Committed:
        """Verify and take the results of a pass: all its slots are given back or hold committed tokens afterwards."""

    @property
    def most_steps(self) -> int:
        """The most tokens that it may take with nothing to decide on them but logits and noise; 0 where more does."""
        return 0

    def plan_steps(self, count: int) -> None:
        """Take up to ``count`` tokens, at most :attr:`most_steps`, in as many passes that are made next."""

    def step_row(self, slots: Slots) -> StepRow:
        """What its planned steps read; only where :attr:`most_steps` is not 0, for the one branch."""
        raise NotImplementedError

    def commit_steps(self, new: StepTokens, slots: Slots, counters: Counters) -> Committed:
        """Take the tokens that planned steps gave, perhaps none."""
        raise NotImplementedError

    @abstractmethod
    def finished(self) -> None:
        """Send the reply, or what this job adds to it. Called once, after a commit that ended the job."""

    def expect_drafts(self) -> None:
        """Record that a drafter is in use, even where it never drafts."""

    def take_drafts(self, drafts: list[Draft]) -> None:
        """Store drafts for the next pass, one for each sequence."""
        self.drafts = drafts

    def drop_drafts(self) -> None:
        """Go without drafts in the next pass."""
        if self.drafts is not None:
            self.drafts = [NO_DRAFT] * len(self.sequences)

    def join(self, cache: RadixCache) -> None:
        """Add its branches to the prefix cache. Raises OutOfMemory, with those branches that found room."""
        for tokens in self.prompts():
            self.branches.append(PageTable(cache, tokens))

    def leave(self, *, keep: bool) -> None:
        """Release its branches and drafts; ``keep`` leaves the tokens cached until their memory is needed."""
        branches, self.branches, self.drafts = self.branches, [], None
        for branch in branches:
            branch.release(keep=keep)


class GenerationJob(Job):
    """A job that generates text: a pass computes each sequence's last token and its draft."""

    def join(self, cache: RadixCache) -> None:
        """See :class:`Job`."""
        super().join(cache)
        for sequence, branch in zip(self.sequences, self.branches, strict=True):
            sequence.hold(branch)

    def leave(self, *, keep: bool) -> None:
        """See :class:`Job`."""
        for sequence in self.sequences:
            sequence.hold(None)
        super().leave(keep=keep)

    @property
    def widths(self) -> list[int]:
        """The last token of every sequence."""
        return [1] * len(self.sequences)

    @property
    def width(self) -> int:
        """The last token of every sequence."""
        return len(self.sequences)

    def prompts(self) -> list[list[int]]:
        """Of every sequence all tokens but the last."""
        return [sequence.tokens[:-1] for sequence in self.sequences]

    def segments(self, slots: Sequence[Slots]) -> list[Segment]:
        """Of every sequence the last token and the draft."""
        parts = zip(self.sequences, self.next_drafts(), self.branches, slots, strict=True)
        return [segment_of(*part) for part in parts]

    def next_drafts(self) -> list[Draft]:
        """For each sequence its draft, perhaps empty."""
        return [NO_DRAFT] * len(self.sequences) if self.drafts is None else self.drafts


_FIRST = range(1)


def segment_of(sequence: SequenceState, draft: Draft, branch: PageTable, slots: Slots) -> Segment:
    """The last token (slot 0) and the draft (slots 1 ...)."""
    if not draft.tokens:
        return Segment(sequence.tokens[-1:], slots, branch.table, branch.node, None, _FIRST)
    parents = [-1, *(parent + 1 for parent in draft.parents)]
    tokens = [sequence.tokens[-1], *draft.tokens]
    return Segment(tokens, slots, branch.table, branch.node, parents, range(len(tokens)))
