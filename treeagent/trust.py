"""Decides what a task file, a journal, a data file, a model folder and a server may do.

Whoever loads code, opens a file that another file names, or takes an address from a journal asks here; the page
``docs/guides/trust.md`` says the same in full. Named on the command line or in a program means: trusted for that use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ConfigError

FILE_LIMIT = 2**30
"""Bytes of the largest data file that is read."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def is_code(name: str) -> bool:
    """Whether a name stands for Python code outside the registry: ``package.module:Class``."""
    return ":" in name


def check_code(kind: str, name: str, *, allow_code: bool, source: str = "") -> None:
    """Refuse code outside the registry that a file names; ``source`` is the file, such as ``the journal run.jsonl``.

    Raises ConfigError before anything is imported.
    """
    if is_code(name) and not allow_code:
        named = f", which {source} names," if source else ""
        raise ConfigError(
            f"the {kind} {name!r}{named} is code outside the registry; run it with --allow-code (allow_code=True in "
            "Python) if you trust it"
        )


def read_regular(path: Path, *, inside: Path | None = None, most: int = FILE_LIMIT) -> bytes:
    """The bytes of a regular file; pipes, devices and sockets are refused without waiting for them.

    With ``inside``, the file must lie in that folder once all links are followed. Raises OSError, whose ``strerror``
    says what was wrong, also for a file of more than ``most`` bytes.
    """
    with open_regular(path, inside=inside) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)  # it may grow, or be of a size that is not told
    if size > most or len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most / 2**20:,.0f} MiB", str(path))
    return content


def open_regular(path: Path, *, inside: Path | None = None) -> BinaryIO:
    """A regular file, open for reading bytes; see :func:`read_regular`. Raises OSError."""
    if inside is not None:
        check_inside(path, inside)
        path = path.resolve()  # a link that is put here after the check is not followed
    try:
        check_regular(path.stat().st_mode, path)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags | (getattr(os, "O_NOFOLLOW", 0) if inside is not None else 0))
    except ValueError as error:  # a NUL byte in the name
        raise OSError(errno.EINVAL, f"its name cannot be one of a file ({error})", str(path)) from error
    try:
        check_regular(os.fstat(descriptor).st_mode, path)  # another file may have been put there since
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(mode: int, path: Path) -> None:
    """Raise OSError unless ``mode`` (``st_mode``) is that of a regular file."""
    if not stat.S_ISREG(mode):
        kind = next((word for test, word in _KINDS if test(mode)), "something else")
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"it is {kind}, not a regular file", path)


def check_inside(path: Path, folder: Path) -> None:
    """Raise OSError for a path that leads out of a folder, by ``..``, as an absolute path or over links."""
    try:
        target, home = path.resolve(), folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a circle of links; a NUL byte
        raise OSError(errno.EINVAL, f"its path cannot be followed ({error})", str(path)) from error
    if not target.is_relative_to(home):
        raise OSError(
            errno.EACCES,
            f"it lies outside {home}, the folder of the task file (it is {target}). A task file may name files of its "
            "own folder only; name another one on the command line, with --data",
            str(path),
        )


def confirmed_options(
    source: str, prefix: str, recorded: Mapping[str, Any], guarded: Mapping[str, Any], repeated: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a backend that a journal names, with those that say where requests go as the user says.

    ``guarded`` are the options of that kind with the values they have where they are left out
    (:meth:`treeagent.Backend.guarded_options`); ``repeated`` are those that the user gave again. A recorded value that
    is neither repeated nor the one of this machine is refused: a journal from elsewhere could send prompts, or a
    secret of this machine, to any host. ``source`` and ``prefix`` (``backend``) are for the message. Raises
    ConfigError, listing every such option.
    """
    options = {**recorded, **repeated}
    faults = []
    for name, default in guarded.items():
        value = recorded.get(name)
        if name in repeated or value is None or str(value) == str(default):
            continue
        faults.append(
            f"{source} sets {prefix}.{name} to {value!r}. Where requests go, and which secret goes along, is not taken "
            f"from a journal. If that is right, repeat it: --set {prefix}.{name}={value}"
        )
    if faults:
        raise ConfigError("\n".join(faults))
    return options
