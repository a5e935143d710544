"""What a forked process does with the agents of its parent: the same as its parent, and it never hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from treeagent import Agent, Backend, Budget, Key, Reply, Request, Sampling
from treeagent.backends.local import model_thread
from treeagent.backends.seed.backend import SeedBackend
from treeagent.grading.math_answers import MathComparer
from treeagent.process_fork import ForkSafeLock

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_child(work: Callable[[], Any]) -> Any:
    """Whether a forked process finds that ``work`` returns true; it is ended where it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def answer(agent: Agent) -> Any:
    """What must be equal in all processes."""
    result = agent.solve("4 9 10 13", seed=5)
    return result.answer, result.path, result.counts, result.usage


BACKENDS = [
    "seed with a draft",
    pytest.param("seed", marks=pytest.mark.exhaustive),
    pytest.param("transformers", marks=pytest.mark.exhaustive),
]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Name and options of a backend that runs a model."""
    name, _, more = request.param.partition(" with ")
    return name, {
        "backend.threads": 2,
        "sampling.io.max_tokens": 8,
        **({"backend.draft": "mini-draft"} if more else {}),
    }


def test_a_child_solves_with_the_agent_of_its_parent(backend: tuple[str, dict[str, Any]]) -> None:
    """Before it is loaded, when it is idle, and while it works, when the child begins with a fresh engine."""
    name, options = backend
    agent = Agent("game24", "io", backend=name, options=options, budget=Budget(calls=2))
    expected = answer(Agent("game24", "io", backend=name, options=options, budget=Budget(calls=2)))
    same = lambda: answer(agent) == expected  # noqa: E731
    assert in_child(same)
    assert same()
    assert in_child(lambda: same() and asyncio.run(agent.aclose()) is None)
    left = threading.Event()
    holding = model_thread.submit(lambda: left.wait(100))  # so that a request waits for its thread
    children: list[bool] = []

    async def fork_meanwhile() -> Reply:
        request = Request("4 9 10 13", Key(0, "io", "root"), Sampling(max_tokens=4))
        asking = asyncio.ensure_future(agent.backend.generate(request))
        while not _working(agent.backend):  # noqa: ASYNC110  the engine has no event for it
            await asyncio.sleep(0)
        children.append(in_child(same))
        left.set()
        return await asking

    assert asyncio.run(fork_meanwhile()).completions[0].text
    assert children == [True]
    assert holding.result()
    assert same()


def _working(backend: Backend) -> bool:
    if isinstance(backend, SeedBackend):
        return backend.core.working
    return bool(vars(backend)["_batcher"]._queues)


def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    """And stays held in the parent."""
    for reentrant in (False, True):
        lock = ForkSafeLock(reentrant=reentrant)
        held, done = threading.Event(), threading.Event()

        def hold(lock: ForkSafeLock = lock, held: Any = held, done: Any = done) -> None:
            with lock:
                held.set()
                done.wait(100)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()

        def take(lock: ForkSafeLock = lock) -> bool:
            with lock:
                return True

        assert in_child(take)
        assert not lock._lock.acquire(blocking=False)
        done.set()
        thread.join()


def test_a_child_compares_mathematics_in_a_process_of_its_own() -> None:
    """The end of the child leaves the parent's."""
    pytest.importorskip("math_verify")
    comparer = MathComparer(100.0)
    try:
        assert comparer.equal("0.5", r"\frac{1}{2}")

        def compare() -> bool:
            equal = comparer.equal("0.25", r"\frac{1}{4}")
            comparer.close()
            return equal

        assert in_child(compare)
        assert comparer.equal("0.125", r"\frac{1}{8}")
    finally:
        comparer.close()
