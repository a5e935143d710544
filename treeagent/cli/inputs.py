"""The inputs of a command: words of the command line, else lines of standard input."""

from __future__ import annotations

import io
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ..errors import InputError
from ..text import INPUT_BYTES, argument, decode, lines
from .arguments import say

if TYPE_CHECKING:
    from ..task import Task


def read_inputs(task: Task, words: Sequence[str] | None) -> list[str]:
    """The inputs from the command line or standard input, else the first example of the task. Raises InputError."""
    if words and list(words) != ["-"]:
        inputs = [argument(word) for word in words]
    else:
        inputs = _read_lines(requested=bool(words))
        if not inputs and words:
            raise InputError("the input is empty: standard input has no line with text")
        if not inputs:
            inputs = [task.examples[0]]
            say(f"No input given; taking the first example of {task.name}: {inputs[0]}")
    for number, text in enumerate(inputs, 1):
        try:
            task.read_input(text)
        except InputError as error:
            raise (InputError(f"input {number} of {len(inputs)}: {error}") if len(inputs) > 1 else error) from error
    return inputs


def _read_lines(*, requested: bool) -> list[str]:
    """Lines with text from standard input; a terminal is read only when the user requested it."""
    if sys.stdin is None or (sys.stdin.isatty() and not requested):
        return []
    if _stdin_is_silent():
        say("Reading inputs from standard input, one a line, until it ends; --input gives one on the command line.")
    try:
        content = _read_bytes(INPUT_BYTES + 1)
        if len(content) > INPUT_BYTES:
            raise InputError(f"standard input has more than {INPUT_BYTES >> 20} MiB")
        return [line for line in lines(decode(content)) if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _read_bytes(most: int) -> bytes:
    """Standard input to its end, or its first ``most`` bytes.

    A signal between Python's check for signals and a read that waits would have no effect until more input came, so
    nothing is read before it is there.
    """
    stream, content = cast("io.BufferedReader", sys.stdin.buffer), bytearray()
    while len(content) < most:
        while _stdin_is_silent():
            pass
        part = stream.read1(1 << 16)
        if not part:
            break
        content += part
    return bytes(content[:most])


def _stdin_is_silent() -> bool:
    """Whether standard input is open without data, so that the command would appear to hang."""
    try:
        return sys.platform != "win32" and not select.select([sys.stdin.fileno()], [], [], 0.5)[0]
    except (OSError, ValueError, io.UnsupportedOperation):
        return False
