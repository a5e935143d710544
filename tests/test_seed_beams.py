"""Beams in the engine: forest-parallel passes, forks, preemption; whatever is drafted, plain beams come out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from beam_tools import BEAMS, expected, same
from draft_bench import Bench, draft_with_the_target, under_way
from seed_tools import FEW, MIX, Naive, ask, clean, idle, request, scheduler

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.model.drafter import ModelDrafter
from treeagent.backends.seed.scheduler.metrics import Counters
from treeagent.errors import ConfigError
from treeagent.reply import Reply
from treeagent.request import Request

POLICIES = ("rounds", "fcfs", "serial")
Open = Callable[..., Bench]

SOME = [BEAMS[1], BEAMS[5], request(3, 38, num_beams=3, temperature=0.7, max_tokens=7)]
ALL = [request for pair in zip(BEAMS, MIX, strict=False) for request in pair]
"""Together with ordinary requests."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Engines by family and dtype, each loaded once."""
    known: dict[tuple[str, str], Bench] = {}

    def open_bench(family: str, dtype: str = "float64") -> Bench:
        if (family, dtype) not in known:
            known[family, dtype] = Bench.of(tmp_path_factory.mktemp(f"{family}-{dtype}"), family, dtype)
        return known[family, dtype]

    return open_bench


