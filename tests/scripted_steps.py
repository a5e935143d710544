"""A search made of a function, and backends that follow a script, fail or fall silent, for tests of the explorer."""

from __future__ import annotations

import asyncio
from typing import Any

from synthetic import TreeBackend

from treeagent import (
    BackendError,
    Explorer,
    Reply,
    Request,
    Search,
    Thought,
)

TREE = [[1, 2], [3, [4]], 5]


def scripted(**answers: str) -> Any:
    """Answers by node and verb; ``ra`` is what is proposed there, everything else comes from the tree."""

    def answer(request: Request) -> str | None:
        verb, *_, name = request.prompt.split()
        return answers.get(name) if verb == "children" else None

    return answer


class Steps(Search):
    """A search made of a function."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps

    async def run(self, explorer: Explorer) -> Thought | None:
        """As the test says."""
        found = await self.steps(explorer)
        return found if isinstance(found, Thought) else None


def places(backend: TreeBackend, role: str) -> list[tuple[str, int]]:
    """Place and visit of each request of a role."""
    keys = [request.key for request in backend.requests if isinstance(request, Request)]
    return [(key.place, key.visit) for key in keys if key.role == role]


class Failing(TreeBackend):
    """Fails at one request; the others never answer unless they came before it."""

    at = 5

    async def generate(self, request: Request) -> Reply:
        """As the class says."""
        if len(self.requests) + 1 == self.at:
            self.requests.append(request)
            raise BackendError("the machine is on fire")
        return await super().generate(request)


def alone_in_loop() -> bool:
    return len(asyncio.all_tasks()) == 1


class Silent(TreeBackend):
    """Answers the first ``answers`` requests, then never again."""

    answers = 3

    async def generate(self, request: Request) -> Reply:
        """As the class says."""
        if len(self.requests) < self.answers:
            return await super().generate(request)
        self.requests.append(request)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(20):  # closing a connection takes a while, too
                await asyncio.sleep(0)
        raise AssertionError
