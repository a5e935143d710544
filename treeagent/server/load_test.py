"""Measures a server under load: ``python -m treeagent.server.load_test``.

Clients that come at the same time, some of which leave at a random moment, get the answers that an agent gives alone
for the same seeds; then nothing of them is left in the server. After that, the time of a request through the server
less that of the same search without it, both in turn. The backend answers at once, from a small tree, with judgements
that depend on the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..request import Request
from ..runtime.agent import Agent
from ..testing.synthetic import TOP, TreeBackend, random_tree, task
from .app import make_app
from .background_server import BackgroundServer
from .search_queue import SearchQueue
from .search_service import SearchService
from .served_models import ServedModels

MODEL = "synthetic/bfs"
_PATH = "/v1/chat/completions"
_INPUT = "r"
_KEPT = 20
"""Searches that are kept for the pages, as by ``treeagent serve`` without ``--keep``."""
_AT_ONCE = 16
"""Searches that run at a time, as by ``treeagent serve`` without ``--at-once``."""
_FIRST = 40
"""Clients before the measurement."""
SECONDS = 60.0
"""How long the server may take to forget its last clients."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a process holds."""

    tasks: int
    """Of the server's event loop."""
    threads: int
    """Without those of the event loop's pool, which has an upper limit and fills as it is used."""
    descriptors: int | None
    """Open files and sockets; None where the system does not list them."""
    searches: int
    """Running and waiting."""


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What came of the clients."""

    answered: int
    left: int
    wrong: tuple[int, ...]
    """Seeds whose answer was not the agent's."""
    seconds: tuple[float, ...]
    """Of each answered request, sorted."""
    before: Kept
    after: Kept

    @property
    def leaks(self) -> bool:
        """Whether more is held than before."""
        before, after = self.before, self.after
        return (
            after.tasks > before.tasks
            or after.threads > before.threads
            or (after.descriptors or 0) > (before.descriptors or 0)
            or after.searches > 0
        )

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answered requests was answered."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def make_agent() -> Agent:
    """A search whose answer depends on its seed."""

    def judged(request: Request) -> str | None:
        wanted = request.prompt.startswith("value")
        return f"it is v{random.Random(request.id).randint(0, TOP)}" if wanted else None

    return Agent(task(), "bfs", backend=TreeBackend(random_tree(3, 4, 3), answer=judged))


@dataclass(frozen=True, slots=True)
class Question:
    """What all clients ask, with seeds of their own."""

    agent: Agent
    model: str = MODEL
    input: str = _INPUT
    seeds: int | None = None
    """So many different seeds, for an agent that takes its time; None: one for each client."""

    def expected(self, clients: int) -> list[str | None]:
        """The answers that the agent gives alone, by the number of the client."""
        seeds = self.seeds or clients
        answers = [self.agent.with_seed(seed).solve(self.input).answer for seed in range(min(seeds, clients))]
        return [answers[number % seeds] for number in range(clients)]

    def body(self, client: int, *, stream: bool) -> dict[str, Any]:
        """The request of a client."""
        seed = client % (self.seeds or client + 1)
        messages = [{"role": "user", "content": self.input}]
        return {"model": self.model, "messages": messages, "seed": seed, "stream": stream}


def make_service(clients: int, question: Question) -> SearchService:
    """A service that lets so many clients wait, and keeps as many searches for its pages as ``treeagent serve``."""
    models = ServedModels({question.model: question.agent}, {})
    return SearchService(models, question.agent.budget, SearchQueue(_AT_ONCE, clients), _KEPT)


def under_load(
    clients: int, leaving: float, question: Question | None = None, limit: float | None = None
) -> LoadFigures:
    """The figures of so many clients at the same time; the share ``leaving`` of them leaves without the answer.

    Raises asyncio.TimeoutError where not all have their answers within ``limit`` seconds.
    """
    asked = question or Question(make_agent())
    service, expected = make_service(clients, asked), asked.expected(clients)
    with BackgroundServer(make_app(service), service) as server:
        asyncio.run(_drive(server, asked, range(min(_FIRST, clients)), 0.0))  # what is opened but once
        before = _settled(server, service)
        outcomes = asyncio.run(asyncio.wait_for(_drive(server, asked, range(clients), leaving), limit))
        after = _settled(server, service)
    answered = [each for each in outcomes if each is not None]
    wrong = tuple(number for number, each in enumerate(outcomes) if each is not None and each[0] != expected[number])
    seconds = tuple(sorted(each[1] for each in answered))
    return LoadFigures(len(answered), clients - len(answered), wrong, seconds, before, after)


async def _drive(
    server: BackgroundServer, question: Question, clients: range, leaving: float
) -> list[tuple[str | None, float] | None]:
    """Answer and seconds of each client; None for one that left."""
    draws = random.Random(0)
    port = int(server.url.rpartition(":")[2])
    return list(
        await asyncio.gather(
            *(
                _client(port, question.body(number, stream=draws.random() < 0.5), _patience(draws, leaving))
                for number in clients
            )
        )
    )


