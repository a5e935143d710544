"""Which requests are sent early: their chances, what a pass costs against Python, and who else runs."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from early_tools import KeyedBackend, real
from synthetic import solve, task
from test_early_faults import Clocked, clocked

from treeagent import Agent, Backend, Completion, Key, Reply, Request, Usage
from treeagent.backends.seed.scheduler.early_jobs import Spare
from treeagent.runtime import guarded_task
from treeagent.runtime.budget import Budget, Ledger
from treeagent.runtime.early_entry import NotAnsweredError
from treeagent.runtime.early_figures import LEAST, Chances
from treeagent.runtime.early_requests import EarlyRequests
from treeagent.runtime.guarded_task import GuardedTask
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.taskfile.step_reader import StepReader

TREE = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


class Echo(Backend):
    """Notes what it is asked for, with the priority."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    async def generate(self, request: Request) -> Reply:
        """The prompt itself."""
        self.asked.append((request.prompt, request.priority))
        return Reply((Completion(request.prompt),), Usage(1, 1, 1))


class Timed(KeyedBackend):
    """Says what a pass takes."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__(TREE, None)
        self.seconds = seconds

    def pass_seconds(self) -> float | None:
        """As told."""
        return self.seconds


def request(name: str) -> Request:
    """One for a text of its own."""
    return Request(name, Key(0, "propose", name))


def guess(chances: dict[str, float], real: list[str]) -> tuple[list[str], Chances]:
    """Guess requests with these chances, of which the search then asks for some: those sent early, and what is learnt.

    All are of the kind ``piece``.
    """
    backend, learnt = Echo(), Chances()

    async def run() -> None:
        early = EarlyRequests([backend], Ledger(Budget()), learnt, lambda name: None, "here")
        early.allow(8)
        await early.answer(request("first"), 0)
        await asyncio.gather(
            *(early.ahead(request(name), "piece", 0, chance) for name, chance in chances.items()),
            return_exceptions=True,
        )
        for name in real:
            await early.answer(request(name), 0)
        await early.close()

    asyncio.run(run())
    return [name for name, priority in backend.asked if priority < 1], learnt


def test_the_unlikely_is_not_sent_and_the_likeliest_comes_first() -> None:
    """Below the least chance nothing is sent; what is sent goes out in the order of the chances, with them."""
    sent, _ = guess({"a": LEAST / 2, "b": LEAST * 2, "c": 0.9, "d": 0.3}, [])
    assert sent == ["c", "d", "b"]


def test_what_is_not_sent_is_learnt_from_as_well() -> None:
    """A guess that was too unlikely to be sent raises the chance where the search asks for it, and else lowers it."""
    before = Chances()["piece"]
    sent, hit = guess({"a": LEAST / 2}, ["a"])
    assert not sent
    assert hit["piece"] > before
    assert guess({"a": LEAST / 2}, [])[1]["piece"] < before


def test_misses_that_write_much_end_a_kind_and_hits_bring_it_back() -> None:
    """A kind that writes long texts in vain falls below the least chance; would-be hits raise it again."""
    chances = Chances()
    for _ in range(50):
        chances.learn("next", hit=False, written=200)
    assert chances["next"] < LEAST
    assert chances["judgement"] > 0.9
    while chances["next"] < LEAST:
        before = chances["next"]
        chances.learn("next", hit=True)
        assert chances["next"] > before


def test_an_early_request_that_does_not_wait_for_its_chance_raises_not_answered() -> None:
    """Who guessed hears at once that there will be no answer."""

    async def run() -> None:
        early = EarlyRequests([Echo()], Ledger(Budget()), Chances(), lambda name: None, "here")
        early.allow(8)
        await early.answer(request("first"), 0)
        with pytest.raises(NotAnsweredError):
            await early.ahead(request("a"), "piece", 0, LEAST / 2)

    asyncio.run(run())


def speculated(agent: Agent) -> bool:
    """Whether a run of it may send requests early."""
    return agent.solve(agent.task.examples[0]).speculated is not None


@pytest.mark.parametrize(("seconds", "sent"), [(0.0001, False), (0.02, True), (None, True)])
def test_auto_sends_none_where_a_pass_is_shorter_than_the_python_of_a_request(
    seconds: float | None, sent: bool
) -> None:
    """Unless a number is given."""
    backend = Timed(seconds)
    assert speculated(Agent(task(), DFS(), backend=backend, speculate="auto")) is sent
    assert speculated(Agent(task(), DFS(), backend=backend, speculate=1))
    assert not speculated(Agent(task(), DFS(), backend=backend, speculate=0))


def test_auto_weighs_what_the_task_was_measured_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first search finds out that prompts take longer than a pass, and the next one sends nothing early."""
    agent = Agent(task(), DFS(), backend=Timed(0.02), speculate="auto")
    quick = Agent(task(), DFS(), backend=Timed(0.02), speculate="auto")
    ticks = iter(range(10**9))
    clocks = {"slow": lambda: next(ticks) * 0.05, "quick": lambda: 0.0}
    for used, name, later in ((agent, "slow", False), (quick, "quick", True)):
        monkeypatch.setattr(guarded_task, "time", SimpleNamespace(thread_time=clocks[name]))
        assert speculated(used)
        assert speculated(used) is later


