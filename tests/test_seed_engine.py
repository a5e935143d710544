"""The engine's life: several loops, threads and searches on one engine, fairness, figures, closing."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from device import DEVICE
from draft_bench import under_way
from seed_tools import LIMIT, MIX, PROMPTS, Naive, Open, ask, idle, request, scheduler, told

from treeagent import Agent
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.scheduler.decode_job import DecodeJob
from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling
from treeagent.strategies.bfs import BFS

pytestmark = pytest.mark.usefixtures("fixed_times")


@pytest.fixture(scope="module")
def backend(opened: Open) -> SeedBackend:
    """One for tests that change nothing."""
    return opened()


# Several users of one engine.


def test_loops_in_several_threads_share_rounds(backend: SeedBackend, naive: Naive) -> None:
    """Each thread's loop gets its own answers, while all are worked on together."""
    answers: dict[int, Any] = {}
    parts = [MIX[:3], MIX[3:5], MIX[5:]]
    threads = [
        threading.Thread(target=lambda i=i, part=part: answers.update({i: told(ask(backend, *part))}), daemon=True)
        for i, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert [answers.get(i) for i in range(3)] == [naive.expected(part) for part in parts]


@pytest.mark.exhaustive
def test_searches_share_an_engine_and_find_what_they_find_alone() -> None:
    """Two searches at once give the trees that they give one after another, in fewer rounds."""
    backend = SeedBackend("mini", device=DEVICE, drafter="none")
    agents = [Agent(task="game24", search=BFS(b=1), backend=backend) for _ in range(2)]

    async def together() -> list[Any]:
        solving = [agent.asolve(input) for agent, input in zip(agents, ("4 9 10 13", "1 5 8 9"), strict=True)]
        return await asyncio.wait_for(asyncio.gather(*solving), LIMIT)

    def rounds() -> int:
        idle(backend)
        return scheduler(backend).counters.rounds

    (found, other), shared = asyncio.run(together()), rounds()
    assert (found.ended, other.ended) == ("finished", "finished")
    backend.reset()
    alone = agents[0].solve("4 9 10 13")
    assert (found.path, found.answer) == (alone.path, alone.answer)
    assert [thought.text for thought in found.tree] == [thought.text for thought in alone.tree]
    assert shared < 1.7 * (rounds() - shared)
    asyncio.run(backend.aclose())


def test_nothing_is_done_when_nothing_is_asked(backend: SeedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the last answer is out no round is made and no thread is added."""
    ask(backend, MIX[0])
    idle(backend)
    threads = set(threading.enumerate())
    rounds: list[int] = []
    whole = scheduler(backend).round
    monkeypatch.setattr(scheduler(backend), "round", lambda **asked: rounds.append(1) or whole(**asked))
    ask(backend, MIX[0])
    idle(backend)
    assert len(rounds) <= MIX[0].sampling.max_tokens + 2
    assert set(threading.enumerate()) <= threads


# Fairness.


@pytest.mark.parametrize("policy", ["rounds", "fcfs"])
def test_no_branch_starves(opened: Open, monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    """Between two verifications of a branch that is live and read, every other one is verified at most once."""
    backend = opened(policy=policy, drafter="none")
    verified: list[list[int]] = []
    rule = scheduler(backend).verifier
    verify = rule.verify
    monkeypatch.setattr(
        rule, "verify", lambda claims, logits: verified.append([c.row.stream for c in claims]) or verify(claims, logits)
    )
    ask(backend, *(request(i % 3, i, 2, temperature=0.7, max_tokens=8 + i) for i in range(4)))
    order = [stream for claims in verified for stream in claims]
    for stream in set(order):
        places = [place for place, other in enumerate(order) if other == stream]
        for start, end in pairwise(places):
            assert len(set(order[start:end])) == end - start
    if policy == "rounds":
        assert {len(claims) for claims in verified[:8]} == {8}


def test_a_long_prompt_does_not_hold_up_the_others(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in pieces, in the rounds in which the others get their tokens."""
    backend = opened(drafter="none", chunk=8)
    widths: list[list[int]] = []
    runner = scheduler(backend).runner
    forward = runner.forward
    monkeypatch.setattr(
        runner, "forward", lambda spans: widths.append([len(span.tokens) for span in spans]) or forward(spans)
    )
    short = Request("24", Key(0, "propose", "0"), Sampling(max_tokens=20))
    long = Request("x" * 150, Key(0, "propose", "1"), Sampling(max_tokens=4))
    ask(backend, long, short)
    assert max(map(sum, widths)) <= 8 + 2
    assert len(widths) <= 26  # the long prompt alone takes 19


def test_requests_enter_in_order(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few rows, who came first is served first."""
    backend = opened(max_rows=2, drafter="none")
    seen: list[int] = []
    commit = DecodeJob.commit

    def spy(self: DecodeJob, *given: Any) -> Any:
        assert len(scheduler(backend).live) <= 2
        if self.sequence.stream not in seen:
            seen.append(self.sequence.stream)
        return commit(self, *given)

    monkeypatch.setattr(DecodeJob, "commit", spy)
    requests = [request(i % 3, i, max_tokens=3 + i % 2) for i in range(7)]
    ask(backend, *requests)
    assert seen == [asked.key.stream(0) for asked in requests]


# Figures.


def test_figures_tell_what_was_done(pair: Path, opened: Open, naive: Naive) -> None:
    """Tokens, passes, acceptance and memory as a meter has them."""
    backend = opened(draft=str(pair / "model-draft"), drafter="model", draft_tokens=4)
    early, requests = backend.meter(), [request(0, i, 2, max_tokens=20, temperature=0.2) for i in range(2)]
    ask(backend, *requests)
    idle(backend)
    figures = early()
    assert figures["tokens"] == sum(len(tokens) for tokens in naive.truth(requests).values())
    assert figures["block_efficiency"] > 1.2
    assert 0 < figures["accepted"] < figures["drafted"]
    assert figures["acceptance"] == pytest.approx(figures["accepted"] / figures["drafted"], abs=1e-3)
    assert len(figures["acceptance_by_position"]) == 4
    assert figures["rows_per_round"] <= 4
    assert 0 < figures["overhead"] < 1
    assert figures["target_seconds"] + figures["draft_seconds"] < figures["seconds"]
    assert figures["draft_seconds"] > 0
    prompt = len(naive.text.prompt(PROMPTS[0])) - 1
    assert (figures["prefix_tokens_computed"], figures["prefix_tokens_reused"]) == (prompt, 3 * prompt)
    assert prompt < figures["kv_tokens"] <= figures["kv_peak_tokens"] <= figures["kv_allocated_tokens"]
    assert figures["kv_peak_bytes"] == figures["kv_peak_tokens"] * 2 * 2 * 2 * 8 * 8  # layers, k and v, heads, D, bytes
    assert figures["drafter"] == "model"
    assert figures["preempted"] == 0
    late = backend.meter()
    ask(backend, requests[0])
    idle(backend)
    assert late()["tokens"] < early()["tokens"]
    assert late()["prefix_tokens_computed"] == 0


def test_a_completion_tells_which_tokens_were_drafted(pair: Path, opened: Open) -> None:
    """As many as the engine has counted, but for those of the last draft that lie beyond the end; each token's text
    ends where the offsets say. Without a drafter nothing is known.
    """
    asked = request(0, 0, 1, max_tokens=20, temperature=0.2)
    asked = replace(asked, sampling=replace(asked.sampling, stop=("never said",)))
    backend = opened(draft=str(pair / "model-draft"), drafter="model", draft_tokens=4)
    meter = backend.meter()
    [completion] = ask(backend, asked)[0].completions
    idle(backend)
    accepted = meter()["accepted"]
    assert completion.drafted is not None
    assert max(1, accepted - 4) <= len(completion.drafted) <= accepted
    assert set(completion.drafted) < set(range(20))
    assert completion.ends is not None
    assert len(completion.ends) == 20
    assert completion.ends[-1] == len(completion.text)
    [plain] = ask(opened(drafter="none"), asked)[0].completions
    assert plain == completion
    assert plain.drafted is plain.ends is None


def test_a_meter_of_an_engine_that_is_not_loaded_counts_from_its_loading(pair: Path) -> None:
    """It has no figures before, and all of them afterwards."""
    backend = SeedBackend(str(pair / "model"), device=DEVICE)
    read = backend.meter()
    assert read() == {}
    ask(backend, MIX[6])
    idle(backend)
    assert read()["tokens"] == 1


# Resetting, closing.


def test_reset_forgets_prefixes_and_tables(backend: SeedBackend) -> None:
    """After it an engine computes again what it had; with ``tables`` off drafters keep what they learnt."""
    asked = request(0, 0, max_tokens=20)
    first, *_ = ask(backend, asked)
    idle(backend)
    for tables in (True, False):
        backend.reset(tables=tables)
        read = backend.meter()
        assert read()["kv_tokens"] == 0
        assert ask(backend, asked) == [first]
        idle(backend)
        assert read()["prefix_tokens_computed"] > 0
        assert (read()["accepted"] > 10) == (not tables)


def test_reset_waits_for_nobody(backend: SeedBackend) -> None:
    """While requests are running it is refused."""

    async def run() -> None:
        task = asyncio.ensure_future(backend.generate(request(0, 0, 4, temperature=1.0, max_tokens=150)))
        await under_way(backend)
        with pytest.raises(BackendError, match="running"):
            backend.reset()
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), LIMIT))
    idle(backend)
    backend.reset()


def test_closing_waits_for_what_is_running_and_the_engine_can_be_used_again(opened: Open, naive: Naive) -> None:
    """Pending requests are answered; then models, keys and values are gone, until the next request."""
    backend = opened()

    async def run() -> list[Any]:
        tasks = [asyncio.ensure_future(backend.generate(asked)) for asked in MIX]
        await under_way(backend)
        await backend.aclose()
        return await asyncio.gather(*tasks)

    assert told(asyncio.run(asyncio.wait_for(run(), LIMIT))) == naive.expected(MIX)
    assert backend.core.parts is None
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
