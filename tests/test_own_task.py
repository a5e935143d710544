"""The walk-through of docs/own-task.md, followed word for word, from an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOC = Path(__file__).parents[1] / "docs" / "own-task.md"
PART = re.compile(
    r"^Put this (?P<how>into|at the end of) `(?P<file>[\w.]+)`[^\n]*:\n\n```\w+\n(?P<content>.*?)^```"
    r"|^```sh\n(?P<commands>.*?)^```"
    r"|^<!-- fault: (?P<right>\w+) -> (?P<wrong>\w+) -->\n```text\n(?P<said>.*?)^```"
    r"|^```text\n(?P<shown>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


def follow(text: str, folder: Path) -> str:
    """Write what is to be written, run what is to be run, compare what is shown; returns the last command's output."""
    output = ""
    for part in PART.finditer(text):
        if part["file"]:
            with (folder / part["file"]).open("w" if part["how"] == "into" else "a") as file:
                file.write(part["content"])
        elif part["commands"]:
            output = run(part["commands"], folder)
        elif part["said"]:
            own = folder / "mine.yaml"
            right = own.read_text()
            own.write_text(right.replace(f"{part['right']}:", f"{part['wrong']}:"))
            assert part["said"].strip() in run("treeagent tasks validate mine.yaml", folder, code=2)
            own.write_text(right)
        else:
            for line in part["shown"].splitlines():
                assert line.strip() in output, f"{line!r} is not in\n{output}"
    return output


def run(commands: str, folder: Path, code: int = 0) -> str:
    """What a shell prints. ``treeagent`` is the module of this interpreter, whatever is installed."""
    script = f'treeagent() {{ "{sys.executable}" -P -m treeagent "$@"; }}\nset -e\n{commands}'
    if sys.version_info < (3, 11):
        script = script.replace(" -P ", " ")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == code, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_the_walk_through_works_as_it_stands(tmp_path: Path) -> None:
    """Each file is written, each command run and each line of output found, from nothing to a verified answer."""
    output = follow(DOC.read_text(), tmp_path)
    assert "Answer: " in output
    assert " / " not in output.partition("Answer: ")[2].partition("(solved)")[0]
    assert (tmp_path / "tree.svg").read_text().startswith("<")


def test_everything_shown_is_followed() -> None:
    """No block of the document lies outside what the test above does with it."""
    text = DOC.read_text()
    assert len(list(PART.finditer(text))) == text.count("\n```") // 2
    assert {part["file"] for part in PART.finditer(text)} - {None} == {"mine.yaml", "puzzles.csv", "mine.py"}


@pytest.mark.parametrize("hand", ["1 2 6 12", "4 9 10 13", "2 3 4 12"])
def test_the_puzzles_of_the_document_can_be_solved_without_dividing(hand: str) -> None:
    """By the answers that it names."""
    from treeagent.tasks.game24 import Game24

    rows = dict(re.findall(r"^([\d ]+),(.*)$", DOC.read_text(), re.MULTILINE))
    assert "/" not in rows[hand]
    assert Game24().verify(hand, [], rows[hand])
