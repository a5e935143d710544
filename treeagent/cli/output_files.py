"""Checks of the files that a command is to write, made before the work whose results they get."""

from __future__ import annotations

from pathlib import Path

from .. import extras
from ..errors import ConfigError


def check_writable(path: Path, option: str) -> None:
    """Check early that a file can be written, and leave it unchanged. Raises ConfigError."""
    try:
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {path}: {error.strerror}") from error


def check_plot(path: Path, example: str) -> None:
    """Check that ``--plot`` can be drawn; ``example`` names a file where the user's name says nothing.

    Raises ConfigError for a name that does not end in .png, .svg or .pdf and for a file that cannot be written, and
    MissingExtraError without matplotlib.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(
            f"--plot {path}: expected the name of a PNG, SVG or PDF file, such as {path.stem or example}.png"
        )
    extras.require("option --plot", "matplotlib")
    check_writable(path, "--plot")
