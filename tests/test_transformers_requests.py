"""Requests of the backend ``transformers`` that come late, are dropped or cancelled, or whose model fails."""

from __future__ import annotations

import asyncio
import threading

from device import DEVICE
from naive_padding import PROMPTS, ask
from naive_padding import exact as exact  # noqa: PLC0414  the fixture
from naive_padding import folder as folder  # noqa: PLC0414  the fixture

from treeagent.backends.transformers import backend as backend_module
from treeagent.backends.transformers import generate as decoding
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling


def test_what_is_asked_later_in_the_turn_joins_the_batch(exact, monkeypatch):
    """Requests that follow within a few turns of the loop run in the same batch."""
    batches = []
    decode = decoding.decode
    monkeypatch.setattr(backend_module, "decode", lambda *args: (batches.append(len(args[1])), decode(*args)))
    request = Request("24", Key(0, "propose", "0"), Sampling(max_tokens=2))

    async def late(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await exact.generate(request)

    async def run():
        return await asyncio.gather(*(late(turns) for turns in range(4)))

    assert asyncio.run(run()) == [ask(exact, request)[0]] * 4
    assert batches == [4, 1]


def test_a_dropped_request_is_never_started(exact, monkeypatch):
    """A request cancelled before its batch starts costs no pass."""
    passes = []
    monkeypatch.setattr(backend_module, "decode", lambda *args: passes.append(args))

    async def run():
        task = asyncio.ensure_future(exact.generate(Request("24", Key(0, "propose", "0"))))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for _ in range(30):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert not passes
    assert not exact._batcher._queues


def test_cancelling_a_running_request_stops_its_rows_only(folder, monkeypatch):
    """When a running request is cancelled its rows leave the batch at once, and the others end as if alone."""
    backend = TransformersBackend(folder, device=DEVICE, dtype="float64")
    short = Request(PROMPTS[0], Key(0, "propose", "0"), Sampling(temperature=0.7, max_tokens=20), n=2)
    long = Request(PROMPTS[1], Key(0, "propose", "1"), Sampling(temperature=0.1, max_tokens=200), n=8)
    (alone,) = ask(backend, short)
    forward, sizes, cancelled = decoding.forward, [], threading.Event()

    async def run():
        loop = asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(backend.generate(request)) for request in (short, long)]

        def cancel():
            tasks[1].cancel()
            loop.call_soon(cancelled.set)  # a turn later, when the cancellation has been seen

        def spy(*args, **more):
            sizes.append(len(args[1]))
            if len(sizes) == 3:
                loop.call_soon_threadsafe(cancel)
                assert cancelled.wait(60)
            return forward(*args, **more)

        monkeypatch.setattr(decoding, "forward", spy)
        return await asyncio.gather(*tasks, return_exceptions=True)

    kept, gone = asyncio.run(run())
    assert kept == alone
    assert isinstance(gone, asyncio.CancelledError)
    assert max(sizes[4:]) <= 2
    assert len(sizes) <= 20


def test_ending_the_loop_ends_the_work(folder, monkeypatch):
    """asyncio.run cancels what is pending; the worker thread stops within a step instead of finishing."""
    backend = TransformersBackend(folder, device=DEVICE)
    forward, passes, begun = decoding.forward, [], threading.Event()

    def spy(*args, **more):
        passes.append(1)
        begun.set()
        return forward(*args, **more)

    monkeypatch.setattr(decoding, "forward", spy)

    async def run():
        task = asyncio.ensure_future(
            backend.generate(Request("24", Key(0, "propose", "0"), Sampling(temperature=0.1, max_tokens=10**9), n=8))
        )
        await asyncio.to_thread(begun.wait)
        assert not task.done()

    asyncio.run(run())
    assert not any(thread.name.startswith("asyncio") for thread in threading.enumerate())


def test_a_failure_reaches_everyone_in_the_batch_and_nobody_else(exact, monkeypatch):
    """When the model fails every request of the batch gets a BackendError naming the cause; the next batch runs."""
    request = Request("24", Key(0, "propose", "0"), Sampling(max_tokens=2))

    def broken(*args):
        raise RuntimeError("out of memory")

    async def run():
        return await asyncio.gather(exact.generate(request), exact.generate(request), return_exceptions=True)

    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "decode", broken)
        errors = asyncio.run(run())
    assert [type(error) for error in errors] == [BackendError, BackendError]
    assert "RuntimeError: out of memory" in str(errors[0])
    assert ask(exact, request)[0].completions
