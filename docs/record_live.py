"""Records ``treeagent solve --live`` as an animated SVG: ``python docs/record_live.py docs/live.svg``.

The frames are those of the live view, drawn while the bundled model solves a puzzle; the last one is the result.
"""

from __future__ import annotations

import argparse
import io
import re
import time
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from treeagent import Agent, Event
from treeagent.cli.session import report
from treeagent.display.live_tree import LiveTree

COLUMNS, ROWS = 100, 19
EVERY = 0.12
"""Seconds of the search between two frames."""
SHOWN, LAST = 0.35, 5.0
"""Seconds that a frame is shown, and the last one."""


def console() -> Console:
    """A terminal of fixed size that keeps what it is given."""
    return Console(record=True, width=COLUMNS, height=ROWS, force_terminal=True, file=io.StringIO())


def record(task: str, search: str, input: str) -> list[RenderableType]:
    """The frames of one run, the result last."""
    view, frames, last = LiveTree(console()), [], 0.0
    agent = Agent(task, search)
    agent.backend.load()
    view.begin(f"searching {task} {input}")

    def draw(event: Event) -> None:
        nonlocal last
        view.event(event)
        if time.monotonic() - last >= EVERY:
            frames.append(view.draw())
            last = time.monotonic()

    result = agent.solve(input, on_event=draw)
    return [*frames, view.draw(), Text(report(task, result))]


def svg(frame: RenderableType, number: int, title: str) -> str:
    """One frame as an SVG image of its own."""
    terminal = console()
    terminal.print(frame)
    for _ in range(ROWS - len(terminal.export_text(clear=False).splitlines())):
        terminal.print()
    return re.sub(r"@font-face \{.*?\}\s*", "", terminal.export_svg(title=title, unique_id=f"f{number}"), flags=re.S)


def animation(images: list[str]) -> str:
    """The images one after another, for ever; where there is no animation the last one is shown."""
    [size] = {re.search(r'viewBox="([^"]+)"', image)[1] for image in images}  # type: ignore[index]
    seconds = SHOWN * (len(images) - 1) + LAST
    rules, bodies = [], []
    for number, image in enumerate(images):
        start, end = (100 * SHOWN * each / seconds for each in (number, number + 1))
        hidden = "" if number == len(images) - 1 else f" {end:.3f}% {{visibility: hidden}}"
        before = f"0% {{visibility: hidden}} {start:.3f}%" if number else "0%"
        rules.append(f"@keyframes k{number} {{{before} {{visibility: visible}}{hidden}}}")
        rules.append(f"#frame{number} {{visibility: hidden; animation: k{number} {seconds:.2f}s step-end infinite}}")
        bodies.append(f'<g id="frame{number}">{image}</g>')
    rules.append(f"#frame{len(images) - 1} {{visibility: visible}}")
    style = "<style>" + "\n".join(rules) + "</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}">\n{style}\n' + "\n".join(bodies) + "\n</svg>\n"


def main() -> None:
    """Record one run of the command that the title shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--input", default="4 9 10 13")
    words = parser.parse_args()
    title = f'treeagent solve --task game24 --search bfs --input "{words.input}" --live'
    frames = record("game24", "bfs", words.input)
    words.file.write_text(animation([svg(frame, number, title) for number, frame in enumerate(frames)]))


if __name__ == "__main__":
    main()
