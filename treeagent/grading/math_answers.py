r"""Mathematical answers that are equal though they are written otherwise: ``\frac{1}{2}`` and ``0.5``.

The package ``math-verify`` compares them (Hugging Face; it reads LaTeX and compares with SymPy). It bounds its time by
``signal.alarm``, which works in the main thread of a process only, and SymPy may take any time and memory for
``9^{9^{9^9}}``: so it runs in a process of its own (:mod:`.math_worker`), which is ended when a comparison takes too
long.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

from .. import extras
from ..process_fork import ForkSafeLock, call_in_child
from .plain_text import plain

SECONDS = 10.0
"""Of the clock, for one comparison."""
_START = 120.0
"""Seconds until the process has imported SymPy, on a machine that is busy."""
_LONGEST = 2_000
"""Characters of an answer: no honest one is longer."""
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}")


class MathComparer:
    """Compares answers in a process that starts with the first one and serves all others, one at a time."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._turn = ForkSafeLock()
        call_in_child(self, MathComparer._leave_to_parent)

    def equal(self, answer: str, gold: str) -> bool:
        """Whether two texts are one mathematical value, or one text.

        An answer that takes longer than the limit, or that is very long, is not equal. Raises ValueError where the
        gold answer alone does, and MissingExtraError without the package.
        """
        extras.require("answer.grade: math", "math_verify")
        if text_key(answer) == text_key(gold):
            return True
        if len(gold) > _LONGEST:
            raise ValueError(f"a gold answer of {len(gold):,} characters is not compared as mathematics")
        if len(answer) > _LONGEST:
            return False
        with self._turn:
            return self._ask(answer, gold)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _leave_to_parent(self) -> None:
        """Know the process no more, as it serves the parent of this one."""
        self._process = None

    def _ask(self, answer: str, gold: str) -> bool:
        process = self._started()
        line = json.dumps([gold, answer, self._seconds]) + "\n"
        read = self._replies(process, line, self._seconds, 2)
        if len(read) < 2:
            self.close()
        if not read:
            raise ValueError(f"the gold answer {gold[:60]!r} takes longer than {self._seconds:g} s to read")
        return len(read) == 2 and read[1]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            script = Path(__file__).with_name("math_worker.py")
            self._process = subprocess.Popen(  # noqa: S603  this Python, and a file of this package
                [sys.executable, "-I", str(script)],  # isolated: nothing is imported from the current folder
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            )  # fmt: skip
            atexit.register(self.close)
            if not self._replies(self._process, json.dumps(sys.path) + "\n", _START, 1):
                self.close()
                raise ValueError("the process that compares mathematical answers does not start")
        return self._process

    @staticmethod
    def _replies(process: subprocess.Popen[str], line: str, seconds: float, count: int) -> list[bool]:
        """The replies to a line, fewer where the process ends; it is ended after the limit."""
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        replies: list[bool] = []
        try:
            if process.stdin is not None and process.stdout is not None:
                process.stdin.write(line)
                process.stdin.flush()
                while len(replies) < count and (reply := process.stdout.readline()):
                    replies.append(bool(json.loads(reply)))
        except OSError:  # it has ended
            pass
        finally:
            timer.cancel()
        return replies


COMPARER = MathComparer()
"""One process serves all tasks."""


def text_key(text: str) -> str:
    """The text without case, blanks, dollar signs around it, and the wrapping of words in LaTeX."""
    return plain(_TEXT.sub(r"\1", text.strip().strip("$"))).replace(" ", "")
