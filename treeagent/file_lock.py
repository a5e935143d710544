"""Files that one process writes at a time: opened and locked in one step, on POSIX and on Windows.

The lock belongs to the open file. The operating system removes it when the file is closed or the process ends, however
it ends; no file is left behind. Readers need no lock.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from pathlib import Path
from typing import TextIO

from .errors import JournalError
from .trust import check_regular

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What a file system without locks answers."""
_BYTE = 2**31 - 2
"""The byte that is locked on Windows, where a lock keeps readers from the bytes below it: one far behind the text."""


def open_to_write(path: Path, what: str, *, create: bool) -> TextIO:
    """A text file, locked and open for reading and writing at its start; nothing in it is changed.

    ``what`` names the file in messages, such as ``journal``. Raises JournalError when another process, or another
    object of this one, has it open so, and OSError when it cannot be opened or is no regular file.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    for name in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # the first: a pipe is not waited for
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except ValueError as error:  # a NUL byte in the name
        raise OSError(errno.EINVAL, f"its name cannot be one of a file ({error})", str(path)) from error
    try:
        check_regular(os.fstat(descriptor).st_mode, path)
        _lock(descriptor, path, what)
        return os.fdopen(descriptor, "r+", encoding="utf-8", newline="\n")
    except BaseException:
        os.close(descriptor)
        raise


def close(file: TextIO) -> None:
    """Unlock the file and close it. Raises OSError."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        file.flush()
        os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    file.close()


def sync(file: TextIO, *, folder: Path | None = None) -> None:
    """Wait until what was written is on the disk, and the file's name in its ``folder`` where given. Raises OSError."""
    os.fsync(file.fileno())
    if folder is not None and sys.platform != "win32":  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, what: str) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415

            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # a Python without either, such as that of WebAssembly, has no other processes
        return
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise JournalError(
                f"another process is writing the {what} {path}. Wait until it has ended, or stop it, and try again; "
                "view, export and replay can read the file meanwhile."
            ) from error
        warnings.warn(
            f"the file system of {path} has no locks: nothing keeps a second process from writing the {what} as well",
            RuntimeWarning,
            stacklevel=3,
        )
