"""Commands in processes that start at once, so that they can meet, and be killed at any moment."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import FrameType
from typing import Any

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


def counted(words: list[str], last: int, calls: Synchronized[int]) -> None:
    """Run a command, count its calls of Python functions, and kill this process with SIGKILL at the ``last`` of them.

    Unlike seconds, calls are the same moments however busy the machine is. No call is number 0.
    """

    def at_event(_frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            calls.value += 1
            if calls.value == last:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(at_event)
    sys.setprofile(at_event)
    command(words, None, None)


def killed_at(words: list[str], share: float, whole: int) -> bool:
    """Run a command and kill it after a share of its ``whole`` number of calls; whether it was still running."""
    calls = CONTEXT.Value("q", 0)
    process = CONTEXT.Process(target=counted, args=(words, max(1, int(share * whole)), calls))
    process.start()
    process.join(120)
    return process.exitcode == -signal.SIGKILL


def count_calls(words: list[str]) -> int:
    """How many calls a command makes when nobody kills it."""
    calls = CONTEXT.Value("q", 0)
    process = CONTEXT.Process(target=counted, args=(words, 0, calls))
    process.start()
    process.join(120)
    assert process.exitcode == 0, process.exitcode
    return calls.value
