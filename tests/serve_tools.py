"""A server over the synthetic task, whose answers depend on the seed, and requests to it without a socket."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from treeagent import Agent, Backend, Budget, Request
from treeagent.server.app import make_app
from treeagent.server.search_queue import SearchQueue
from treeagent.server.search_service import SearchService
from treeagent.server.served_models import ServedModels
from treeagent.testing.synthetic import TOP, TreeBackend, random_tree, task

MODEL = "synthetic/bfs"
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def judged_by_seed(request: Request) -> str | None:
    """A judgement that depends on the request alone, so on the seed of its search; None for other requests."""
    if not request.prompt.startswith("value"):
        return None
    return f"it is v{random.Random(request.id).randint(0, TOP)}"


class SlowTree(TreeBackend):
    """Awaits ``gate`` before each answer."""

    def __init__(self, gate: Callable[[], Awaitable[Any]] | None = None) -> None:
        super().__init__(random_tree(3, 4, 3), answer=judged_by_seed)
        self._gate = gate
        self.running = 0
        """Requests that have no answer yet."""

    async def stream(self, request: Request, on_text: Any) -> Any:
        """The answer from the tree, after the gate."""
        self.running += 1
        try:
            if self._gate is not None:
                await self._gate()
            return await super().stream(request, on_text)
        finally:
            self.running -= 1


def agent(backend: Backend | None = None, search: str = "bfs", **more: Any) -> Agent:
    """An agent of the synthetic task."""
    return Agent(task(), search, backend=backend or SlowTree(), **more)


def service_of(
    *agents: Agent, budget: Budget | None = None, at_once: int = 16, waiting: int = 300, kept: int = 20
) -> SearchService:
    """A service of the agents, each under the names of its task and its search."""
    models = {f"{each.task.name}/{each.settings['search']['name']}": each for each in agents or (agent(),)}
    return SearchService(ServedModels(models, {}), budget or Budget(), SearchQueue(at_once, waiting), kept)


@asynccontextmanager
async def client_of(service: SearchService, **how: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, in this process and without a socket."""
    transport = httpx.ASGITransport(make_app(service, **how), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def chat(text: str = "r", **more: Any) -> dict[str, Any]:
    """The body of a request for a chat completion."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def post(service: SearchService, path: str, body: Any, **how: Any) -> httpx.Response:
    """One request and its reply; ``headers`` are the request's, everything else is for the application."""
    headers = how.pop("headers", {})
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def send() -> httpx.Response:
        async with client_of(service, **how) as client:
            return await client.post(path, content=content, headers={**JSON, **headers})

    return asyncio.run(send())


def stream_data(text: str) -> list[Any]:
    """The data of the events of a stream; ``[DONE]`` stays a text."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


async def until(condition: Callable[[], Any]) -> None:
    """Give the event loop turns until something is so."""
    while not condition():  # noqa: ASYNC110  the conditions are plain attributes
        await asyncio.sleep(0)
