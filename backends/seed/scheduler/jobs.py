"""What the engine works on: sequences that grow by rounds, and scorings, which one pass answers.

A job holds one branch of the forest or several (beams), which join, are verified and are preempted together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...local.sample import Sample
from ..executor.forward_batch import Segment
from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import Slots
from ..records import Draft, SequenceState

NOT_FINITE = (
    "the model returned logits that are not finite (nan, or no token is possible). Its weights may be damaged, or "
    "overflow in this dtype; try dtype=float32."
)


class Job(ABC):
    """A piece of work, with branches as long as it is live."""

    branches: list[PageTable]
    """Empty while it waits, or after its keys and values were given up for others."""
    served: int
    """Round in which it was verified last."""
    failed: Callable[[BaseException], None]

    @property
    @abstractmethod
    def open(self) -> bool:
        """Whether anybody still waits for it."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Tokens that it holds at its longest."""

    @property
    @abstractmethod
    def widths(self) -> list[int]:
        """For each branch the tokens of its next pass without drafts."""

    @property
    def rows(self) -> int:
        """The most branches that it may come to hold."""
        return 1

    @property
    def drafted(self) -> list[int]:
        """For each branch the drafted tokens of its next pass."""
        return [0] * len(self.widths)

    @abstractmethod
    def prompts(self) -> list[list[int]]:
        """For each branch what must be read before its next pass."""

    @abstractmethod
    def spans(self, slots: Sequence[Slots]) -> list[Segment]:
        """What the pass computes for each branch, in the given slots."""

    def drop_drafts(self) -> None:
        """Go without drafts in the next pass."""

    @property
    def width(self) -> int:
        """Tokens of its next pass without drafts."""
        return sum(self.widths)


def span_of(row: SequenceState, draft: Draft, branch: PageTable, slots: Slots) -> Segment:
    """A row's last token and its draft."""
    parents = [-1, *(parent + 1 for parent in draft.parents)]
    tokens = [row.tokens[-1], *draft.tokens]
    return Segment(tokens, slots, branch.table, branch.node, parents if len(draft) else None, range(1 + len(draft)))


@dataclass(slots=True, eq=False)
class DecodeJob(Job):
    """One sample in the making."""

    sample: Sample
    finished: Callable[[], None]
    failed: Callable[[BaseException], None]
    row: SequenceState = field(init=False)
    branches: list[PageTable] = field(default_factory=list)
    draft: Draft | None = None
    """What has been drafted and not verified yet."""
    served: int = 0
    watched: int = 0
    """Tokens of the row that the drafter has seen."""

    def __post_init__(self) -> None:
        sample = self.sample
        self.row = SequenceState(list(sample.prompt), len(sample.prompt), sample.sampling, sample.stream, sample.limit)

    @property
    def open(self) -> bool:
        """Whether anybody still waits for it."""
        return self.sample.open

    @property
    def most(self) -> int:
        """Prompt and text."""
        return self.row.prompt + self.row.limit

    @property
    def widths(self) -> list[int]:
        """The last token."""
        return [1]

    @property
    def drafted(self) -> list[int]:
        """The draft."""
        return [len(self.draft) if self.draft is not None else 0]

    def prompts(self) -> list[list[int]]:
        """Everything but the last token, which the verifying pass reads."""
        return [self.row.tokens[:-1]]

    def spans(self, slots: Sequence[Slots]) -> list[Segment]:
        """Its last token and its draft."""
        return [span_of(self.row, self.draft or Draft(), self.branches[0], slots[0])]

    def drop_drafts(self) -> None:
        """See :class:`Job`."""
        self.draft = Draft()
