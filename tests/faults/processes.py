"""Commands in processes that start at once, so that they can meet, and be killed at any moment."""

from __future__ import annotations

import io
import multiprocessing
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
TESTS = Path(__file__).parents[1]
CONTEXT.set_forkserver_preload(["treeagent.cli", "treeagent.cli.session", "treeagent.runtime.agent",
                                "treeagent.evaluation.run", "treeagent.evaluation.summary", "helpers"])  # fmt: skip


def command(words: list[str], barrier: Barrier | None, report: Path | None) -> None:
    """Run a command of treeagent; ``report`` gets its exit code and what it printed."""
    sys.path.insert(0, str(TESTS))
    from treeagent.cli import app

    out, code = io.StringIO(), 0
    if barrier is not None:
        barrier.wait(60)
    with redirect_stdout(out), redirect_stderr(out):
        try:
            app(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    if report is not None:
        report.write_text(f"{code}\n{out.getvalue()}")


def start(words: list[str], barrier: Barrier | None = None, report: Path | None = None) -> ForkServerProcess:
    """A process that runs a command."""
    process = CONTEXT.Process(target=command, args=(words, barrier, report))
    process.start()
    return process


def killed_after(words: list[str], seconds: float) -> bool:
    """Run a command and kill it with SIGKILL after so many seconds; whether it was still running."""
    process = start(words)
    process.join(seconds)
    running = process.is_alive()
    process.kill()
    process.join()
    return running


def duration(words: list[str]) -> float:
    """Seconds that a command takes when nobody kills it."""
    began = time.monotonic()
    process = start(words)
    process.join(120)
    assert process.exitcode == 0, process.exitcode
    return time.monotonic() - began
