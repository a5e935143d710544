"""Ctrl-C, SIGTERM and SIGHUP: the first ends the work in an orderly way, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignals:
    """The stop signals of this process."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        """The signal that ended the work; None while none has come."""

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal that ended the work, as a shell says it: 130 for Ctrl-C."""
        return 128 + (self.first or signal.SIGINT)

    @contextmanager
    def handled(self, stop: Callable[[], object]) -> Iterator[None]:
        """While the context is open, the first signal calls ``stop`` in the main thread.

        A signal that the process was started to ignore (``nohup``) stays ignored, SIGINT excepted. Without effect
        outside the main thread, which alone can handle signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.first = None

        def handle(number: int, _frame: FrameType | None) -> None:
            if self.first is not None:
                if sys.stderr is not None and sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h\n")  # show the cursor, which the live view hides
                os._exit(128 + number)
            self.first = signal.Signals(number)
            stop()

        wanted = [n for n in NUMBERS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, handle) for number in wanted}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


STOP_SIGNALS = StopSignals()
"""Signals belong to the process, so there is one such object."""


def interrupt() -> None:
    """What Ctrl-C does by default. Raises KeyboardInterrupt."""
    raise KeyboardInterrupt
