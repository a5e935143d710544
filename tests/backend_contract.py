"""What every backend must do, whatever it runs on.

``CONTRACT`` holds one function per clause; each takes a function that opens a fresh backend, which must be able to
answer ``REQUESTS`` and, if it declares ``score``, ``SCORINGS``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

from treeagent.backend import Backend, Key, Request, Sampling, ScoreRequest

Open = Callable[[], Backend]

KNOWN = {"generate", "score", "seed", "chat", "beams"}
REQUESTS = [
    Request("Numbers: 4 5 6\nSteps:\n", Key(1, "propose", "0"), Sampling(temperature=0.7, max_tokens=12), n=3),
    Request("Numbers: 1 2\nSteps:\n", Key(1, "propose", "0.1"), Sampling(temperature=1.0, top_k=5, max_tokens=9), n=1),
    Request("Judge: 24\n", Key(1, "value", "24"), Sampling(max_tokens=6, stop=("a", "e")), n=2),
    Request("é", Key(1, "propose", "0.2", 1), Sampling(temperature=1.0, top_p=0.9, max_tokens=5), n=1),
]
SCORINGS = [
    ScoreRequest("Judge: 24\n", ("sure", "likely", "impossible")),
    ScoreRequest("Numbers: 4 5 6\n", (" 4", " 4 is the steps")),
]


async def _answers(backend: Backend) -> list[object]:
    """Everything at once."""
    scorings = SCORINGS if "score" in backend.capabilities else []
    generate = [backend.generate(request) for request in REQUESTS]
    return list(await asyncio.gather(*generate, *(backend.score(request) for request in scorings)))


def describes_itself(open_backend: Open) -> None:
    """It has a name and known capabilities, and tells a journal in plain JSON how to open it again."""
    backend = open_backend()
    assert backend.name
    assert {"generate"} <= backend.capabilities <= KNOWN
    described = backend.describe()
    assert described["name"] == backend.name
    assert described["model"] == backend.model
    assert json.loads(json.dumps(described)) == described


def answers_in_form(open_backend: Open) -> None:
    """A reply has n texts in sample order, ended as asked, and says what it cost."""
    backend = open_backend()

    async def run() -> None:
        for request in REQUESTS:
            reply = await backend.generate(request)
            assert len(reply.completions) == request.n
            for completion in reply.completions:
                assert completion.finish in ("stop", "length")
                assert not any(stop in completion.text for stop in request.sampling.stop)
                assert completion.tokens is None or len(completion.tokens) <= request.sampling.max_tokens
            assert reply.usage.calls == 1
            assert reply.usage.prompt_tokens is None or reply.usage.prompt_tokens > 0

    asyncio.run(run())


def scores_in_form(open_backend: Open) -> None:
    """One log-probability and one length per continuation; without the capability, a refusal."""
    backend = open_backend()

    async def run() -> None:
        for request in SCORINGS:
            if "score" not in backend.capabilities:
                try:
                    await backend.score(request)
                except TypeError:
                    continue
                raise AssertionError("a backend without the capability scored")
            scores = await backend.score(request)
            assert len(scores.logprobs) == len(scores.lengths) == len(request.continuations)
            assert all(value <= 0 for value in scores.logprobs)
            assert all(length > 0 for length in scores.lengths)
            assert scores.usage.calls == 1

    asyncio.run(run())


def company_changes_nothing(open_backend: Open) -> None:
    """With the capability ``seed``, a request is answered the same alone, in company, in any order and again."""
    backend = open_backend()
    if "seed" not in backend.capabilities:
        return

    async def run() -> None:
        together = [await backend.generate(request) for request in REQUESTS]
        assert await asyncio.gather(*(backend.generate(request) for request in REQUESTS)) == together
        backwards = await asyncio.gather(*(backend.generate(request) for request in reversed(REQUESTS)))
        assert backwards[::-1] == together

    asyncio.run(run())


def serves_loop_after_loop(open_backend: Open) -> None:
    """One backend serves several event loops in turn, leaves no thread behind, and works again after aclose."""
    backend = open_backend()
    before = set(threading.enumerate())
    asyncio.run(_answers(backend))
    asyncio.run(backend.aclose())
    asyncio.run(_answers(backend))
    assert set(threading.enumerate()) <= before


def serves_several_threads(open_backend: Open) -> None:
    """Threads with a loop each may share one backend."""
    backend = open_backend()
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(len(asyncio.run(_answers(backend))))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3


def cancelling_one_hurts_no_other(open_backend: Open) -> None:
    """A cancelled request is gone; those awaited beside it are answered."""
    backend = open_backend()

    async def run() -> None:
        tasks = [asyncio.ensure_future(backend.generate(request)) for request in REQUESTS]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [len(reply.completions) for reply in results[1:]] == [request.n for request in REQUESTS[1:]]

    asyncio.run(run())


def meters_itself(open_backend: Open) -> None:
    """Figures are plain JSON, before anything is loaded too; meters are read as often as one likes, several at once."""
    backend = open_backend()

    def told(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        figures = read()
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
        assert all(isinstance(name, str) and not isinstance(value, dict) for name, value in figures.items())
        return figures

    early = backend.meter()
    told(early)
    asyncio.run(_answers(backend))
    late = backend.meter()
    assert told(early).keys() == told(late).keys()
    asyncio.run(_answers(backend))
    told(late)
    told(early)


CONTRACT = [
    describes_itself,
    answers_in_form,
    scores_in_form,
    company_changes_nothing,
    serves_loop_after_loop,
    serves_several_threads,
    cancelling_one_hurts_no_other,
    meters_itself,
]
