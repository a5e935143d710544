"""Rounds of several schedulers, whose passes are made as one."""

from __future__ import annotations

from collections.abc import Sequence

from ..executor.joint_pass import can_join, forward_jointly
from .scheduler import AskedPass, PassOutput, Scheduler, Steps


def share_rounds(first: Scheduler, other: Scheduler) -> bool:
    """Whether the rounds of two schedulers can be made together."""
    plain = first.policy == other.policy == "rounds"
    return plain and can_join(first.runner, other.runner)


def run_rounds(schedulers: Sequence[Scheduler]) -> list[BaseException | None]:
    """One round of each, with one pass for all; for each what it raised. A pass that fails fails all of them.

    All of them :func:`share_rounds`.
    """
    errors: list[BaseException | None] = [None] * len(schedulers)
    waiting: list[tuple[int, Steps, AskedPass]] = []
    for place, scheduler in enumerate(schedulers):
        steps = scheduler.round()
        try:
            asked = next(steps, None)
        except BaseException as error:  # noqa: BLE001  # the round's boundary: the others go on
            errors[place] = error
            continue
        if asked is not None:
            waiting.append((place, steps, asked))
    if not waiting:
        return errors
    runner = schedulers[waiting[0][0]].runner
    before = runner.seconds
    try:
        made = forward_jointly([(schedulers[place].runner, asked.segments) for place, _, asked in waiting])
    except BaseException as error:  # noqa: BLE001  # the round's boundary
        for place, _, _ in waiting:
            errors[place] = error
        return errors
    seconds, reads = runner.seconds - before, any(asked.reads for _, _, asked in waiting)
    for (place, steps, _), (logits, rows) in zip(waiting, made, strict=True):
        try:
            steps.send(PassOutput(logits, rows, seconds, reads))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001  # the round's boundary: the others go on
            errors[place] = error
    return errors
