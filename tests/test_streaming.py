"""Texts that are handed out while they grow."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from device import DEVICE
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_model import save_tiny_model

from treeagent.backend import Backend
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.reasoning import Thinking
from treeagent.reply import Partial, Reply
from treeagent.request import Key, Request, Sampling
from treeagent.stable_text import stable_text

pytestmark = pytest.mark.usefixtures("fixed_times")

LONG = Request("Numbers: 4 5 6\nSteps:\n", Key(1, "propose", "0"), Sampling(temperature=1.0, max_tokens=40), n=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("streaming") / "plain"))


@pytest.fixture(params=[SeedBackend, TransformersBackend])
def backend(request: pytest.FixtureRequest, folder: str) -> Backend:
    opened: Backend = request.param(folder, device=DEVICE)
    return opened


def streamed(backend: Backend, request: Request) -> tuple[list[Partial], Reply]:
    """What a backend hands out, and its reply."""
    parts: list[Partial] = []

    async def run() -> Reply:
        return await backend.stream(request, parts.append)

    return parts, asyncio.run(run())


@example("a<<", ["<", "a<<"])
@given(st.text("ab<t>\n", max_size=12), st.lists(st.text("ab<", min_size=1, max_size=3), max_size=2))
def test_a_longer_text_keeps_what_is_stable(text: str, stop: list[str]) -> None:
    """Of whatever part of a text is known, the whole begins with the stable text."""
    thinking = Thinking("<t>", "</t>")
    said = thinking.split(text).text
    cuts = [at for at in (said.find(end) for end in stop) if at >= 0]
    whole = said[: min(cuts, default=None)]
    for length in range(len(text) + 1):
        assert whole.startswith(stable_text(text[:length], stop, thinking))


@given(st.lists(st.sampled_from(["<t>", "</t>", "a", "b\n", " ", "\n"]), max_size=8), st.booleans())
def test_thinking_is_never_handed_out(parts: list[str], opened: bool) -> None:
    """What a model says begins with the stable text of every beginning, unless a mark closes what nothing opened."""
    thinking, text = Thinking("<t>", "</t>", opened), "".join(parts)
    said = thinking.split(text).text
    depth = opened
    for part in parts:
        if part == "</t>" and not depth:
            return  # takes back what was said
        depth = part == "<t>" or (depth and part != "</t>")
    for length in range(len(text) + 1):
        assert said.startswith(stable_text(text[:length], (), thinking))


def test_texts_grow_token_by_token(backend: Backend) -> None:
    """A plain engine hands out every sample many times, with the number of its tokens, and the whole text once."""
    parts, reply = streamed(backend, LONG)
    for sample, completion in enumerate(reply.completions):
        own = [part for part in parts if part.sample == sample]
        assert len(own) > 20
        counts = [part.tokens or 0 for part in own]
        assert counts == sorted(counts)
        assert counts[-1] == len(completion.tokens or ())
        assert [part.whole for part in own] == [False] * (len(own) - 1) + [True]
        assert own[-1].text == completion.text


def test_a_text_that_ends_early_is_whole_before_the_others(folder: str, backend: Backend) -> None:
    """The first of several completions to end is handed out whole while others grow."""
    request = replace(LONG, sampling=replace(LONG.sampling, stop=("a", "s", "e")), n=6)
    parts, reply = streamed(backend, request)
    ends = [place for place, part in enumerate(parts) if part.whole]
    assert len(ends) == 6
    assert ends[0] < len(parts) - 6
    assert all(parts[end].text == reply.completions[parts[end].sample].text for end in ends)


def test_beams_are_handed_out_when_they_are_complete(backend: Backend) -> None:
    """The best of several beams may change until the end, so that nothing is handed out before it."""
    request = replace(LONG, sampling=Sampling(max_tokens=8, num_beams=2), n=2)
    parts, reply = streamed(backend, request)
    assert sorted((part.sample, part.text, part.whole) for part in parts) == [
        (sample, completion.text, True) for sample, completion in enumerate(reply.completions)
    ]


def test_a_round_takes_one_callback_of_the_loop(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests are streamed, a loop is woken once a round; a request that is not, costs nothing."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none")
    calls: Counter[str] = Counter()

    async def run(streams: bool) -> None:
        loop = asyncio.get_running_loop()
        original = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *arguments: object) -> object:
            name = getattr(callback, "__name__", "")
            calls[name] += threading.current_thread().name.startswith("treeagent-models")
            return original(callback, *arguments)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        requests = [replace(LONG, key=replace(LONG.key, place=str(place))) for place in range(4)]
        work = [backend.stream(one, lambda part: None) if streams else backend.generate(one) for one in requests]
        await asyncio.gather(*work)

    backend.load()
    asyncio.run(run(False))
    assert calls["_deliver"] == 0
    read = backend.meter()
    asyncio.run(run(True))
    assert 0 < calls["_deliver"] <= read()["rounds"]