def _patience(draws: random.Random, leaving: float) -> int | None:
    """Bytes of the reply after which a client leaves; None for one that stays."""
    return draws.choice([0, 0, 1, 200, 1000]) if draws.random() < leaving else None


async def _client(port: int, asked: dict[str, Any], most: int | None) -> tuple[str | None, float] | None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(asked).encode()
        head = (
            f"POST {_PATH} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        if most is not None:
            if most:
                await reader.read(most)
            return None
        head_bytes, _, reply = (await reader.read()).partition(b"\r\n\r\n")
        if b" 200 " not in head_bytes.partition(b"\r\n")[0]:
            raise RuntimeError(f"seed {asked['seed']}: {head_bytes[:100]!r} {reply[:300]!r}")
        return _answer(reply.decode(), stream=asked["stream"]), time.monotonic() - began
    finally:
        writer.close()


def _answer(reply: str, *, stream: bool) -> str | None:
    if not stream:
        content = json.loads(reply)["choices"][0]["message"]["content"]
        return None if content is None else str(content)
    data = [line.removeprefix("data: ") for line in reply.splitlines() if line.startswith("data: {")]
    parts = [json.loads(each)["choices"][0]["delta"].get("content") for each in data]
    texts = [part for part in parts if part is not None]
    return "".join(texts) if texts else None


def _settled(server: BackgroundServer, service: SearchService) -> Kept:
    """What is held once the server has nothing to do, or after :data:`SECONDS`."""
    until = time.monotonic() + SECONDS
    while (kept := _kept(server, service)).tasks > 1 or kept.searches:
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return kept


def _kept(server: BackgroundServer, service: SearchService) -> Kept:
    folder = Path("/proc/self/fd")
    descriptors = len(list(folder.iterdir())) if folder.exists() else None
    threads = sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
    searches = service.queue.running + service.queue.waiting
    return Kept(server.tasks, threads, descriptors, searches)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one search took."""

    seconds: float
    cpu: float
    """Seconds of this process on its processors, those of the client included."""


def overhead(requests: int) -> list[tuple[Cost, Cost]]:
    """The cost of a search by the agent alone and of the same through the server, in turn, for each request."""
    question = Question(make_agent())
    agent, service = question.agent, make_service(1, question)
    pairs: list[tuple[Cost, Cost]] = []
    loop = asyncio.new_event_loop()
    with BackgroundServer(make_app(service), service) as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port))

        def alone(seed: int) -> None:
            loop.run_until_complete(agent.with_seed(seed).asolve(_INPUT))

        def served(seed: int) -> None:
            body = json.dumps(question.body(seed, stream=False))
            connection.request("POST", _PATH, body, {"Content-Type": "application/json"})
            connection.getresponse().read()

        for seed in range(requests + 5):
            pair = _cost(alone, seed), _cost(served, seed)
            if seed >= 5:  # the first ones import and connect
                pairs.append(pair)
        connection.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return pairs


def _cost(work: Callable[[int], None], seed: int) -> Cost:
    began, cpu = time.perf_counter(), time.process_time()
    work(seed)
    return Cost(time.perf_counter() - began, time.process_time() - cpu)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where an answer is wrong or something is left in the server."""
    parser = argparse.ArgumentParser(prog="python -m treeagent.server.load_test", description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="clients at the same time (200)")
    parser.add_argument("--leaving", type=float, default=0.4, help="share of them that leaves (0.4)")
    parser.add_argument("--requests", type=int, default=200, help="requests for the overhead (200)")
    wanted = parser.parse_args(words)
    load = under_load(wanted.clients, wanted.leaving)
    pairs = overhead(wanted.requests)
    milliseconds = [load.percentile(share) * 1000 for share in (0.5, 0.95, 0.99)]
    lines = [
        f"{wanted.clients} clients at once: {load.answered} answered, {load.left} left, {len(load.wrong)} wrong",
        "until the answer: P50 {:.0f} ms, P95 {:.0f} ms, P99 {:.0f} ms".format(*milliseconds),
        f"before: {load.before}",
        f"after:  {load.after}",
    ]
    for name in ("seconds", "cpu"):
        alone = [getattr(before, name) * 1000 for before, _ in pairs]
        served = [getattr(after, name) * 1000 for _, after in pairs]
        extra = sorted(one - other for one, other in zip(served, alone, strict=True))
        lines.append(
            f"{'CPU time' if name == 'cpu' else 'a request'} of {len(pairs)}: {statistics.median(alone):.2f} ms alone, "
            f"{statistics.median(served):.2f} ms served; the server adds {statistics.median(extra):.2f} ms (median), "
            f"{extra[int(0.9 * len(extra))]:.2f} ms (P90)"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(load.wrong) or load.leaks)


if __name__ == "__main__":
    sys.exit(main())
