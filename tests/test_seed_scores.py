"""Scores of the engine: those of the plain backend, and shared prefixes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from device import DEVICE
from seed_tools import (
    HEAD,
    LIMIT,
    MIX,
    PROMPTS,
    Naive,
    Open,
    ask,
    idle,
    request,
)
from test_seed_engine import backend as backend  # noqa: PLC0414  the fixture

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.request import ScoreRequest

pytestmark = pytest.mark.usefixtures("fixed_times")


def score(backend: Any, *requests: ScoreRequest) -> list[Any]:
    """Scores of requests that are awaited together."""

    async def run() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*map(backend.score, requests)), LIMIT)

    return asyncio.run(run())


def test_scores_are_those_of_the_plain_backend(pair: Path, opened: Open) -> None:
    """To nine digits in float64, alone, together with generations, and without room for more than one."""
    requests = [
        ScoreRequest(PROMPTS[0], ("sure", "likely", "no such word", "")),
        ScoreRequest(PROMPTS[0], ("sure",)),
        ScoreRequest(PROMPTS[1], (" 4 left", "é", " 4 le")),
        ScoreRequest("2", ("4",)),
        ScoreRequest(PROMPTS[2], ()),
        ScoreRequest(PROMPTS[2], ("", "")),
    ]
    plain = score(TransformersBackend(str(pair / "model"), device=DEVICE, dtype="float64"), *requests)
    for options in ({}, {"kv_memory": 80 * 512 / 1e6, "chunk": 5}, {"policy": "fcfs"}, {"policy": "serial"}):
        backend = opened(**options)

        async def both(backend: SeedBackend = backend) -> list[Any]:
            asked = [*map(backend.score, requests), *map(backend.generate, MIX[:3])]
            return await asyncio.wait_for(asyncio.gather(*asked), LIMIT)

        for given in (score(backend, *requests), asyncio.run(both())):
            for one, expected in zip(given, plain, strict=False):
                assert one.logprobs == pytest.approx(expected.logprobs, abs=1e-9)
                assert (one.lengths, one.usage) == (expected.lengths, expected.usage)
        idle(backend)
        backend.check()


def test_scores_share_prefixes_with_texts(opened: Open, naive: Naive) -> None:
    """Evaluations of one state after another compute only what is new."""
    backend = opened(drafter="none")
    ask(backend, request(3, 0, max_tokens=1))
    read = backend.meter()
    score(
        backend, ScoreRequest(HEAD + "Numbers: 4 5 6\n", ("sure",)), ScoreRequest(HEAD + "Numbers: 4 5 9\n", ("sure",))
    )
    idle(backend)
    shared, whole = len(naive.text.prompt(HEAD)), len(naive.text.prompt(HEAD + "Numbers: 4 5 6\n")) - 1
    alike = len(naive.text.prompt(HEAD + "Numbers: 4 5 "))
    # The text's last prompt token was read by the pass that drew its token, so it is there too.
    assert read()["prefix_tokens_reused"] == shared + alike
    assert read()["prefix_tokens_computed"] == 2 * whole - shared - alike