def longest(one: Bench, requests: list[Request]) -> int:
    """Slots that the largest of the requests may need."""
    return max(
        len(one.naive.text.prompt(asked.prompt)) + asked.sampling.num_beams * asked.sampling.max_tokens
        for asked in requests
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_beams_are_those_of_naive_decoding(bench: Open, family: str, policy: str) -> None:
    """In one batch with ordinary requests, under every policy; nothing is left behind."""
    one = bench(family)
    mixed = ALL if policy == "rounds" else [*SOME, *FEW]
    backend = one.set_up("none", policy)
    assert same(ask(backend, *mixed), expected(one.naive, mixed))
    one.settle()


def test_beams_are_those_of_naive_decoding_in_float32(bench: Open) -> None:
    """Where weights are packed."""
    one = bench("llama", "float32")
    assert same(ask(one.set_up("none"), *BEAMS), expected(one.naive, BEAMS))
    one.settle()


@pytest.mark.parametrize("policy", POLICIES)
def test_too_little_memory_changes_no_beam(bench: Open, policy: str) -> None:
    """Groups of branches join all or none, and are preempted and computed again as a whole."""
    one = bench("llama")
    mixed = ALL if policy == "rounds" else [*SOME, *FEW]
    slots = longest(one, mixed) + 3
    backend = one.set_up("none", policy, slots=slots, chunk=7)
    before = one.scheduler.counters.copy()
    assert same(ask(backend, *mixed), expected(one.naive, mixed))
    one.settle()
    if policy == "rounds":
        assert one.scheduler.counters.since(before).preempted > 0
    assert one.scheduler.runner.forest.pool.peak <= slots


def test_beams_that_could_never_fit_are_refused(bench: Open) -> None:
    """At once, with what they need; one slot more suffices."""
    one = bench("llama")
    asked = BEAMS[1]
    need = longest(one, [asked])
    [error] = ask(one.set_up("none", slots=need - 1), asked, errors=True)
    assert f"keys and values of {need} tokens" in str(error)
    assert same(ask(one.set_up("none", slots=need), asked), expected(one.naive, [asked]))
    one.settle()


def test_beams_count_as_rows(bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few rows a group joins when all its beams may; one that is wider than that runs alone."""
    one = bench("llama")
    backend = one.set_up("none")
    monkeypatch.setattr(one.scheduler.jobs, "max_rows", 3)
    before = one.scheduler.counters.copy()
    assert same(ask(backend, *ALL), expected(one.naive, ALL))
    one.settle()
    counters = one.scheduler.counters.since(before)
    assert counters.row_passes <= 3 * counters.rounds


def test_beams_of_a_cancelled_request_leave(bench: Open) -> None:
    """Their branches are given up, and what was asked beside them is answered."""
    one = bench("llama")
    backend = one.set_up("none")

    async def run() -> list:
        tasks = [asyncio.ensure_future(backend.generate(asked)) for asked in ALL]
        await under_way(backend)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(run())
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert same(results[1::2], expected(one.naive, ALL[1::2]))
    one.settle()


def test_a_group_counts_as_one_branch_and_a_step_as_one_token(bench: Open) -> None:
    """So that block efficiency is 1 without drafts, with beams too."""
    one = bench("llama")
    backend = one.set_up("none")
    before = one.scheduler.counters.copy()
    [reply] = ask(backend, request(0, 39, num_beams=4, max_tokens=6, temperature=0.3))
    idle(backend)
    counters = one.scheduler.counters.since(before)
    assert counters.tokens == counters.row_passes
    assert counters.tokens <= 6
    assert counters.tokens <= reply.usage.completion_tokens


def spread(one: Bench, requests: list[Request], how: str, policy: str = "rounds", **options: int) -> Counters:
    """Counters of an engine that drafts, after it gave the naive beams and left nothing behind."""
    backend = one.set_up(how, policy, **{"draft_tokens": 5, **options})
    before = one.scheduler.counters.copy()
    assert same(ask(backend, *requests), expected(one.naive, requests))
    one.settle()
    return one.scheduler.counters.since(before)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", ["model", "ngram+model", "rsd-c:2x2", "ngram"])
def test_drafted_beams_are_those_of_naive_decoding(bench: Open, how: str, policy: str) -> None:
    """Token for token, together with ordinary requests, whatever else the draft model drafts in the same passes."""
    mixed = ALL if policy == "rounds" else [*SOME, *FEW]
    counters = spread(bench("llama"), mixed, how, policy)
    if how != "ngram":
        assert 0 < counters.accepted < counters.drafted


@pytest.mark.sampled(2)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_beams_alone_are_drafted(bench: Open, family: str) -> None:
    """Layers are accepted, so that a pass takes more than a step."""
    figures = spread(bench(family), BEAMS, "model").figures()
    assert 0 < figures["acceptance"] < 1
    assert figures["block_efficiency"] > 1.2
    assert len(figures["acceptance_by_position"]) == 3


def test_tables_draft_for_no_beams(bench: Open) -> None:
    """With a table alone a round is a step."""
    counters = spread(bench("llama"), BEAMS, "ngram")
    assert counters.drafted == 0
    assert counters.tokens == counters.row_passes


def test_drafted_beams_in_float32_by_measured_times(bench: Open) -> None:
    """As with drafts of a given size."""
    spread(bench("llama", "float32"), ALL, "model", draft_tokens=None)


def test_beams_are_drafted_until_that_proves_dear(bench: Open) -> None:
    """By the times of passes and, after the first round, by what a step's joint law takes."""
    one = bench("llama")
    assert spread(one, BEAMS, "model", draft_tokens=None).drafted > 0
    drafter = one.scheduler.speculator.drafter
    assert isinstance(drafter, ModelDrafter)
    assert drafter.beams is not None
    assert drafter.beams.depth_policy is not None
    drafter.beams.depth_policy.record_step(1e9)
    before = one.scheduler.counters.copy()
    assert same(ask(one.backend, *BEAMS), expected(one.naive, BEAMS))
    assert one.scheduler.counters.since(before).drafted == 0


def test_a_step_that_ends_all_beams_does_not_count_for_its_draft() -> None:
    """Nobody looks whether it was drafted."""
    counters = Counters()
    assert counters.count_beams(3, 2, ended=False) == [True, False]
    assert counters.count_beams(3, 2, ended=True) == [True]
    assert counters.count_beams(3, 4, ended=True) == [True, True, True]
    assert counters.count_beams(0, 1, ended=True) == []
    assert counters.tried_by_position[:3] == [3, 2, 1]
    assert counters.accepted_by_position[:3] == [3, 1, 1]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("policy", POLICIES)
def test_drafted_beams_with_too_little_memory(bench: Open, policy: str) -> None:
    """Groups go without drafts, are preempted, and are drafted again."""
    one = bench("llama")
    mixed = ALL if policy == "rounds" else [*SOME, *FEW]
    for extra in (3, 40):
        spread(one, mixed, "model", policy, slots=longest(one, mixed) + extra, chunk=7)
        assert one.scheduler.runner.forest.pool.peak <= longest(one, mixed) + extra


@pytest.mark.sampled(2)
@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0])
def test_a_model_that_drafts_its_own_beams_is_always_right(bench: Open, temperature: float) -> None:
    """With the target as the draft model every layer is accepted: the same noise, no hole in what it has read."""
    one = bench("llama")
    backend = one.set_up("model")
    draft_with_the_target(one)
    asked = [request(place, 50 + place, num_beams=3, temperature=temperature, max_tokens=16) for place in range(3)]
    before = one.scheduler.counters.copy()
    assert same(ask(backend, *asked), expected(one.naive, asked))
    idle(backend)
    counters = one.scheduler.counters.since(before)
    assert counters.accepted == counters.drafted or counters.figures()["acceptance"] > 0.9
    assert counters.figures()["block_efficiency"] > 3


