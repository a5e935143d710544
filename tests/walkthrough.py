"""Follows a tutorial word for word: writes its files, runs its commands, compares its output."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cli_tools import call

Run = Callable[..., str]

PART = re.compile(
    r"^Put this (?P<how>into|at the end of) `(?P<file>[\w./-]+)`[^\n]*:\n\n```\w+\n(?P<content>.*?)^```"
    r"|^```sh\n(?P<commands>.*?)^```"
    r"|^<!-- fault: (?P<right>\w+) -> (?P<wrong>\w+) -->\n```text\n(?P<said>.*?)^```"
    r"|^```text\n(?P<shown>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
"""One block of a tutorial."""


def files(text: str) -> set[str]:
    """The files that a tutorial writes."""
    return {part["file"] for part in PART.finditer(text)} - {None}


def follows_every_block(text: str) -> bool:
    """Whether no block of a tutorial lies outside what :func:`follow` does with it."""
    return len(list(PART.finditer(text))) == text.count("\n```") // 2


def run(commands: str, folder: Path, code: int = 0) -> str:
    """What the commands print. All run in this process, so that model libraries are imported once."""
    output = ""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in commands.splitlines():
            program, *words = shlex.split(line)
            may_fail = words[-2:] == ["||", "true"]
            words, file = (words[:-2] if may_fail else words), None
            if ">" in words:
                words, file = words[: words.index(">")], words[-1]
            if program == "python":
                text, ended = _run_program(words[0]), 0
            else:
                assert program == "treeagent", line
                result = call(*words)
                text, ended = result.output, result.exit_code
                if file is not None:
                    Path(file).write_text(result.stdout)
            assert may_fail or ended == code, f"{line}\n{text}"
            output += text
    finally:
        os.chdir(before)
    return output


def _run_program(file: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        runpy.run_path(file, run_name="__main__")
    return output.getvalue()


def run_in_shell(commands: str, folder: Path, code: int = 0) -> str:
    """What a shell prints, for tutorials that install a package.

    ``treeagent`` and ``python`` are this interpreter's, and ``pip install`` installs into ``site`` of the folder,
    which the others can import from, without the network.
    """
    module = f'"{sys.executable}" {"-P " if sys.version_info >= (3, 11) else ""}-m'
    target = f'--quiet --no-deps --no-build-isolation --no-index --target "{folder / "site"}"'
    script = "\n".join(
        [
            f'treeagent() {{ {module} treeagent "$@"; }}',
            f'python() {{ "{sys.executable}" "$@"; }}',
            f'pip() {{ {module} pip "$@" {target}; }}',
            f"set -e\n{commands}",
        ]
    )
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHONPATH": path}
    done = subprocess.run(
        ["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == code, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def follow(text: str, folder: Path, run: Run = run) -> str:
    """Follow every block in order; returns the output of the last commands. Raises AssertionError."""
    output = ""
    for part in PART.finditer(text):
        if part["file"]:
            file = folder / part["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w" if part["how"] == "into" else "a") as opened:
                opened.write(part["content"])
        elif part["commands"]:
            output = run(part["commands"], folder)
        elif part["said"]:
            task = folder / "mine.yaml"
            right = task.read_text()
            task.write_text(right.replace(f"{part['right']}:", f"{part['wrong']}:"))
            assert part["said"].strip() in run("treeagent tasks validate mine.yaml", folder, code=2)
            task.write_text(right)
        else:
            for line in part["shown"].splitlines():
                assert line.strip() in output, f"{line!r} is not in\n{output}"
    return output
