"""Calls in threads of their own: what they give, and whether the loop waits for them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from treeagent import aio


def test_a_call_in_a_thread_gives_what_the_function_gives() -> None:
    """Values and exceptions come through, short and long calls alike, and a cancelled wait leaves nothing behind."""
    gate = threading.Event()

    def fail() -> None:
        raise KeyError("x")

    async def calls() -> None:
        assert await aio.Pace().in_thread(len, "abc") == 3
        with pytest.raises(KeyError):
            await aio.Pace().in_thread(fail)
        waiting = asyncio.ensure_future(aio.Pace().in_thread(gate.wait))
        await asyncio.wait({waiting}, timeout=0.3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(calls())
    gate.set()


def test_with_patience_the_loop_waits_for_a_longer_call() -> None:
    """So that nothing else of the loop comes before the thread's result, which it does otherwise."""

    async def order() -> list[str]:
        done: list[str] = []

        def work() -> None:
            threading.Event().wait(0.3)
            done.append("thread")

        asyncio.get_running_loop().call_soon(done.append, "loop")
        await aio.Pace().in_thread(work)
        return done

    assert asyncio.run(order()) == ["loop", "thread"]
    with aio.patience(60):
        assert asyncio.run(order()) == ["thread", "loop"]
