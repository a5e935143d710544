"""What every backend must do, whatever it runs on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ..backend import Backend
from ..reply import Partial, Reply, Scores
from ..request import Key, Request, Sampling, ScoreRequest

KNOWN = {"generate", "score", "seed", "chat", "beams", "rewards", "thinking_budget", "extra_body", "constraints"}
"""Every capability that there is."""
REQUESTS = (
    Request("Numbers: 4 5 6\nSteps:\n", Key(1, "propose", "0"), Sampling(temperature=0.7, max_tokens=12), n=3),
    Request("Numbers: 1 2\nSteps:\n", Key(1, "propose", "0.1"), Sampling(temperature=1.0, top_k=5, max_tokens=9), n=1),
    Request("Judge: 24\n", Key(1, "value", "24"), Sampling(max_tokens=6, stop=("a", "e")), n=2),
    Request("é", Key(1, "propose", "0.2", 1), Sampling(temperature=1.0, top_p=0.9, max_tokens=5), n=1),
)
SCORINGS = (
    ScoreRequest("Judge: 24\n", ("sure", "likely", "impossible")),
    ScoreRequest("Numbers: 4 5 6\n", (" 4", " 4 is the steps")),
)


class BackendContract:
    """Tests of a backend; subclass it and override :meth:`open`.

    The backend must be able to answer ``requests`` and, if it has the capability ``score``, ``scorings``; both may be
    overridden for a backend that answers certain prompts only.
    """

    requests: ClassVar[Sequence[Request]] = REQUESTS
    scorings: ClassVar[Sequence[ScoreRequest]] = SCORINGS

    def open(self) -> Backend:
        """A fresh backend."""
        raise NotImplementedError("override open() to return the backend under test")

    def test_it_describes_itself(self) -> None:
        """It has a name and known capabilities; ``describe`` is plain JSON."""
        backend = self.open()
        assert backend.name
        assert {"generate"} <= backend.capabilities <= KNOWN
        assert backend.capabilities <= backend.possible_capabilities <= KNOWN
        described = backend.describe()
        assert described["name"] == backend.name
        assert described["model"] == backend.model
        assert json.loads(json.dumps(described)) == described

    def test_replies_have_their_form(self) -> None:
        """A reply has n texts in sample order, ended as asked, and says what it cost."""
        backend = self.open()

        async def run() -> None:
            for request in self.requests:
                reply = await backend.generate(request)
                assert len(reply.completions) == request.n
                for completion in reply.completions:
                    assert completion.finish in ("stop", "length")
                    assert not any(stop in completion.text for stop in request.sampling.stop)
                    assert completion.tokens is None or len(completion.tokens) <= request.sampling.max_tokens
                assert reply.usage.calls == 1
                assert reply.usage.prompt_tokens is None or reply.usage.prompt_tokens > 0

        asyncio.run(run())

    def test_scores_have_their_form(self) -> None:
        """One log-probability and one length per continuation; without the capability, a refusal."""
        backend = self.open()

        async def run() -> None:
            for request in self.scorings:
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

    def test_a_reply_does_not_depend_on_other_requests(self) -> None:
        """With the capability ``seed``, a request is answered the same alone, beside others, in any order and again."""
        backend = self.open()
        if "seed" not in backend.capabilities:
            return

        async def run() -> None:
            together = [await backend.generate(request) for request in self.requests]
            assert await asyncio.gather(*(backend.generate(request) for request in self.requests)) == together
            backwards = await asyncio.gather(*(backend.generate(request) for request in reversed(self.requests)))
            assert backwards[::-1] == together

        asyncio.run(run())

    def test_it_serves_several_event_loops_in_turn(self) -> None:
        """One backend serves several event loops in turn, leaves no thread behind, and works again after aclose."""
        backend = self.open()
        before = set(threading.enumerate())
        asyncio.run(self._answers(backend))
        asyncio.run(backend.aclose())
        asyncio.run(self._answers(backend))
        assert set(threading.enumerate()) <= before

    def test_it_serves_several_threads(self) -> None:
        """Threads with a loop each may share one backend."""
        backend = self.open()
        done: list[int] = []

        def answer() -> None:
            done.append(len(asyncio.run(self._answers(backend))))

        threads = [threading.Thread(target=answer) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 3

    def test_a_cancelled_request_affects_no_other(self) -> None:
        """A cancelled request is gone; the others are answered."""
        backend = self.open()

        async def run() -> None:
            tasks = [asyncio.ensure_future(backend.generate(request)) for request in self.requests]
            await asyncio.sleep(0)
            tasks[0].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            replies = [reply for reply in results[1:] if isinstance(reply, Reply)]
            assert [len(reply.completions) for reply in replies] == [request.n for request in self.requests[1:]]

        asyncio.run(run())

    def test_texts_are_handed_out_as_they_grow(self) -> None:
        """What ``stream`` hands out, in the loop's thread and before it returns, grows to the text of the reply."""
        backend = self.open()

        async def run() -> None:
            here = threading.get_ident()
            for request in self.requests:
                parts: list[tuple[Partial, int]] = []

                def keep(part: Partial, parts: list[tuple[Partial, int]] = parts) -> None:
                    parts.append((part, threading.get_ident()))

                reply = await backend.stream(request, keep)
                count = len(parts)
                if "seed" in backend.capabilities:
                    assert reply == await backend.generate(request)
                assert {thread for _, thread in parts} <= {here}
                texts = [""] * request.n
                for part, _ in parts:
                    assert part.text.startswith(texts[part.sample])
                    texts[part.sample] = part.text
                    if part.whole:
                        assert part.text == reply.completions[part.sample].text
                for text, completion in zip(texts, reply.completions, strict=True):
                    assert completion.text.startswith(text)
                await asyncio.sleep(0)
                assert len(parts) == count

        asyncio.run(run())

    def test_nothing_is_handed_out_after_cancellation(self) -> None:
        """A cancelled request hands out no more text, not even what was on its way."""
        backend = self.open()

        async def run() -> None:
            late: list[Partial] = []
            tasks: list[asyncio.Future[Reply]] = []
            started: list[bool] = []

            def stop(part: Partial) -> None:
                if started and tasks[0].cancel():
                    started.clear()
                else:
                    late.append(part)

            for request in self.requests:
                started[:] = [True]
                tasks[:] = [asyncio.ensure_future(backend.stream(request, stop))]
                await asyncio.gather(*tasks, return_exceptions=True)
            await backend.generate(self.requests[1])  # time for what might be on its way
            assert not late

        asyncio.run(run())

    def test_a_priority_changes_no_answer(self) -> None:
        """A request sent early is answered as one that is wanted for certain, raised later, beside others or alone."""
        backend = self.open()
        if "seed" not in backend.capabilities:
            return
        scorings = self.scorings if "score" in backend.capabilities else ()
        everything: list[Request | ScoreRequest] = [*self.requests, *scorings]

        async def run() -> None:
            plain = [await backend.generate(request) for request in self.requests]
            scores = [await backend.score(request) for request in scorings]
            early = [replace(request, priority=0.1 + 0.2 * i) for i, request in enumerate(self.requests)]
            early_scorings = [replace(request, priority=0.3) for request in scorings]
            assert [await backend.generate(request) for request in early] == plain
            assert [_rounded(await backend.score(request)) for request in early_scorings] == list(map(_rounded, scores))
            for raised in (False, True):
                certain = [asyncio.ensure_future(backend.generate(request)) for request in self.requests[::2]]
                guesses = [asyncio.ensure_future(backend.generate(request)) for request in early]
                scored = [asyncio.ensure_future(backend.score(request)) for request in early_scorings]
                await asyncio.sleep(0)
                if raised:
                    for wanted in everything:
                        backend.raise_priority(wanted)
                assert await asyncio.gather(*certain) == plain[::2]
                assert await asyncio.gather(*guesses) == plain
                assert list(map(_rounded, await asyncio.gather(*scored))) == list(map(_rounded, scores))

        asyncio.run(run())

    def test_an_order_changes_no_answer(self) -> None:
        """Requests of searches that end soon may go first, and all get the answers that they get without an order."""
        backend = self.open()
        if "seed" not in backend.capabilities:
            return

        async def run() -> None:
            plain = [await backend.generate(request) for request in self.requests]
            ordered = [replace(request, remaining=-float(i)) for i, request in enumerate(self.requests)]
            assert await asyncio.gather(*map(backend.generate, ordered)) == plain

        asyncio.run(run())

    def test_a_raise_of_an_unknown_request_does_nothing(self) -> None:
        """``raise_priority`` takes a request that is not there, is answered already or was cancelled."""
        backend = self.open()

        async def run() -> None:
            early = replace(self.requests[0], priority=0.5)
            backend.raise_priority(early)
            backend.raise_priority(self.scorings[0])
            await backend.generate(early)
            backend.raise_priority(early)
            task = asyncio.ensure_future(backend.generate(early))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            backend.raise_priority(early)
            assert len((await backend.generate(self.requests[0])).completions) == self.requests[0].n

        asyncio.run(run())

    def test_its_meter_gives_plain_figures(self) -> None:
        """Figures are plain JSON, before the first request too; several meters may run, each be read several times."""
        backend = self.open()

        def figures_of(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            figures = read()
            assert json.loads(json.dumps(figures, allow_nan=False)) == figures
            assert all(isinstance(name, str) and not isinstance(value, dict) for name, value in figures.items())
            return figures

        early = backend.meter()
        figures_of(early)
        asyncio.run(self._answers(backend))
        late = backend.meter()
        assert figures_of(early).keys() == figures_of(late).keys()
        asyncio.run(self._answers(backend))
        figures_of(late)
        figures_of(early)

    async def _answers(self, backend: Backend) -> list[object]:
        """The answers to all requests, sent at once."""
        scorings = self.scorings if "score" in backend.capabilities else []
        generate = [backend.generate(request) for request in self.requests]
        return list(await asyncio.gather(*generate, *(backend.score(request) for request in scorings)))


def _rounded(scores: Scores) -> Scores:
    """Without what float rounding changes."""
    return replace(scores, logprobs=tuple(round(value, 3) for value in scores.logprobs))
