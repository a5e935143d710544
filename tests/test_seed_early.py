"""Requests that are sent before a search asks for them: they change no answer and delay no other request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from device import DEVICE
from draft_trees import Trees
from seed_tools import COSTS, scheduler
from tiny_model import save_tiny_model

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.scheduler.scheduler import Scheduler
from treeagent.constraint import Constraint
from treeagent.errors import BackendError
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling

pytestmark = pytest.mark.usefixtures("fixed_times")

SLOT = 2 * 2 * 2 * 8 * 4
"""Bytes of one token in the tiny model: layers, key and value, heads, dimension, bytes of a number."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("early") / "plain"))


def request(place: str, tokens: int = 20, **changes: object) -> Request:
    prompt = f"Numbers: {place} of many numbers\nSteps:\n"
    return Request(prompt, Key(1, "propose", place), Sampling(temperature=1.0, max_tokens=tokens), **changes)  # type: ignore[arg-type]


def wasted(backend: SeedBackend) -> int:
    """Tokens of early requests that were cancelled so far."""
    return scheduler(backend).counters.early_tokens_wasted


def watched(backend: SeedBackend, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each pass how many jobs that are certain, and how many early ones, it verifies."""
    passes: list[tuple[int, int]] = []
    original = Scheduler._commit

    def commit(self: Scheduler, ready: Sequence[object], *rest: object) -> None:
        passes.append((sum(not job.early for job in ready), sum(job.early for job in ready)))  # type: ignore[attr-defined]
        original(self, ready, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "_commit", commit)
    return passes


def test_an_engine_whose_early_requests_were_given_up_can_be_reset(folder: str) -> None:
    """Its loop is closed, so nobody else lets go of them; a request that is awaited still forbids it."""
    backend = SeedBackend(folder, device=DEVICE)

    async def solve() -> None:
        early = asyncio.ensure_future(backend.generate(request("1 2", tokens=60, priority=0.5)))
        awaited = asyncio.ensure_future(backend.generate(request("3 4", tokens=60)))
        await backend.generate(request("5 6", tokens=1))
        with pytest.raises(BackendError, match="await them first"):
            backend.reset()
        await awaited
        early.cancel()

    asyncio.run(solve())
    backend.reset()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drafter": "none"},
        {"drafter": "recycling", "draft_tokens": 3},
        {"kv_memory": 150 * SLOT / 1e6, "chunk": 7, "max_rows": 3},
        {"policy": "fcfs"},
        {"policy": "serial"},
    ],
    ids=["auto", "plain", "table", "little-memory", "fcfs", "serial"],
)
@pytest.mark.parametrize("seed", range(3))
def test_answers_are_the_same_with_early_requests(folder: str, options: dict[str, object], seed: int) -> None:
    """Whatever is sent early, raised or cancelled at whatever time, each answer is that of a request sent alone."""
    chance = random.Random(seed)
    wanted = [request(f"w{i}", chance.randrange(2, 30), n=chance.randrange(1, 3)) for i in range(6)]
    wanted.append(replace(wanted[0], sampling=Sampling(max_tokens=6, num_beams=2)))
    plain = SeedBackend(folder, device=DEVICE, dtype="float64", drafter="none")
    expected: dict[str, Reply] = {one.id: asyncio.run(plain.generate(one)) for one in wanted}
    backend = SeedBackend(folder, device=DEVICE, dtype="float64", **options)  # type: ignore[arg-type]

    async def run() -> None:
        tasks: dict[str, asyncio.Future[Reply]] = {}
        misses = [
            asyncio.ensure_future(backend.generate(request(f"m{i}", 40, priority=chance.random()))) for i in range(4)
        ]
        for one in wanted:
            tasks[one.id] = asyncio.ensure_future(backend.generate(replace(one, priority=chance.random())))
        for turn, one in enumerate(wanted):
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            if turn % 2:
                assert await backend.generate(replace(one, key=one.key)) == expected[one.id]
            else:
                backend.raise_priority(one)
            if turn < len(misses):
                misses[turn].cancel()
        for one in wanted:
            assert await tasks[one.id] == expected[one.id]
        await asyncio.gather(*misses, return_exceptions=True)

    asyncio.run(run())
    backend.check()
    assert not scheduler(backend).busy


@pytest.mark.parametrize("hit", [0.5, 1.0])
def test_drafts_of_early_rows_change_no_answer(folder: str, hit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """An early row is drafted for beside a certain one, and its text is the same, whatever part of a draft is kept."""
    wanted = [request("c", 100), *(request(f"e{i}", 40) for i in range(4))]
    plain = SeedBackend(folder, device=DEVICE, dtype="float64", drafter="none")
    expected = [asyncio.run(plain.generate(one)) for one in wanted]
    truth = {one.key.stream(0): reply.completions[0].tokens or () for one, reply in zip(wanted, expected, strict=True)}
    backend = SeedBackend(folder, device=DEVICE, dtype="float64", drafter=lambda: Trees(truth, hit=hit))
    backend.load()
    drafted: list[int] = []
    original = Scheduler._commit

    def commit(self: Scheduler, ready: Sequence[object], *rest: object) -> None:
        drafted.extend(sum(job.drafted) for job in ready[1:] if job.early)  # type: ignore[attr-defined]
        original(self, ready, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "_commit", commit)

    async def run() -> list[Reply]:
        early = [replace(one, priority=0.8) for one in wanted[1:]]
        return await asyncio.gather(*(backend.generate(one) for one in [wanted[0], *early]))

    assert asyncio.run(run()) == expected
    assert sum(drafted) > 0
    backend.check()


def test_early_rows_join_where_a_row_is_cheap(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one row early ones run, at most so many that they add half its time; beside very many none does."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none")
    backend.load()
    passes = watched(backend, monkeypatch)

    async def run(certain: int, early: int) -> None:
        passes.clear()
        work = [asyncio.ensure_future(backend.generate(request(f"c{certain}.{i}"))) for i in range(certain)]
        guesses = [asyncio.ensure_future(backend.generate(request(f"e{i}", 30, priority=0.4))) for i in range(early)]
        await asyncio.gather(*work)
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)

    asyncio.run(run(1, 60))
    beside = [early for certain, early in passes if certain]
    most = next(rows for rows in range(1, 99) if COSTS(1 + rows) > 1.5 * COSTS(1)) - 1
    assert 5 < max(beside) <= most
    asyncio.run(run(40, 10))
    assert sum(early for certain, early in passes if certain == 40) == 0
    assert wasted(backend) > 0


def test_unlikely_rows_are_left_out(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of hardly any chance is not worth the little time that it adds."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none")
    backend.load()
    passes = watched(backend, monkeypatch)

    async def run(chance: float) -> int:
        passes.clear()
        guess = asyncio.ensure_future(backend.generate(request("e", 30, priority=chance)))
        await backend.generate(request("c"))
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)
        return sum(early for certain, early in passes if certain)

    assert asyncio.run(run(0.001)) == 0
    assert asyncio.run(run(0.5)) > 0


def test_a_raised_request_runs_at_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a row like the others from the next round on, with the tokens that it has."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none")
    backend.load()
    passes = watched(backend, monkeypatch)

    async def run() -> None:
        wanted = request("e", 30)
        guess = asyncio.ensure_future(backend.generate(replace(wanted, priority=0.5)))
        await backend.generate(request("c", 10))
        before = len(passes)
        backend.raise_priority(wanted)
        await guess
        assert {certain for certain, early in passes[before + 1 :]} == {1}
        assert len(passes) - before <= 22  # ten of the thirty tokens were there

    asyncio.run(run())


def test_certain_requests_take_as_many_rounds_as_without(folder: str) -> None:
    """Early requests that wait before and come meanwhile take no row, no prompt and no draft from a certain one."""

    async def rounds(backend: SeedBackend, early: int) -> int:
        guesses = [
            asyncio.ensure_future(backend.generate(request(f"e{i}", 60, priority=0.9, n=2))) for i in range(early)
        ]
        await asyncio.sleep(0)
        work = [asyncio.ensure_future(backend.generate(request(f"c{i}", 25))) for i in range(3)]
        before = scheduler(backend).counters.rounds
        await asyncio.gather(*work)
        spent = scheduler(backend).counters.rounds - before
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)
        return spent

    for options in ({"max_rows": 3}, {"draft_tokens": 3, "chunk": 16}, {"kv_memory": 400 * SLOT / 1e6}):
        found = []
        for early in (0, 8):
            backend = SeedBackend(folder, device=DEVICE, **options)  # type: ignore[arg-type]
            backend.load()
            found.append(asyncio.run(rounds(backend, early)))
        assert found[1] <= found[0], options


def test_a_cancelled_request_frees_its_memory_in_the_next_round(folder: str) -> None:
    """Its row is gone and its slots are free while others go on."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none")
    backend.load()
    pool = scheduler(backend).runner.forest.pool

    async def run() -> None:
        other = asyncio.ensure_future(backend.generate(request("c", 60)))
        held: list[int] = []
        tokens: list[int] = []
        early = request("e", 60, n=8, priority=0.5)
        guess = asyncio.ensure_future(backend.stream(early, lambda part: tokens.append(part.tokens or 0)))
        while len(tokens) < 40:  # noqa: ASYNC110  # the engine's thread sets no event
            await asyncio.sleep(0)
        held.append(pool.used)
        guess.cancel()
        before = scheduler(backend).counters.rounds
        while scheduler(backend).counters.rounds < before + 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        held.append(pool.used)
        await other
        assert held[1] < held[0] - 8

    asyncio.run(run())
    assert wasted(backend) >= 40


