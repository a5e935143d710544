"""A backend that ends its own process, as a fault of a machine or of a problem does."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers import Oracle

from treeagent import ModelError, Reply, Request


class Deadly(Oracle):
    """An oracle in several processes, which share a log with a line per request.

    ``kill_at``: numbers of the requests, of all processes, that kill the process. ``kill_on``: an input that kills it.
    ``once``: it cannot be loaded after the first request. ``only``: nor in other processes than this number's.
    """

    name = "deadly:Deadly"

    def __init__(self, model: str | None = None, options: Mapping[str, str] | None = None) -> None:
        super().__init__(model)
        own = dict(options or {})
        self._log, self._on, self._once = Path(own["log"]), own.get("kill_on"), own.get("once")
        self._loaded = False
        self._only = own.get("only")
        self._at = {int(number) for number in own.get("kill_at", "").split()}

    def describe(self) -> dict[str, Any]:
        """Equal for all, so that a journal continues in a backend that kills at other requests."""
        return {"name": self.name, "model": self.model, "options": {}}

    def load(self) -> None:
        """Raises ModelError."""
        if not self._loaded and ((self._once and self._log.exists()) or self._only not in (None, str(os.getpid()))):
            raise ModelError("there is no memory left")
        self._loaded = True

    async def generate(self, request: Request) -> Reply:
        """The exact answer, or none."""
        with self._log.open("a") as file:
            file.write(request.id + "\n")
        if len(self.requests(self._log)) in self._at or f"Numbers: {self._on}\n" in request.prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().generate(request)

    @staticmethod
    def requests(log: Path) -> list[str]:
        """Ids of the requests in a log."""
        return log.read_text().splitlines()
