"""Options that the commands of this folder have in common: one name and one text for the same thing."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

ANY = "a name, a folder or a hub id"
"""What a model is named by."""


def add_model(parser: ArgumentParser, default: str, what: str = ANY) -> None:
    """``--model``: ``what`` says which there are."""
    parser.add_argument("--model", default=default, help=f"{what} (default: {default})")


def add_out(parser: ArgumentParser, what: str, default: str | None = None, *, required: bool = False) -> None:
    """``--out``: the file or folder that is written; ``what`` says which, and of what."""
    said = "" if default is None else f" (default: {default})"
    path = None if default is None else Path(default)
    parser.add_argument("--out", type=Path, default=path, required=required, metavar="PATH", help=what + said)


def add_budget(parser: ArgumentParser, seconds: float) -> None:
    """``--budget``: seconds after which nothing is begun."""
    parser.add_argument(
        "--budget", type=float, default=seconds, metavar="SECONDS",
        help=f"seconds after which no measurement is begun (default: {seconds:g})",
    )  # fmt: skip


def add_repeat(parser: ArgumentParser, default: int, what: str = "runs of each mode in turn") -> None:
    """``--repeat``: how often the same is measured, as in ``treeagent bench``."""
    parser.add_argument(
        "--repeat", type=_whole(1), default=default, metavar="N",
        help=f"{what}; medians are shown (default: {default})",
    )  # fmt: skip


def add_threads(parser: ArgumentParser) -> None:
    """``--threads``: those of torch."""
    parser.add_argument(
        "--threads", type=_whole(1), metavar="N", help="threads of torch (default: as many as torch takes by itself)"
    )


def add_device(parser: ArgumentParser, default: str | None = None) -> None:
    """``--device``: where models run."""
    said = "cuda if there is one" if default is None else default
    parser.add_argument("--device", default=default, help=f"cpu, cuda or cuda:N (default: {said})")


def add_max_tokens(parser: ArgumentParser, default: int) -> None:
    """``--max-tokens``: of each text."""
    parser.add_argument(
        "--max-tokens", type=_whole(1), default=default, metavar="TOKENS",
        help=f"most new tokens of each prompt (default: {default})",
    )  # fmt: skip


def _whole(least: int) -> Callable[[str], int]:
    """Reads a whole number that is not below ``least``."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ArgumentTypeError(f"expected a whole number from {least} on, not {text!r}")
        return int(text)

    return read