def test_runs_that_go_on_at_once_share_what_the_backend_has_room_for() -> None:
    """Many problems at once send nothing early, one alone does."""
    backend = KeyedBackend(TREE, None, rows=8)
    agent = Agent(task(), DFS(), backend=backend, speculate="auto")

    async def run(number: int) -> list[bool]:
        results = await asyncio.gather(*(agent.asolve("r") for _ in range(number)))
        return [result.speculated is not None for result in results]

    assert not any(asyncio.run(run(24)))
    assert asyncio.run(run(1)) == [True]


@pytest.mark.parametrize("apart", [True, False])
def test_a_list_is_read_once_and_without_a_thread_where_the_task_allows_it(
    apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that may take long reads the text anew for each line, in a thread; the tree is the same."""
    threads: list[bool] = []
    texts: list[str] = []
    read = StepReader.read

    def noted(self: StepReader, role: str, completion: str, *rest: Any) -> Any:
        threads.append(threading.current_thread() is not threading.main_thread())
        texts.append(completion)
        return read(self, role, completion, *rest)

    used = task()
    assert used.reads_apart
    used.reads_apart = apart
    plain = real(solve(KeyedBackend(TREE, 1), BFS(), task=used, speculate=0))
    monkeypatch.setattr(StepReader, "read", noted)
    assert real(solve(KeyedBackend(TREE, 1), BFS(), task=used, speculate=8)) == plain
    ahead = [text for text, thread in zip(texts, threads, strict=True) if not thread]
    assert bool(ahead) is apart
    if not apart:
        assert any(later.startswith(text) and later != text for text in texts for later in texts if text)


def test_what_is_read_piece_by_piece_is_guessed_as_from_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of a loop: the same hits and misses, after the same time."""

    def figures(*, apart: bool) -> Any:
        monkeypatch.setattr(GuardedTask, "reads_apart", apart)
        result, seconds = clocked(Clocked(), DFS(threshold=0.0), 8)
        assert result.speculated is not None
        return result.speculated.hits, result.speculated.misses, seconds

    assert figures(apart=True) == figures(apart=False)


def linear(rows: float, nodes: float = 0.0) -> float:
    """A pass in which a further row takes a tenth, and a token 0.05 of one with a row."""
    return 1 + 0.1 * (rows - 1) + 0.05 * nodes


def test_the_prompt_of_a_likely_request_is_taken_in_whole() -> None:
    """It would be computed later anyway; of an unlikely one only so much is, as if it were in vain."""
    sure, unsure = (Spare(linear, 1, 1, 1).prompt(20, chance) for chance in (0.97, 0.2))
    assert sure == 20
    assert 0 < unsure < 10
    assert Spare(linear, 1, 1, 1).prompt(10_000, 0.999) < 100


def test_a_prompt_that_moves_leaves_room_for_rows() -> None:
    """Its time is taken from a later pass; one that is lost in part takes the time of others."""
    spares = [Spare(linear, 1, 1, 1) for _ in range(2)]
    for spare, chance in zip(spares, (0.97, 0.2), strict=True):
        spare.add_prompt(20, chance)
    assert [spare.affords(1, 1, 0.9) for spare in spares] == [True, False]


def test_early_rows_save_less_the_more_of_them_there_are() -> None:
    """Rows of a later pass share its time, so a row that pays beside one does not pay beside six."""
    spare = Spare(linear, 1, 1, 1)
    taken = 0
    while spare.affords(1, 1, 0.4):
        spare.add(1, 1)
        taken += 1
    assert 1 <= taken <= 4
    assert not Spare(linear, 6, 6, 6).affords(1, 1, 0.4)
    assert Spare(linear, 1, 1, 1).affords(1, 1, 0.4)
