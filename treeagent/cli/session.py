"""Run searches with a progress view, stop them on Ctrl-C, and print their results."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..display.progress import Lines, Progress, Screen
from ..display.text import printable
from ..errors import ConfigError
from ..stop_signals import STOP_SIGNALS
from ..text import lines as split_lines
from ..text import strip_breaks
from .arguments import say
from .metrics_text import backends, early, judging, models, paragraph

if TYPE_CHECKING:
    from ..reply import Usage
    from ..runtime.agent import Agent
    from ..runtime.result import Result
    from ..runtime.run import Run
    from ..thought import Thought


def view(*, quiet: bool, live: bool = False) -> Progress:
    """The progress view for this terminal, on standard error. Raises ConfigError for ``quiet`` with ``live``."""
    if quiet and live:
        raise ConfigError("--live and --quiet exclude each other")
    return view_for(Console(stderr=True), say, quiet=quiet, live=live)


def run(
    agent: Agent,
    text: str,
    view: Progress,
    *,
    journal: Path | None = None,
    resume: bool = False,
    row: Mapping[str, Any] | None = None,
) -> Result:
    """Run one search, which a stop signal ends with the best attempt. Raises what :meth:`Agent.asolve` raises."""
    search = agent.run(text, journal=journal, on_event=view.event, resume=resume, row=row)

    async def solve() -> Result:
        with _stop_on_signal(search, view):
            return await search.result()

    return asyncio.run(solve())


@contextmanager
def _stop_on_signal(search: Run, view: Progress) -> Iterator[None]:
    """Let the first stop signal end the search; the journal is flushed with every event."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.call_soon_threadsafe(search.stop)
        number = STOP_SIGNALS.first
        how = "" if number in (None, signal.SIGINT) else f" after {signal.Signals(number).name}"
        loop.call_soon_threadsafe(view.note, f"Stopping{how}; press Ctrl-C again to end at once.")

    with STOP_SIGNALS.handled(stop):
        yield


def report(task: str, result: Result, engine: Mapping[str, Any] | None = None) -> str:
    """The path, the answer and the cost, for a person; ``engine`` are the figures to show, all where it is None."""
    thoughts: list[Thought] = [] if result.thought is None else result.tree.lineage(result.thought)
    lines = [f"{task}: {result.input}"]
    if result.answer is None:
        lines.append("Best attempt:" if thoughts else "No thought was kept.")
    width = min(max((len(_indent(thought.text)) for thought in thoughts), default=0), 60)
    for number, thought in enumerate(thoughts, 1):
        value = "" if thought.value is None else f"  value {thought.value:g}"
        lines.append(f"  {number}. {_indent(thought.text):<{width}}{value}".rstrip())
    if result.answer is None:
        lines.append("No solution found.")
    else:
        verdict = {True: "solved", False: "wrong: the task's own check refuses it", None: "not verified"}[result.solved]
        lines.append(f"Answer: {_indent(result.answer) or _NO_STEPS}  ({verdict})")
    lines.extend(_bill(result))
    lines.extend(paragraph("engine", result.engine if engine is None else engine))
    return printable("\n".join(lines))


def _bill(result: Result) -> list[str]:
    usage, counts, guesses = result.usage, result.counts, result.speculated
    prompt, completion = (_known(amount) for amount in (usage.prompt_tokens, usage.completion_tokens))
    dollars = "unknown" if usage.dollars is None else f"{usage.dollars:.4f}"
    ended = "" if result.ended == "finished" else f"Stopped early: {_WHY.get(result.ended, result.ended)}."
    return [
        *([ended] if ended else []),
        *backends(result.settings),
        f"{usage.calls:,} calls, {prompt} prompt + {completion} completion tokens{_reasoning(usage)}, "
        f"{result.seconds:.1f} s, "
        f"dollars {dollars}",
        *models(result.models, result.tree),
        *judging(result.judging),
        f"{counts.thoughts:,} thoughts, {counts.duplicates:,} duplicates merged, {counts.illegal:,} illegal dropped, "
        f"{counts.unparsed:,} unparsed, {counts.judgements_unparsed:,} judgements unparsed"
        + (f", {counts.failed:,} failed in the tool" if counts.failed else ""),
        *(
            ()
            if guesses is None
            else early(
                sum(guesses.hits.values()),
                sum(guesses.misses.values()),
                guesses.tokens_at_least,
                guesses.seconds_saved,
            )
        ),
        *_lacking(result),
    ]


def _reasoning(usage: Usage) -> str:
    """How many of the completion tokens are reasoning; nothing where none is."""
    return "" if usage.reasoning_tokens == 0 else f" ({_known(usage.reasoning_tokens)} of them reasoning)"


_NO_STEPS = "no step is needed, the input is solved as it stands"


def _lacking(result: Result) -> list[str]:
    """What the replies lacked, one line each: texts cut off, refusals, completions that did not come."""
    lines = []
    for role, cut in result.cut_off.items():
        thinking = f" ({cut.thinking:,} of them while thinking)" if cut.thinking else ""
        for number, how in ((cut.empty, f" before any text{thinking}"), (cut.truncated - cut.empty, "")):
            if number:
                lines.append(f"{_completions(number)} cut off at max_tokens{how}; raise sampling.{role}.max_tokens")
    if refused := result.counts.refused:
        subject = "1 request or completion was" if refused == 1 else f"{refused:,} requests or completions were"
        lines.append(f"{subject} refused, which ends their branches ({result.refusal})")
    if result.counts.missing:
        lines.append(f"{_completions(result.counts.missing)} asked for and did not come")
    return lines


def _completions(number: int) -> str:
    return "1 completion was" if number == 1 else f"{number:,} completions were"


_WHY = {
    "interrupted": "interrupted",
    "failed": "the search failed",
    "refused": "the backend refused every request",
    **{limit: f"the budget of {limit} is used up" for limit in ("calls", "tokens", "seconds", "nodes", "dollars")},
}


def _known(amount: int | None) -> str:
    return "unknown" if amount is None else f"{amount:,}"


def _indent(text: str) -> str:
    """The text with further lines indented below the first."""
    return "\n     ".join(split_lines(strip_breaks(text)))


def view_for(console: Console, write: Callable[[str], None], *, quiet: bool = False, live: bool = False) -> Progress:
    """The view for the kind of standard error; ``live`` adds the tree on a terminal."""
    if quiet:
        return Progress()
    if console.is_terminal and not console.is_dumb_terminal:
        from ..display.live_tree import LiveTree

        return LiveTree(console) if live else Screen(console)
    if live:
        write("--live needs a terminal; showing plain progress.")
    return Lines(write)
