"""Progress of a search: a live view on a terminal, lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .board import Ticker
from .text import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live as RichLive
    from rich.text import Text

    from ..runtime.journal import Event

Clock = Callable[[], float]

EVERY = 1.0
"""Shortest time between two lines, in seconds."""
HEARTBEAT = 10.0
"""Longest time between two lines, in seconds, so that a search never appears to hang."""


@dataclass(slots=True)
class Tally:
    """The counts of a run, summed over its events."""

    thoughts: int = 0
    depth: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dropped: int = 0
    best: str = ""
    """Text of the thought with the highest value; of equal values the deepest."""
    value: float | None = None
    answer: str | None = None
    early_hits: int = 0
    """Requests that were sent early and asked for later."""
    early_misses: int = 0
    early_tokens: int = 0
    """What the misses are known to have cost."""
    _best_depth: int = 0
    _thoughts: dict[int, tuple[str, int]] = field(default_factory=dict)

    def feed(self, event: Event) -> None:
        """Count one event."""
        data = event.data
        if event.type in ("completion", "scores"):
            self.calls += 1
            self.prompt_tokens += data["usage"]["prompt_tokens"] or 0
            self.completion_tokens += data["usage"]["completion_tokens"] or 0
        elif event.type == "thought":
            self.thoughts += 1
            self.depth = max(self.depth, data["depth"])
            self._thoughts[data["id"]] = (data["text"], data["depth"])
        elif event.type == "dropped":
            self.dropped += 1
        elif event.type == "judged" and data["value"] is not None:
            text, depth = self._thoughts.get(data["id"], ("", 0))
            if self.value is None or (data["value"], depth) > (self.value, self._best_depth):
                self.best, self.value, self._best_depth = text, data["value"], depth
        elif event.type == "answer":
            self.answer = data["answer"]
        elif event.type == "early" and data["hit"]:
            self.early_hits += 1
        elif event.type == "early":
            self.early_misses += 1
            self.early_tokens += (data["prompt_tokens"] or 0) + (data["completion_tokens"] or 0)

    @property
    def early(self) -> str:
        """Requests that were sent early, in a few words; empty where there were none."""
        sent = self.early_hits + self.early_misses
        if not sent:
            return ""
        wasted = f", {self.early_tokens:,} tokens in vain" if self.early_misses else ""
        return f"sent early: {self.early_hits} of {sent} asked for{wasted}"

    def line(self, seconds: float) -> str:
        """The counts in one line."""
        tokens = self.prompt_tokens + self.completion_tokens
        speed = f" ({self.completion_tokens / seconds:,.0f} generated/s)" if seconds > 0 else ""
        parts = [
            f"{seconds:.1f} s",
            f"{self.thoughts} thoughts, depth {self.depth}",
            f"{self.calls} calls",
            f"{tokens:,} tokens{speed}",
        ]
        if self.early:
            parts.append(self.early)
        if self.answer is not None:
            parts.append(f"last answer written: {one_line(self.answer, WIDTH)}")
        elif self.value is not None:
            parts.append(f"best: {one_line(self.best, WIDTH)} [{self.value:g}]")
        return " | ".join(parts)


class Progress:
    """Keeps the stage and the tally of a search. This base class shows nothing."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.tally = Tally()
        self.stage = ""
        self._began = clock()
        self._reasons: set[str] = set()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop showing."""

    def begin(self, stage: str) -> None:
        """Begin a stage with the clock and the tally at zero."""
        self.stage, self.tally, self._began = stage, Tally(), self.clock()

    def event(self, event: Event) -> None:
        """Count an event of the run."""
        self.tally.feed(event)
        reason = event.data.get("reason") if event.type == "dropped" else None
        if reason is not None and reason not in self._reasons:
            self._reasons.add(reason)
            what = "A step failed" if event.data["why"] == "failed" else "A step could not be read"
            self.note(f"{what}: {str(reason).rstrip('.')}.")

    def note(self, text: str) -> None:
        """Show a message at once."""

    @property
    def text(self) -> str:
        """The stage and the tally in one line."""
        seconds = self.clock() - self._began
        if not self.tally.calls and not self.tally.thoughts:
            return f"{self.stage} ... {seconds:.0f} s"
        return f"{self.stage}: {self.tally.line(seconds)}"


class Lines(Progress):
    """Writes a line at most once a second while the tally changes, else every ten seconds."""

    def __init__(self, write: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._write = write
        self._lock = threading.Lock()
        self._last, self._shown = clock(), ""
        self._ticker = Ticker(self.tick, EVERY / 4)

    def __enter__(self) -> Lines:
        self._ticker.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop the ticker."""
        self._ticker.stop()

    def begin(self, stage: str) -> None:
        """Begin a stage and write its name."""
        super().begin(stage)
        self.note(f"{stage} ...")
        self._shown = self._state()

    def note(self, text: str) -> None:
        """Write a line."""
        with self._lock:
            self._write(text)
            self._last = self.clock()

    def tick(self) -> None:
        """Write a line if one is due."""
        silent, state = self.clock() - self._last, self._state()
        if (silent >= EVERY and state != self._shown) or silent >= HEARTBEAT:
            self._shown = state
            self.note(self.text)

    def _state(self) -> str:
        return f"{self.stage} {self.tally.line(0)}"


class Screen(Progress):
    """A live view, redrawn in place and removed at the end."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._console = console
        self._live: RichLive | None = None

    def __enter__(self) -> Screen:
        from rich.live import Live

        self._live = Live(get_renderable=self.draw, console=self._console, refresh_per_second=8, transient=True)
        self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Remove the view."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """Print a line above the view."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def draw(self) -> Text:
        """Stage and time, counts, best thought."""
        from rich.text import Text

        tally, seconds = self.tally, self.clock() - self._began
        frame = _FRAMES[int(self.clock() * 8) % len(_FRAMES)]
        view = Text.assemble((f"{frame} ", "cyan"), (one_line(self.stage, 60), "bold"), (f"  {seconds:.1f} s", "dim"))
        if tally.calls or tally.thoughts:
            speed = tally.completion_tokens / seconds if seconds > 0 else 0.0
            tokens = tally.prompt_tokens + tally.completion_tokens
            view.append(f"\n  thoughts {tally.thoughts}  depth {tally.depth}  dropped {tally.dropped}")
            view.append(f"  calls {tally.calls}")
            view.append(f"\n  tokens {tokens:,}  generated {speed:,.0f}/s")
        if tally.early:
            view.append(f"\n  {tally.early}")
        if tally.value is not None:
            view.append("\n  best so far  ", "dim").append(one_line(tally.best, WIDTH)).append(
                f"  {tally.value:g}", "green"
            )
        if tally.answer is not None:
            view.append("\n  last answer written  ", "dim").append(one_line(tally.answer, WIDTH), "bold green")
        return view


_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

WIDTH = 72
"""Characters of a text that a line shows."""
