"""A backend that knows the Game of 24 exactly, for tests that need a real search and no model."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treeagent import (
    Backend,
    BackendError,
    Completion,
    ConfigError,
    Reply,
    Request,
    RequestRefusedError,
    ScoreRequest,
    Scores,
    Usage,
)
from treeagent.backends.training.mini_data import listed, solvable
from treeagent.tasks.game24_rules import read

OPTIONS = ("log", "gate", "at", "fail_at", "refuse_at", "spoil")


@dataclass
class _Calls:
    made: int = 0


class Oracle(Backend):
    """Proposes every sensible step, judges exactly, and spells the answer from the steps.

    ``log``: a file that gets a line per request. ``gate``: a FIFO that request number ``at`` opens, and waits until
    it is closed; a gate that is no longer there stops nobody. ``fail_at``: this request fails. ``refuse_at``: this one
    is refused. ``spoil``: a role whose completions are nonsense. ``model`` "wrong" labels every state the other way
    round.
    """

    name = "helpers:Oracle"
    capabilities = frozenset({"generate", "score", "seed"})

    def __init__(self, model: str | None = None, options: Mapping[str, str] | None = None) -> None:
        self.model, self.options, self.calls = model, dict(options or {}), _Calls()
        unknown = set(self.options) - set(OPTIONS)
        if unknown:
            raise ConfigError(f"the oracle has no option {sorted(unknown)}")

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, str]) -> Oracle:
        """From the words of a command line."""
        return cls(model, options)

    def describe(self) -> dict[str, Any]:
        """What a journal opens it again by."""
        return {"name": self.name, "model": self.model, "options": self.options}

    async def generate(self, request: Request) -> Reply:
        """The exact answer."""
        self._count(f"{request.key.role} {request.key.place} {request.key.visit}")
        text = "%%%" if request.key.role == self.options.get("spoil") else self._text(request)
        tokens = tuple(text.encode())
        usage = Usage(1, len(request.prompt.split()), len(text.split()) * request.n)
        return Reply((Completion(text, tokens),) * request.n, usage)

    async def score(self, request: ScoreRequest) -> Scores:
        """Near certainty for the right label."""
        self._count("score")
        good = self._good(request.prompt)
        logprobs = tuple(-0.1 if (text.strip() == "sure") == good else -5.0 for text in request.continuations)
        return Scores(logprobs, (1,) * len(logprobs), Usage(1, len(request.prompt.split()), 0))

    def _count(self, what: str) -> None:
        self.calls.made += 1
        if log := self.options.get("log"):
            with Path(log).open("a") as file:
                file.write(f"{what}\n")
        if str(self.calls.made) == self.options.get("fail_at"):
            raise BackendError("the oracle has been told to fail here")
        if str(self.calls.made) == self.options.get("refuse_at"):
            raise RequestRefusedError("the oracle has been told to refuse this")
        gate = self.options.get("gate")
        if gate and str(self.calls.made) == self.options.get("at") and Path(gate).exists():
            end = os.open(gate, os.O_RDONLY)  # blocks until the test opens the other end
            os.read(end, 1)  # blocks until the test closes it
            os.close(end)

    def _good(self, prompt: str) -> bool:
        state = read(re.findall(r"Numbers: (.*)", prompt)[-1])
        return solvable(state) != (self.model == "wrong")

    def _text(self, request: Request) -> str:
        role, prompt = request.key.role, request.prompt
        if role in ("propose", "sample"):
            return "".join(f"{step.text}\n" for step in listed(read(re.findall(r"Numbers: (.*)", prompt)[-1])))
        if role == "value":
            return " sure" if self._good(prompt) else " impossible"
        if role == "answer":
            steps = re.findall(r"(?m)^(\S+) ([-+*/]) (\S+) = (\S+) \(left", prompt)
            return f" {spell(steps)} = 24"
        return " 1"


def write_end(gate: Path, process: subprocess.Popen[Any], seconds: float = 60.0) -> int:
    """The file descriptor for writing to a FIFO, once a process reads from it; fails when that process ends instead."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # else nobody reads yet
                raise
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
            raise AssertionError(f"the process ended with {process.returncode} and did not open {gate}")
    process.kill()
    raise AssertionError(f"the process did not open {gate} in {seconds:g} s")


def spell(steps: list[tuple[str, str, str, str]]) -> str:
    """The expression that the steps build."""
    made: dict[str, str] = {}
    text = ""
    for left, op, right, result in steps:
        text = f"({made.pop(left, left)} {op} {made.pop(right, right)})"
        made[result] = text
    return text[1:-1]
