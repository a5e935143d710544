"""The queue in front of the backend ``transformers``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from treeagent.backends.transformers.batcher import Batcher
from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling


def test_a_choice_that_fails_is_an_error_of_those_that_wait_and_of_no_later_request() -> None:
    """Nobody is left waiting, and the next request is answered."""
    faults = [ValueError("no key")]

    def choose(waiting: list[Any]) -> list[Any]:
        if faults:
            raise faults.pop()
        return waiting

    def run(batch: list[Any]) -> list[Any]:
        for pending in batch:
            pending.answer("4 + 5 = 9")
        return []

    async def ask_twice() -> None:
        batcher: Batcher[Request] = Batcher(run, choose, "the model")
        requests = [Request("4 5", Key(1, "propose", str(place)), Sampling()) for place in range(2)]
        failed = await asyncio.gather(*map(batcher.ask, requests), return_exceptions=True)
        assert [type(error) for error in failed] == [BackendError, BackendError]
        with pytest.raises(BackendError, match="the model failed: ValueError: no key"):
            raise failed[0]
        assert await batcher.ask(requests[0]) == "4 + 5 = 9"

    asyncio.run(asyncio.wait_for(ask_twice(), 60))
