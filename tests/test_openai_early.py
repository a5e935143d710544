"""Requests that were sent early, to a server with a limit on requests at one time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest
from openai_server import Asked, Model, Server

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.slots import Slots, Urgencies
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling


def request(place: str, **changes: object) -> Request:
    return Request(place, Key(1, "propose", place), Sampling(max_tokens=4), **changes)  # type: ignore[arg-type]


class Case:
    """A server that answers a prompt when it is let go, and knows what it was asked."""

    def __init__(self, stack: ExitStack) -> None:
        self.server = stack.enter_context(Server(Model()).listening())
        self.server.gate = self._gate
        self.held: dict[str, asyncio.Event] = {}
        self.order: list[str] = []

    async def _gate(self, asked: Asked) -> None:
        prompt = asked.body["messages"][0]["content"]
        self.order.append(prompt)
        if prompt in self.held:
            await self.held[prompt].wait()

    def hold(self, *prompts: str) -> None:
        """Do not answer these."""
        self.held = {prompt: asyncio.Event() for prompt in prompts}

    def let_go(self, prompt: str) -> None:
        """Answer it now."""
        self.server.loop.call_soon_threadsafe(self.held[prompt].set)

    async def asked(self, *prompts: str) -> None:
        """Wait until the server has these requests."""
        while not set(prompts) <= set(self.order):  # noqa: ASYNC110  # the server runs in another thread
            await asyncio.sleep(0)

    def backend(self, concurrency: int) -> OpenAIBackend:
        declared = {"server": "vllm", "chat": True, "score": "none", "base_url": self.server.url}
        return OpenAIBackend("toy", concurrency=concurrency, **declared)  # type: ignore[arg-type]


@pytest.fixture
def case() -> Iterator[Case]:
    with ExitStack() as stack:
        yield Case(stack)


def send(backend: OpenAIBackend, sent: Request) -> asyncio.Future[Reply]:
    return asyncio.ensure_future(backend.generate(sent))


def test_an_early_request_leaves_the_last_slot_free(case: Case) -> None:
    """Of three slots certain requests may have all, an early one waits for the second to last."""
    case.hold("a", "b")

    async def run() -> None:
        backend = case.backend(3)
        work = [send(backend, request("a")), send(backend, request("b"))]
        await case.asked("a", "b")
        work.append(send(backend, request("early", priority=0.5)))
        work.append(send(backend, request("c")))
        await work[3]
        assert "early" not in case.order
        case.let_go("a")
        await work[2]
        case.let_go("b")
        await asyncio.gather(*work)

    asyncio.run(run())


def test_the_likeliest_comes_first_and_a_raised_one_before_it(case: Case) -> None:
    """Early requests are served by their priority, a raised one like every certain one."""
    case.hold("a")

    async def run() -> None:
        backend = case.backend(1)
        work = [send(backend, request("a"))]
        await case.asked("a")
        work += [send(backend, request(name, priority=chance)) for name, chance in (("x", 0.2), ("y", 0.6), ("z", 0.1))]
        await asyncio.sleep(0)
        backend.raise_priority(request("z"))
        case.let_go("a")
        await asyncio.gather(*work)

    asyncio.run(run())
    assert case.order == ["a", "z", "y", "x"]


def test_an_early_request_is_broken_off_for_another_and_sent_again(case: Case) -> None:
    """With one slot it does not delay what a search asks for, and is answered in the end."""
    case.hold("early")

    async def run() -> None:
        backend = case.backend(1)
        guess = send(backend, request("early", priority=0.5))
        await case.asked("early")
        assert (await backend.generate(request("a"))).completions
        case.let_go("early")
        assert await guess == await case.backend(1).generate(request("early"))

    asyncio.run(run())
    assert case.order[:3] == ["early", "a", "early"]


def test_slots_are_given_back_whatever_happens() -> None:
    """Cancelled while waiting or running, failed or broken off: no slot is lost and no more are used than there are."""

    async def run(count: int, kinds: list[tuple[float, str]]) -> None:
        slots, live = Slots(count), [0, 0]

        def work(how: str) -> Callable[[], Awaitable[str]]:
            async def go() -> str:
                live[0] += 1
                live[1] = max(live)
                try:
                    for _ in range(5):
                        await asyncio.sleep(0)
                    if how == "fails":
                        raise ValueError
                    return how
                finally:
                    live[0] -= 1

            return go

        async def one(priority: float, how: str) -> str:
            with Urgencies().serving(request(how, priority=priority)):
                return await slots.run(work(how))

        tasks = [asyncio.ensure_future(one(*kind)) for kind in kinds]
        for turn, (task, (_, how)) in enumerate(zip(tasks, kinds, strict=True)):
            if how == "cancelled":
                for _ in range(turn):
                    await asyncio.sleep(0)
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert live[0] == 0
        assert live[1] <= count
        assert [await one(1.0, "again") for _ in range(count)] == ["again"] * count
        assert await one(0.5, "early") == "early"

    kinds = [(chance, how) for chance in (0.2, 1.0, 0.7) for how in ("ends", "fails", "cancelled")] * 3
    for count in (1, 2, 5):
        asyncio.run(run(count, kinds))
