"""``python -m treeagent`` and the command ``treeagent``: the command line."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command line and run it; Ctrl-C while it is imported is a plain end, without a traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as command  # noqa: PLC0415  # the import takes a quarter of a second

    signal.signal(signal.SIGINT, handler)
    command()


if __name__ == "__main__":
    main()