@pytest.mark.sampled(3)
@pytest.mark.parametrize("options", [{}, {"beam_threshold": 0.5, "beam_min": 2}, {"beam_survivors": 1}])
def test_the_engine_draws_beams_by_rejection(opened: Open, naive: Naive, pair: Path, options: dict[str, float]) -> None:
    """Searches are the naive ones (all beams going on); sampled beams end, score what they say, and leave nothing."""
    backend = opened(draft=str(pair / "model-draft"), drafter="model", verify="recursive", beam_draft="6x3", **options)
    greedy = [BEAMS[0], BEAMS[5]]
    if "beam_survivors" not in options:
        assert same(ask(backend, *greedy), expected(naive, greedy))
    read = backend.meter()
    for slots in (10_000, 120):
        for runner in (scheduler(backend).runner, backend.core.parts.draft_runner):  # type: ignore[union-attr]
            runner.memory = slots * runner.forest.pool.slot_bytes  # type: ignore[union-attr]
        backend.reset()
        for asked, reply in zip(ALL, ask(backend, *ALL), strict=True):
            assert len(reply.completions) == asked.n
            for made in reply.completions:
                assert made.logprob is not None
        clean(backend)
    assert read()["accepted"] > 0
    warm = request(1, 60, num_beams=3, temperature=0.7, max_tokens=8)
    for _ in range(3):
        [made] = ask(backend, warm)[0].completions
        ids = naive.text.prompt(warm.prompt)
        assert made.tokens is not None
        if made.finish == "length":
            logs = naive.logits([*ids, *made.tokens]).double().log_softmax(1)[len(ids) - 1 : -1]
            assert made.logprob == pytest.approx(float(logs[range(8), list(made.tokens)].sum()), abs=1e-6)


def test_one_survivor_needs_the_memory_of_one_text(opened: Open, naive: Naive, pair: Path) -> None:
    """A request fits where prompt and one text do, and more beams would be refused."""
    asked = request(1, 61, num_beams=4, temperature=0.7, max_tokens=10)
    need = len(naive.text.prompt(asked.prompt)) + 10
    for options, fits in (({"beam_survivors": 1}, True), ({}, False)):
        backend = opened(draft=str(pair / "model-draft"), drafter="model", verify="recursive", **options)
        for runner in (scheduler(backend).runner, backend.core.parts.draft_runner):  # type: ignore[union-attr]
            runner.memory = need * runner.forest.pool.slot_bytes  # type: ignore[union-attr]
        backend.reset()
        [result] = ask(backend, asked, errors=True)
        assert isinstance(result, Reply) == fits
        clean(backend)
        assert scheduler(backend).runner.forest.pool.peak <= need


def test_without_drafts_both_rules_are_the_same(opened: Open, naive: Naive) -> None:
    """Plain beams, noise and all."""
    assert same(ask(opened(drafter="none", verify="recursive"), *BEAMS), expected(naive, BEAMS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_draft": "8"}, "WIDTHxDEPTH, such as 8x3, not '8'"),
        ({"beam_draft": "0x3"}, "not '0x3'"),
        ({"beam_draft": "99x9"}, "9 levels and 891 nodes"),
        ({"beam_threshold": 0.5}, "beam_threshold changes which beams are drawn"),
        ({"beam_survivors": 1}, "give verify=recursive"),
        ({"beam_survivors": 2, "verify": "recursive"}, "beam_survivors is 1"),
        ({"beam_threshold": 1.5, "verify": "recursive"}, "between 0 and 1, not 1.5"),
        ({"beam_threshold": float("nan"), "verify": "recursive"}, "between 0 and 1"),
        ({"beam_min": 0}, "beam_min must be between 1 and 64, not 0"),
        ({"beam_min": 2, "verify": "recursive"}, "give that too"),
    ],
)
def test_senseless_options_of_beams_are_refused(options: dict[str, Any], message: str) -> None:
    """A ConfigError says what is wrong before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        SeedBackend("mini", **options)
