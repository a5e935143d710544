"""Requests that were sent early, in the batches of plain decoding."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from device import DEVICE
from tiny_model import save_tiny_model

from treeagent.backends.local.sample import Sample
from treeagent.backends.transformers import backend as module
from treeagent.backends.transformers.backend import FREE_ROWS, TransformersBackend
from treeagent.reply import Partial, Reply
from treeagent.request import Key, Request, Sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("early") / "plain"))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """For each batch the limits of its samples, by which a test tells them apart."""
    seen: list[list[int]] = []
    original = module.decode

    def decode(model: object, samples: Sequence[Sample], *rest: object) -> None:
        seen.append([sample.limit for sample in samples])
        original(model, samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "decode", decode)
    return seen


def request(tokens: int, **changes: object) -> Request:
    sampling = Sampling(temperature=1.0, max_tokens=tokens)
    return Request("Numbers: 4 5 6\n", Key(1, "propose", str(tokens)), sampling, **changes)  # type: ignore[arg-type]


def test_early_requests_fill_up_a_small_batch(folder: str, batches: list[list[int]]) -> None:
    """The likeliest go along with certain ones as long as rows are nearly free, the others wait."""
    backend = TransformersBackend(folder, device=DEVICE)
    free = FREE_ROWS[DEVICE.partition(":")[0]]

    async def run() -> None:
        early = [request(3, priority=0.1, n=free), request(4, priority=0.6, n=free - 1), request(5, priority=0.9)]
        await asyncio.gather(*(backend.generate(one) for one in [*early, request(6, n=free - 1)]))
        await asyncio.gather(*(backend.generate(one) for one in [request(7, priority=0.5), request(8, n=free)]))

    asyncio.run(run())
    assert batches == [[6] * (free - 1) + [5], [4] * (free - 1), [3] * free, [8] * free, [7]]


def test_early_requests_give_way(folder: str, batches: list[list[int]]) -> None:
    """What comes while only early ones run is served at once; they begin anew beside it, to the same texts."""
    backend = TransformersBackend(folder, device=DEVICE)
    parts: list[Partial] = []
    early = request(150, priority=0.5)
    certain: list[asyncio.Future[Reply]] = []

    async def run() -> Reply:
        def on_text(part: Partial) -> None:
            parts.append(part)
            if len(parts) == 5:
                certain.append(asyncio.ensure_future(backend.generate(request(3))))

        reply = await backend.stream(early, on_text)
        assert certain[0].done()
        return reply

    reply = asyncio.run(run())
    assert batches == [[150], [3, 150]]
    assert reply == asyncio.run(backend.generate(replace(early, priority=1.0)))
    texts = [part.text for part in parts]
    assert all(later.startswith(text) for text, later in pairwise(texts))
    assert texts[-1] == reply.completions[0].text


def test_a_raised_request_does_not_give_way(folder: str, batches: list[list[int]]) -> None:
    """Once it is wanted for certain its batch runs to its end."""
    backend = TransformersBackend(folder, device=DEVICE)
    early = request(150, priority=0.5)
    started: list[Partial] = []
    certain: list[asyncio.Future[Reply]] = []

    async def run() -> None:
        def on_text(part: Partial) -> None:
            started.append(part)
            if len(started) == 5:
                backend.raise_priority(replace(early, priority=1.0))
                certain.append(asyncio.ensure_future(backend.generate(request(3))))

        await backend.stream(early, on_text)
        await certain[0]

    asyncio.run(run())
    assert batches == [[150], [3]]
