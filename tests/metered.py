"""An oracle that keeps figures of itself, and a diary of what was done to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from helpers import Oracle

from treeagent import Reply, Request

DIARY: list[str] = []
"""``open``, ``load``, ``run`` (its first request) and ``close`` with the model's name; tests clear it."""


class Metered(Oracle):
    """``model`` "drifts@2" answers nonsense from its second run on; "stops@2" is interrupted then, as by Ctrl-C."""

    name = "metered:Metered"

    def __init__(self, model: str | None = None, options: Mapping[str, str] | None = None) -> None:
        super().__init__(model, options)
        self._asked = 0
        DIARY.append(f"open {model}")

    def load(self) -> None:
        """Written down once for every call that has something to do."""
        if DIARY[-1] != f"load {self.model}":
            DIARY.append(f"load {self.model}")

    async def aclose(self) -> None:
        """Written down."""
        DIARY.append(f"close {self.model}")

    async def generate(self, request: Request) -> Reply:
        """The oracle's answer, unless the model's name says otherwise."""
        self._asked += 1
        if request.key.role == "propose" and request.key.place == "root":
            DIARY.append(f"run {self.model}")
        what, _, number = (self.model or "").partition("@")
        if number and DIARY.count(f"run {self.model}") >= int(number):
            if what == "stops":
                raise KeyboardInterrupt
            self.options["spoil"] = "propose"
        return await super().generate(request)

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Requests since then, and figures of every form."""
        start = self._asked
        return lambda: {
            "tokens_per_second": 301.234,
            "requests": self._asked - start,
            "block_efficiency": 1.4249,
            "acceptance_by_position": [0.7, 0.5, 0.25, 0.1, 0.1, 0.1, 0.1],
            "kv_peak_bytes": 69120000,
            "drafted": None,
        }
