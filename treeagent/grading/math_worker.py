"""A process of its own that compares mathematical answers; run as a script, it imports nothing of treeagent.

Its first line of input is the list of folders that Python imports from. Every further line is a pair of texts; two
lines answer it: ``true`` once the gold answer has been read (``false``: it is no mathematics), then the verdict. The
parent ends a process that takes too long; limits of computing time and memory hold where the parent is gone.
"""

import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

_MEMORY = 4 << 30
"""Bytes of address space."""


def _limit(seconds: float) -> None:
    try:
        import resource  # noqa: PLC0415  there is none on Windows
    except ImportError:  # no such limits on this system; the parent's clock is left
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _read(text: str) -> Any:
    """The values of a text; as LaTeX where nothing marks the mathematics in it."""
    parse = import_module("math_verify").parse
    plain = text if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text else f"${text}$"
    values = parse(plain, parsing_timeout=None)
    return values or parse(text, parsing_timeout=None)


def main() -> None:
    """Answer lines until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    sys.path[:] = json.loads(sys.stdin.readline())
    verify = import_module("math_verify").verify

    def say(value: object) -> None:
        out.write(json.dumps(bool(value)) + "\n")
        out.flush()

    say(True)
    for line in sys.stdin:
        gold, answer, seconds = json.loads(line)
        _limit(seconds)
        try:
            wanted = _read(gold)
        except Exception:  # noqa: BLE001  a parser that fails on a text has not read it
            wanted = []
        say(wanted)
        try:
            say(wanted and verify(wanted, _read(answer), timeout_seconds=None))
        except Exception:  # noqa: BLE001
            say(False)


if __name__ == "__main__":
    main()
