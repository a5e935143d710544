"""Carries out the measurements within a budget of seconds, and goes on where an earlier session ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from treeagent.errors import ConfigError

from .steps import GpuStep

STATE = "gpu.json"
GRACE = 15.0
"""Seconds that an interrupted measurement has to write what it knows."""
TAIL = 600
"""Characters kept of what a failed measurement said."""
OPEN, DONE, PARTIAL, FAILED = "open", "done", "partial", "failed"

Run = Callable[[GpuStep, float], tuple[int | None, str]]
"""Runs a command for so many seconds at most: its exit code, or None where it was interrupted, and its last words."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """Where one measurement stands."""

    what: str
    state: str = OPEN
    seconds: float | None = None
    said: str = ""
    """The end of what it printed, where it failed or was interrupted."""
    at: str | None = None
    """When it ended, in UTC."""


class GpuSession:
    """The measurements of one folder."""

    def __init__(self, folder: Path, steps: Sequence[GpuStep], run: Run | None = None) -> None:
        """Raises ConfigError where the folder has a file of results that cannot be read."""
        self._folder, self._steps, self._run = folder, steps, run or run_command
        self.outcomes = {step.name: StepOutcome(step.what) for step in steps}
        self.outcomes |= {name: one for name, one in self._read().items() if name in self.outcomes}

    @property
    def whole(self) -> bool:
        """Whether nothing is open."""
        return all(outcome.state == DONE for outcome in self.outcomes.values())

    def measure(
        self, budget: float, say: Callable[[str], None], only: Sequence[GpuStep] | None = None, *, again: bool = False
    ) -> None:
        """Run what is open, then what was interrupted or failed, as far as ``budget`` seconds go.

        What was interrupted may take all that is left, as it would be at the same limit again.

        ``only`` some of the steps, if so asked; ``again``: those that are done, too. The file of results is written
        after every measurement. Raises ConfigError where it cannot be.
        """
        ends = time.monotonic() + budget
        steps = self._steps if only is None else only
        if again:
            self.outcomes |= {step.name: StepOutcome(step.what) for step in steps}
        self._write()  # before anything is measured that could not be kept
        order = sorted(steps, key=lambda step: self.outcomes[step.name].state != OPEN)  # stable
        for step in order:
            if self.outcomes[step.name].state == DONE:
                continue
            left = ends - time.monotonic()
            if left < step.least:
                say(f"{step.name}: needs {step.least:.0f} s, {max(0.0, left):.0f} s are left")
                continue
            most = left if self.outcomes[step.name].state == PARTIAL else min(left, step.most)
            say(f"{step.name}: {step.what} (at most {most:.0f} s)")
            began = time.monotonic()
            code, said = self._run(step, most)
            state = PARTIAL if code is None else DONE if code == 0 else FAILED
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            kept = "" if state == DONE else said[-TAIL:]
            self.outcomes[step.name] = StepOutcome(step.what, state, round(time.monotonic() - began, 1), kept, now)
            self._write()
            say(f"  {state}")

    def _read(self) -> dict[str, StepOutcome]:
        path = self._folder / STATE
        if not path.exists():
            return {}
        try:
            return {name: StepOutcome(**one) for name, one in json.loads(path.read_bytes())["steps"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path} is no file of this command ({error}); remove it, or give another --out"
            ) from error

    def _write(self) -> None:
        content: dict[str, Any] = {
            "kind": "gpu", "steps": {name: asdict(outcome) for name, outcome in self.outcomes.items()}
        }  # fmt: skip
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / f"{STATE}.part"
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            part.replace(self._folder / STATE)
        except OSError as error:
            raise ConfigError(f"the results cannot be written to {self._folder}: {error}") from error


def run_command(step: GpuStep, seconds: float) -> tuple[int | None, str]:
    """Run a measurement in a process group of its own; after ``seconds`` it is interrupted, then killed."""
    with subprocess.Popen(  # noqa: S603  # commands of this project
        step.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, **step.environment},
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            said = _stopped(process)
            return None, said
        return process.returncode, said


def _stopped(process: subprocess.Popen[str]) -> str:
    """What a process printed that is interrupted like by Ctrl-C."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            return process.communicate(timeout=GRACE)[0]
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    return process.communicate()[0]
