"""The requests of a batch while it runs, and which of those that wait it takes.

Requests that are wanted for certain are batched first. Those that were sent early fill up a small batch, and run alone
where nothing else waits; as soon as only they are left of a batch and another request waits, they are set aside and
generated again later, to the same texts, as noise is keyed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from treeagent.request import Request, ScoreRequest

from ..local.base import reply_of
from ..local.request_queue import PendingRequest
from ..local.sample import Sample
from ..local.text_streams import TextStreams

Pending = PendingRequest[Request | ScoreRequest]


def choose(waiting: Sequence[Pending], free: int) -> list[Pending]:
    """All requests that are certain, and the likeliest early ones as far as there are no more than ``free`` rows.

    Without certain ones the likeliest early one in any case.
    """
    batch = [pending for pending in waiting if not pending.early]
    rows = sum(map(_rows, batch))
    for pending in sorted((one for one in waiting if one.early), key=lambda one: -one.priority):
        rows += _rows(pending)
        if batch and rows > free:
            break
        batch.append(pending)
    return batch


def _rows(pending: Pending) -> int:
    request = pending.request
    if isinstance(request, ScoreRequest):
        return len(request.continuations)
    return request.n * request.sampling.num_beams


class Generation:
    """The samples of one request, which is answered when the last of them is complete."""

    def __init__(self, pending: Pending, batch: Batch) -> None:
        self.pending = pending
        self.samples: Sequence[Sample] = ()
        self.aside = False
        """Whether it was given up for others and has to be run again."""
        self._batch = batch
        self._unfinished = 0

    def start(self, samples: Sequence[Sample]) -> None:
        """These are its samples."""
        self.samples, self._unfinished = samples, len(samples)
        self._batch.streams.add(self.pending, samples)

    @property
    def running(self) -> bool:
        """Whether its answer is still being worked out."""
        return self._unfinished > 0 and not self.aside and self.pending.is_wanted()

    def is_wanted(self) -> bool:
        """Whether it is to be continued."""
        if not self.aside and self.pending.early and self._batch.yields():
            self.aside = self._unfinished > 0
        return not self.aside and self.pending.is_wanted()

    def finished(self) -> None:
        """One more sample is complete."""
        self._unfinished -= 1
        if self._unfinished == 0:
            self._batch.streams.hand_out()  # before the reply
            self.pending.answer(reply_of(self.samples))


class Batch:
    """The generations of one batch."""

    def __init__(self, certain_waiting: Callable[[], bool]) -> None:
        """``certain_waiting``: whether a request waits for another batch that is wanted for certain."""
        self.generations: list[Generation] = []
        self.streams = TextStreams()
        self._certain_waiting = certain_waiting

    def add(self, pending: Pending) -> Generation:
        """A request's generation, which has not started."""
        self.generations.append(Generation(pending, self))
        return self.generations[-1]

    def yields(self) -> bool:
        """Whether early requests give way: others wait, and the batch has none of their kind any more."""
        return self._certain_waiting() and not any(
            not generation.pending.early and generation.running for generation in self.generations
        )

    def set_aside(self) -> list[Pending]:
        """The requests that have to be run again."""
        return [generation.pending for generation in self.generations if generation.aside]
