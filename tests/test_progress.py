"""What is shown of a search while it runs: lines, the tally, and the live view."""

from __future__ import annotations

from rich.console import Console

from treeagent.display.progress import Lines, Screen, Tally
from treeagent.runtime.recorded_event import RecordedEvent


def test_progress_lines_come_at_most_once_a_second_and_at_least_every_ten():
    """A change is printed after a second; without changes a line still appears every ten seconds."""
    now, lines = [0.0], []
    progress = Lines(lines.append, clock=lambda: now[0])
    progress.begin("searching")
    assert lines == ["searching ..."]
    progress.event(RecordedEvent("thought", {"id": 1, "text": "a step", "depth": 1}))
    now[0] = 0.9
    progress.tick()
    assert len(lines) == 1
    now[0] = 1.0
    progress.tick()
    progress.tick()
    assert lines[1:] == ["searching: 1.0 s | 1 thoughts, depth 1 | 0 calls | 0 tokens (0 generated/s)"]
    now[0] = 10.9
    progress.tick()
    assert len(lines) == 2
    now[0] = 11.0
    progress.tick()
    assert len(lines) == 3


def test_the_tally_shows_the_best_thought_the_deepest_of_equals():
    """Best so far is the highest value; among equals the one nearest to a solution."""
    tally = Tally()
    for id, depth, value in ((1, 1, 20.0), (2, 2, 20.0), (3, 3, 1.0), (4, 3, None)):
        tally.feed(RecordedEvent("thought", {"id": id, "text": f"step {id}", "depth": depth}))
        tally.feed(RecordedEvent("judged", {"id": id, "value": value}))
    assert tally.best == "step 2"
    assert tally.depth == 3


def test_the_live_view_shows_numbers_speed_and_the_best_thought():
    """Drawn from the events alone, with no terminal and no clock of its own."""
    now = [0.0]
    screen = Screen(Console(), clock=lambda: now[0])
    screen.begin("searching game24")
    screen.event(RecordedEvent("completion", {"usage": {"prompt_tokens": 100, "completion_tokens": 50}}))
    screen.event(RecordedEvent("thought", {"id": 1, "text": "4 * 6 = 24 \x1b[31m", "depth": 1}))
    screen.event(RecordedEvent("judged", {"id": 1, "value": 20.0}))
    now[0] = 2.0
    text = screen.draw().plain
    for part in (
        "searching game24  2.0 s",
        "thoughts 1",
        "tokens 150",
        "generated 25/s",
        "4 * 6 = 24 \N{REPLACEMENT CHARACTER}[31m  20",
    ):
        assert part in text
