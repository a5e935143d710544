"""Runs a Python program in a process of its own, with limits of time, memory, output and files.

The limits keep a program that was written by mistake from holding up or filling up the machine. They are no jail: the
program runs as the user, and can read what the user can read (docs/guides/acting.md says what keeps it apart).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from treeagent import ToolError

_CHILD = Path(__file__).with_name("python_child.py")
_LOOK = 0.005
"""Seconds between two looks at whether a process has ended."""
_KEPT = ("LD_LIBRARY_PATH", "SYSTEMROOT")
"""Variables of the environment that an interpreter may need to start."""


@dataclass(frozen=True)
class PythonTool:
    """Limits of one run of a program."""

    seconds: float = 5.0
    """Wall clock; the time on the processor has the same limit, rounded up."""
    memory: int = 512 * 2**20
    """Bytes of address space."""
    output: int = 10_000
    """Bytes on standard output and standard error together."""
    files: int = 2**20
    """Bytes of each file that it writes, in a folder of its own that is removed afterwards."""
    processes: bool = False
    """Whether it may start others, and open sockets; they end with it."""

    async def run(self, program: str) -> str:
        """What a program prints, and the value of its last expression; of an exception the last line.

        Raises ToolError for a program that passes a limit or ends by a signal. Its process group is killed when it has
        ended in any way, a cancellation too.
        """
        if os.name != "posix":
            raise ToolError("programs run on Linux and macOS alone: their limits are those of POSIX")
        limits = (math.ceil(self.seconds), self.memory, self.files, int(self.processes))
        with tempfile.TemporaryDirectory(prefix="treeagent-", ignore_cleanup_errors=True) as folder:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-B", "-X", "utf8", str(_CHILD), *map(str, limits),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                cwd=folder, env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,
            )  # fmt: skip
            try:
                output = await asyncio.wait_for(self._output(process, program), self.seconds)
            except asyncio.TimeoutError as error:
                raise ToolError(f"the program did not end within {self.seconds:g} s") from error
            finally:
                _kill_group(process.pid)
                await _ended(process)
                process._transport.close()  # type: ignore[attr-defined]  # a pipe that an escaped process holds open
        if process.returncode is not None and process.returncode < 0:
            raise ToolError(f"the program was ended by {signal.Signals(-process.returncode).name}")
        return output.decode(errors="replace").strip()

    async def _output(self, process: asyncio.subprocess.Process, program: str) -> bytes:
        """All that it writes, until it has ended. Raises ToolError where that is too much."""
        entry, exit = process.stdin, process.stdout
        if entry is None or exit is None:
            raise ToolError("the program's process has no standard input and output")
        with contextlib.suppress(ConnectionError):  # it may end before it has read all
            entry.write(program.encode(errors="replace"))
            await entry.drain()
        entry.close()
        ended = asyncio.ensure_future(self._end(process))
        output = bytearray()
        try:
            while chunk := await exit.read(4096):
                output += chunk
                if len(output) > self.output:
                    raise ToolError(f"the program wrote more than {self.output:,} bytes")
            await ended
        finally:
            ended.cancel()
        return bytes(output)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        """End what the program leaves behind, which would hold its output open."""
        await _ended(process)
        _kill_group(process.pid)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the process alone: ``Process.wait`` also waits until nobody holds its output open (Python 3.11)."""
    while process.returncode is None:  # noqa: ASYNC110  asyncio sets no event for it
        await asyncio.sleep(_LOOK)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
        os.killpg(leader, signal.SIGKILL)
