"""``solve --live``: the growing tree on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ORACLE, TESTS, call
from rich.cells import cell_len
from rich.console import Console

from treeagent.display.live_tree import LiveTree, TreeGrowth
from treeagent.runtime.recorded_event import RecordedEvent

NESTED = [(1, 0, 5.0), (2, 0, 20.0), (3, 0, None), (4, 2, 1.0), (5, 2, 20.0), (6, 5, 3.0), (7, 1, 2.0)]
"""Id, parent and value of some thoughts."""


def grown(thoughts: list[tuple[int, int, float | None]] = NESTED) -> TreeGrowth:
    """A tree of thoughts called ``step 1``, ``step 2`` ..."""
    growth, depth = TreeGrowth("input"), {0: 0}
    for id, parent, value in thoughts:
        depth[id] = depth[parent] + 1
        data = {"id": id, "parent": parent, "text": f"step {id}", "state": f"state {id}", "depth": depth[id]}
        growth.feed(RecordedEvent("thought", data))
        growth.feed(RecordedEvent("judged", {"id": id, "value": value, "labels": ["sure"] if value == 20 else []}))
    return growth


def text(growth: TreeGrowth, rows: int, width: int = 80) -> list[str]:
    """The lines without their colours."""
    return [line.plain for line in growth.lines(width, rows)]


def test_a_tree_that_fits_is_shown_whole_in_the_order_it_grew():
    """Guides show who follows whom; values, labels and states stand beside the steps; unknown is not 0."""
    growth = grown()
    growth.feed(RecordedEvent("dropped", {"id": 2, "index": 9, "text": "x", "why": "illegal"}))
    growth.feed(RecordedEvent("answer", {"id": 6, "answer": "42"}))
    growth.feed(RecordedEvent("thought", {"id": 8, "parent": 3, "text": "step 8", "state": "step", "depth": 2}))
    assert text(growth, 30) == [
        "input",
        "├─ step 1  state 1  5",
        "│  └─ step 7  state 7  2",
        "├─ step 2  state 2  20 sure  (1 dropped)",
        "│  ├─ step 4  state 4  1",
        "│  └─ step 5  state 5  20 sure",
        "│     └─ step 6  state 6  3  -> 42",
        "└─ step 3  state 3  value unknown",
        "   └─ step 8  not judged",
    ]


def test_what_does_not_fit_is_folded_and_counted():
    """The best paths stay; the others are counted at their place."""
    assert text(grown(), 5) == ["input", "├─ step 2  state 2  20 sure", "│  └─ +2 more", "└─ +2 more"]
    assert text(grown(), 6) == [
        "input",
        "├─ step 2  state 2  20 sure",
        "│  ├─ step 4  state 4  1",  # its fold would be as long
        "│  └─ step 5  state 5  20 sure",
        "│     └─ step 6  state 6  3",
        "└─ +2 more",
    ]


@pytest.mark.parametrize("rows", range(1, 14))
def test_the_window_is_never_overrun(rows):
    """However low and narrow it is, and whatever the texts are made of."""
    growth = grown([(id, (id - 1) // 3, float(id % 7)) for id in range(1, 200)])
    growth.leaves[5].text = "宽" * 200
    for width in (10, 40, 120):
        lines = growth.lines(width, rows)
        assert 1 <= len(lines) <= rows
        assert all(cell_len(line.plain) <= width for line in lines)
    shown = growth.shown(rows)
    assert all(growth.leaves[id].parent in shown for id in shown if id)
    folded = sum(int(found[1]) for line in text(growth, rows) if (found := re.search(r"\+(\d+) more", line)))
    direct = sum(len(growth.leaves[id].children) for id in shown)
    if rows > 1:
        assert folded == direct - (len(shown) - 1)


def test_an_answer_is_shown_before_any_value():
    """Its whole path has room first."""
    growth = grown()
    growth.feed(RecordedEvent("answer", {"id": 7, "answer": "42"}))
    assert 7 in growth.shown(6)
    assert 7 not in grown().shown(6)


def test_texts_cannot_steer_the_terminal():
    """Control, bidirectional and line-breaking characters are replaced, in steps, states, labels and answers."""
    bad = "a\x1b[31m\n\u202e\u2028\x07b"
    growth = TreeGrowth(bad)
    growth.feed(RecordedEvent("thought", {"id": 1, "parent": 0, "text": bad, "state": f"{bad}!", "depth": 1}))
    growth.feed(RecordedEvent("judged", {"id": 1, "value": 1.0, "labels": [bad]}))
    growth.feed(RecordedEvent("answer", {"id": 1, "answer": bad}))
    assert all(char.isprintable() for line in text(growth, 9) for char in line)


def test_a_resumed_run_tells_its_story_anew():
    """Ids come again; nothing is shown twice, and the input stays."""
    growth = grown()
    growth.feed(RecordedEvent("resumed", {"budget": {}}))
    assert text(growth, 9) == ["input"]
    growth.feed(RecordedEvent("thought", {"id": 1, "parent": 0, "text": "step 1", "state": "1", "depth": 1}))
    assert len(text(growth, 9)) == 2


def test_the_view_fits_the_window_with_its_numbers():
    """Drawn from the events alone; the tree stands below the tally."""
    console = Console(width=60, height=12, force_terminal=True)
    view = LiveTree(console, clock=lambda: 0.0)
    view.begin("searching")
    assert "searching" in view.draw().plain
    view.event(RecordedEvent("run", {"input": "4 9 10 13"}))
    for id in range(1, 40):
        view.event(RecordedEvent("thought", {"id": id, "parent": 0, "text": f"step {id}", "state": "s", "depth": 1}))
        view.event(RecordedEvent("judged", {"id": id, "value": float(id), "labels": [], "unparsed": 0}))
    lines = view.draw().plain.splitlines()
    assert len(lines) < 12
    assert "4 9 10 13" in lines
    assert any("step 39" in line for line in lines)
    assert any("more" in line for line in lines)


def test_without_a_terminal_there_is_ordinary_progress_and_one_line_that_says_so():
    """Standard output is what it would be without the option."""
    result = call("solve", *ORACLE, "--live", "--json")
    assert json.loads(result.stdout)["solved"] is True
    assert result.stderr.count("--live needs a terminal") == 1
    assert "searching game24" in result.stderr
    assert "├─" not in result.stderr


def test_live_and_quiet_exclude_each_other():
    """One line, and no search."""
    result = call("solve", *ORACLE, "--live", "--quiet")
    assert result.exit_code == 2
    assert "--live and --quiet exclude each other" in result.stderr
    assert result.stdout == ""


def on_a_terminal(folder: Path, *words: str) -> tuple[str, str]:
    """Standard output, and what a terminal of 24 rows that is standard error was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env: dict[str, Any] = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    env |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        env.pop(name, None)
    command = [sys.executable, "-c", "from treeagent.cli import main; main()", *words]
    with (folder / "out").open("w+") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=theirs, env=env)
        os.close(theirs)
        seen = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # Linux says so where others say nothing: the other end is closed
                more = b""
            if not more:
                break
            seen += more
        os.close(ours)
        assert process.wait(60) == 0
        out.seek(0)
        return out.read(), seen.decode()


def test_on_a_terminal_the_tree_is_drawn_and_wiped_and_the_json_is_untouched(tmp_path):
    """The tree goes to standard error, is gone at the end, and no frame is taller than the window."""
    out, seen = on_a_terminal(tmp_path, "solve", *ORACLE, "--live", "--json")
    assert json.loads(out)["solved"] is True
    assert len(out.splitlines()) == 1
    assert "└─" in seen
    frames = re.split(r"(?:\x1b\[1A\x1b\[2K)+", seen)
    assert all(frame.count("\n") < 24 for frame in frames)
    assert seen.rstrip("\r\n").endswith(("\x1b[2K", "\x1b[?25h"))
