"""Progress of an evaluation: the problems that are done, right and failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..display.board import StepBoard
from ..evaluation.outcomes import Outcome


@contextmanager
def eval_progress(
    total: int, known: Sequence[Outcome], *, quiet: bool, what: str = "", aside: Callable[[], str] = str
) -> Iterator[Callable[[Outcome], None]]:
    """Show the progress of an evaluation of ``total`` problems; yields the function to call with each new outcome.

    ``aside`` says what else is shown beside the count.
    """
    outcomes = {outcome.number: outcome for outcome in known}
    tokens, began = 0, time.monotonic()

    def finished() -> int:
        return sum(outcome.error is None for outcome in outcomes.values())

    def detail() -> str:
        right = sum(bool(outcome.right) for outcome in outcomes.values())
        failed = sum(outcome.error is not None for outcome in outcomes.values())
        seconds = time.monotonic() - began
        rate = f", {tokens / seconds:,.0f} generated tokens/s" if tokens and seconds > 0 else ""
        return (
            f"{right} right"
            + (f", {failed} failed" if failed else "")
            + rate
            + (f", {more}" if (more := aside()) else "")
        )

    done = f", {finished()} of them done already" if outcomes else ""
    title = f"{what}evaluating {total} problems{done}"
    with StepBoard(quiet=quiet).step(title, total, finished()) as step:

        def add(outcome: Outcome) -> None:
            nonlocal tokens
            outcomes[outcome.number] = outcome
            tokens += outcome.completion_tokens or 0
            step.show(finished(), detail())

        yield add
