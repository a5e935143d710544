"""What the tests of early requests share: a backend whose answers depend on the keys alone, and a clock of its own."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from synthetic import TOP, Node, TreeBackend, essence, named

from treeagent import BackendError, Event, OnText, Reply, Request, RequestRefusedError, Result, ScoreRequest
from treeagent.backends.bench.early.virtual_time import VirtualLoop, units
from treeagent.testing.synthetic import PROMPT

__all__ = ["KeyedBackend", "VirtualLoop", "real", "story", "units"]


class KeyedBackend(TreeBackend):
    """Answers about a tree with noise of the request's key.

    One in ``refuses`` requests is refused, whenever it comes; one in ``fails`` fails where it is sent early. ``words``
    counts the words that all requests together have cost as far as the backend has got.
    """

    def __init__(
        self, root: Node, order: int | None, refuses: int = 0, fails: int = 0, rows: int | None = 99, **more: Any
    ) -> None:
        super().__init__(root, order=order, answer=self._noisy, **more)
        self._names, self._refuses, self._fails = named(root), refuses, fails
        self.words, self._rows = 0, rows

    def _noisy(self, request: Request) -> str | None:
        noise = random.Random(request.key.stream(0))
        match = PROMPT.fullmatch(request.prompt.strip())
        node = None if match is None else self._names[match[2]]
        if match is None or match[1] not in ("children", "value"):
            return None
        if match[1] == "value":
            return "hm" if noise.random() < 0.1 else f"it is v{noise.randrange(TOP + 1)}"
        assert isinstance(node, list)
        lines = [
            match[2] + chr(ord("a") + index) + ("" if isinstance(child, list) else " end")
            for index, child in enumerate(node)
        ]
        noise.shuffle(lines)
        return "\n".join([*lines, *lines[:1], "no step", ""][: noise.randint(1, 9)])

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As the tree says, or an error."""
        self._fail(request)
        self.words += len(request.prompt.split())
        reply = await super().stream(request, on_text)
        self.words += reply.usage.completion_tokens or 0
        return reply

    async def score(self, request: ScoreRequest) -> Any:
        """As the tree says, or an error."""
        self._fail(request)
        return await super().score(request)

    def early_rows(self) -> int | None:
        """As told."""
        return self._rows

    def _fail(self, request: Request | ScoreRequest) -> None:
        number = int(request.id, 16)
        if self._refuses and number % self._refuses == 0:
            raise RequestRefusedError("no")
        if self._fails and request.priority < 1 and number // 7 % self._fails == 0:
            raise [BackendError("early"), ValueError("early"), KeyError("early")][number % 3]


def story(events: list[Event]) -> Any:
    """The real events: those of the tree in their order, the others, whose order is that of completion, as a bag."""
    tree = [event for event in events if event.type in ("thought", "dropped")]
    others = Counter(
        repr((event.type, sorted((key, value) for key, value in event.data.items() if key != "seconds")))
        for event in events
        if event.type not in ("thought", "dropped", "early", "end", "run", "rounds")
    )
    return tree, others


def real(result: Result) -> dict[str, Any]:
    """The part of a result that must not depend on early requests: all but the seconds and their own figures."""
    return essence(result)
