"""Requests of searches with an order: the engine begins with those that end soon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from device import DEVICE
from tiny_model import save_tiny_model

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.scheduler.scheduler import Scheduler
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling

pytestmark = pytest.mark.usefixtures("fixed_times")

MANY, ROWS = 40, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("order") / "plain"))


@pytest.fixture
def first_pass(monkeypatch: pytest.MonkeyPatch) -> list[list[float | None]]:
    """What the jobs of each pass say of the requests that follow."""
    passes: list[list[float | None]] = []
    original = Scheduler._commit

    def commit(self: Scheduler, ready: Sequence[object], *rest: object) -> None:
        if ready:
            passes.append([job.remaining for job in ready])  # type: ignore[attr-defined]
        original(self, ready, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "_commit", commit)
    return passes


def requests(remaining: Sequence[float | None]) -> list[Request]:
    return [
        Request("Numbers:\n", Key(1, "propose", str(i)), Sampling(temperature=1.0, max_tokens=6), remaining=left)
        for i, left in enumerate(remaining)
    ]


def answers(backend: SeedBackend, wanted: Sequence[Request]) -> list[Reply]:
    async def run() -> list[Reply]:
        return await asyncio.gather(*map(backend.generate, wanted))

    return asyncio.run(run())


def test_the_searches_that_end_soon_come_first(folder: str, first_pass: list[list[float | None]]) -> None:
    """Of more requests than rows those of the least remaining ones, with the answers of any other order."""
    plain = answers(SeedBackend(folder, device=DEVICE, drafter="none"), requests([None] * MANY))
    first_pass.clear()
    order = list(range(MANY))
    random.Random(3).shuffle(order)
    backend = SeedBackend(folder, device=DEVICE, drafter="none", max_rows=ROWS)
    assert answers(backend, requests([float(left) for left in order])) == plain
    assert sorted(first_pass[0], key=float) == list(range(ROWS))  # type: ignore[arg-type]
    assert set().union(*first_pass) == set(range(MANY))


def test_requests_without_an_order_go_before(folder: str, first_pass: list[list[float | None]]) -> None:
    """The others follow by their turn, each as soon as a row is free."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none", max_rows=2)
    answers(backend, requests([5.0, None, 4.0, None, -1.0]))
    assert first_pass[0] == [None, None]
    assert list(dict.fromkeys(left for rows in first_pass for left in rows)) == [None, -1.0, 4.0, 5.0]
