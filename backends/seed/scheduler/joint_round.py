"""Rounds of several schedulers, whose passes are made as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from ..executor.joint_pass import can_join, forward_jointly
from .scheduler import AskedPass, PassOutput, Scheduler, Steps

NO_LOGITS = torch.empty(0)
"""Of passes whose tokens are drawn already."""


def share_rounds(first: Scheduler, other: Scheduler) -> bool:
    """Whether the rounds of two schedulers can be made together."""
    plain = first.policy == other.policy == "rounds"
    return plain and can_join(first.runner, other.runner)


def run_rounds(schedulers: Sequence[Scheduler]) -> list[BaseException | None]:
    """One round of each, with one pass for all; for each what it raised. A pass that fails fails all of them.

    All of them :func:`share_rounds`.
    """
    errors: list[BaseException | None] = [None] * len(schedulers)

    @contextmanager
    def failing(*places: int) -> Iterator[None]:
        """The rounds at these places end with what is raised inside; the others go on."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # the engine's boundary: whatever it is, requests must hear of it
            for place in places:
                errors[place] = error

    waiting: list[tuple[int, Steps, AskedPass]] = []
    for place, scheduler in enumerate(schedulers):
        with failing(place):
            steps = scheduler.round(alone=len(schedulers) == 1)
            if (asked := next(steps, None)) is not None:
                waiting.append((place, steps, asked))
    if not waiting:
        return errors
    runner = schedulers[waiting[0][0]].runner
    before = runner.seconds
    place, steps, asked = waiting[0]
    if asked.steps:  # it is alone
        with failing(place), suppress(StopIteration):
            found = runner.take_steps(asked.steps)
            steps.send(PassOutput(NO_LOGITS, (), runner.seconds - before, False, found))
        return errors
    made: Sequence[tuple[torch.Tensor, list[range]]] = ()
    with failing(*(place for place, _, _ in waiting)):
        made = forward_jointly([(schedulers[place].runner, asked.segments) for place, _, asked in waiting])
    seconds, reads = runner.seconds - before, any(asked.reads for _, _, asked in waiting)
    for (place, steps, _), (logits, rows) in zip(waiting, made, strict=False):  # none where the pass failed
        with failing(place), suppress(StopIteration):
            steps.send(PassOutput(logits, rows, seconds, reads))
    return errors