def test_early_rounds_wait_for_the_loop(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reply the search asks for what it needs next before another pass of early rows alone begins."""
    backend = SeedBackend(folder, device=DEVICE, drafter="none")
    backend.load()
    passes = watched(backend, monkeypatch)

    async def run() -> None:
        guess = asyncio.ensure_future(backend.generate(request("e", 200, priority=0.5)))
        for step in range(5):
            await backend.generate(request(f"c{step}", 5))
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)

    asyncio.run(run())
    begin = next(place for place, (certain, _) in enumerate(passes) if certain)
    alone = [early for certain, early in passes[begin:-2] if not certain]
    assert len(alone) <= 1


def test_an_early_request_that_cannot_run_fails_alone(folder: str) -> None:
    """One that is too large and one whose constraint allows nothing: what is awaited beside them is answered."""
    backend = SeedBackend(folder, device=DEVICE, dtype="float64", kv_memory=300 * SLOT / 1e6)
    wanted = request("c", 30)
    expected = asyncio.run(SeedBackend(folder, device=DEVICE, dtype="float64", drafter="none").generate(wanted))
    impossible = replace(wanted.sampling, constraint=Constraint("regex", "a[^\\s\\S]"))
    broken = [replace(wanted, prompt="word " * 4000), replace(wanted, sampling=impossible)]

    async def run() -> list[Reply | BaseException]:
        early = [backend.generate(replace(one, priority=0.5)) for one in broken]
        return await asyncio.gather(*early, backend.generate(wanted), return_exceptions=True)

    *failed, answered = asyncio.run(run())
    assert answered == expected
    assert all(isinstance(error, BackendError) for error in failed)
    backend.check()
    assert not scheduler(backend).busy
