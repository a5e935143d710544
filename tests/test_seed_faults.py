"""Faults and bad input: clear errors for those concerned, answers for all others, nothing left behind or hanging."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from device import DEVICE
from seed_tools import (
    FAMILIES,
    GPT2,
    HEAD,
    LIMIT,
    MIX,
    SHAPE,
    Naive,
    Open,
    ask,
    clean,
    idle,
    request,
    save_model,
    scheduler,
    tokenizer_size,
    told,
)
from tiny_model import tokenizer

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.tables.compiled_ngram import ngram_drafter
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.errors import BackendError, ModelError, RequestRefusedError
from treeagent.request import Key, Request, Sampling, ScoreRequest

pytestmark = pytest.mark.usefixtures("fixed_times")


@pytest.fixture(scope="module")
def backend(pair: Path, opened: Open) -> SeedBackend:
    """One with a draft model; no test changes it."""
    return opened(draft=str(pair / "model-draft"), draft_tokens=3)


# What cannot be run.


def test_a_draft_of_another_vocabulary_is_refused_token_by_token(pair: Path, tmp_path: Path) -> None:
    """The message names the first ids that mean different things."""
    save_model(tmp_path, FAMILIES["llama"])
    changed = (tmp_path / "tokenizer.json").read_text().replace('"abc"', '"cba"').replace('"sure"', '"rues"')
    (tmp_path / "tokenizer.json").write_text(changed)
    ids = tokenizer().convert_tokens_to_ids(["abc", "sure"])
    with pytest.raises(ModelError, match="another vocabulary") as raised:
        SeedBackend(str(pair / "model"), draft=str(tmp_path), device=DEVICE).load()
    said = str(raised.value)
    assert f"id {ids[0]} is 'abc' and 'cba'; id {ids[1]} is 'sure' and 'rues'" in said
    assert f"2 of {len(tokenizer())} token ids differ" in said


def test_a_draft_bigger_than_its_target_is_refused(pair: Path, tmp_path: Path) -> None:
    """With both sizes."""
    big = transformers.LlamaConfig(**SHAPE | {"num_hidden_layers": 3}, num_key_value_heads=2)
    with pytest.raises(ModelError, match=r"parameters\) is bigger than the target .*\d,\d{3}\)"):
        SeedBackend(str(pair / "model"), draft=save_model(tmp_path, big), device=DEVICE).load()


def test_a_model_that_cannot_be_loaded_fails_the_requests_that_wait_for_it(tmp_path: Path) -> None:
    """With the ModelError itself; once the model is there the same engine answers."""
    (tmp_path / "model").mkdir()
    backend = SeedBackend(str(tmp_path / "model"), device=DEVICE, dtype="float64")
    for error in ask(backend, MIX[0], MIX[1], errors=True):
        assert isinstance(error, ModelError)
        assert "no config.json" in str(error)
    idle(backend)
    save_model(tmp_path / "model", FAMILIES["llama"])
    assert told(ask(backend, MIX[0])) == Naive(str(tmp_path / "model"), "float64").expected([MIX[0]])


def test_requests_that_make_no_sense_fail_alone(backend: SeedBackend, naive: Naive) -> None:
    """A prompt longer than the context, an n of 0, a setting without meaning; the others of the round are answered."""
    bad = [
        Request("x" * 400, Key(0, "propose", "0"), Sampling(max_tokens=3)),
        replace(MIX[0], n=0),
        replace(MIX[0], sampling=Sampling(top_p=0.0)),
    ]
    *errors, good = ask(backend, *bad, MIX[1], errors=True)
    assert [type(error) for error in errors] == [RequestRefusedError, BackendError, BackendError]
    for error, message in zip(errors, ("context is 256", "at least 1 completion", "top_p"), strict=True):
        assert message in str(error)
    assert told([good]) == naive.expected([MIX[1]])
    clean(backend)


def test_too_little_memory_for_one_request_is_said_with_numbers(opened: Open, naive: Naive) -> None:
    """A request that could never fit fails at once and alone; so do scores."""
    slot = 2 * 2 * 2 * 8 * 8
    backend = opened(kv_memory=60 * slot / 1e6)
    big, small = request(0, 0, max_tokens=100), request(2, 1, max_tokens=20)

    async def run() -> list[Any]:
        asked = backend.generate(big), backend.score(ScoreRequest(HEAD * 4, ("sure",))), backend.generate(small)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), LIMIT)

    *errors, good = asyncio.run(run())
    for error in errors:
        assert type(error) is BackendError
        assert re.search(r"kv_memory is too small: .* \d+ tokens \(0\.\d MiB\), the limit is 60 tokens", str(error))
    assert told([good]) == naive.expected([small])
    clean(backend)


# A model that breaks.


@pytest.fixture
def poisoned(opened: Open) -> SeedBackend:
    """A model that is lost in nan as soon as it reads the word "xyz"."""
    backend = opened()
    word = tokenizer().convert_tokens_to_ids("xyz")
    scheduler(backend).runner.weights.model.network.model.embed_tokens.weight.data[word] = torch.nan
    return backend


def test_logits_that_are_not_finite_fail_their_request_alone(poisoned: SeedBackend, naive: Naive) -> None:
    """Greedy or sampled; the other requests of the same rounds get their texts, now and later."""
    assert all(tokenizer().convert_tokens_to_ids("xyz") not in raw for raw in naive.truth(MIX).values())
    bad = [
        Request(HEAD + "xyz", Key(0, "propose", str(place)), Sampling(temperature=place / 2, max_tokens=9), 2)
        for place in range(3)
    ]
    for _ in range(2):
        *good, first, second, third = ask(poisoned, *MIX, *bad, errors=True)
        for error in (first, second, third):
            assert type(error) is BackendError
            assert "not finite" in str(error)
        assert told(good) == naive.expected(MIX)
        clean(poisoned)


def test_scores_that_are_no_numbers_are_an_error(poisoned: SeedBackend) -> None:
    """They would be compared, and written to a journal that JSON cannot hold."""
    broken, fine = (ScoreRequest(HEAD + word, ("sure", "likely")) for word in ("xyz\n", "24\n"))  # words end there

    async def run() -> list[Any]:
        return await asyncio.gather(*map(poisoned.score, (broken, fine)), return_exceptions=True)

    error, scores = asyncio.run(asyncio.wait_for(run(), LIMIT))
    assert type(error) is BackendError
    assert "not finite" in str(error)
    assert all(value < 0 for value in scores.logprobs)
    clean(poisoned)


def once(patch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> None:
    """Make a method raise at its ``at``-th call and never again."""
    calls: list[int] = []
    whole = getattr(owner, name)

    def broken(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise RuntimeError("the device is on fire")
        return whole(*args, **more)

    patch.setattr(owner, name, broken)


PLACES = [
    (lambda backend: scheduler(backend).runner, "forward", 1),
    (lambda backend: scheduler(backend).runner, "forward", 4),
    (lambda backend: scheduler(backend).verifier, "verify", 3),
    (lambda backend: scheduler(backend).speculator.drafter, "propose", 2),
    (lambda backend: scheduler(backend).speculator.drafter, "observe_all", 5),
    (lambda backend: backend.core.parts.draft_runner, "forward", 1),
    (lambda backend: backend.core.parts.draft_runner, "forward", 6),
    (lambda backend: scheduler(backend).runner.forest.pool, "allocate", 3),
    (lambda backend: scheduler(backend).runner.forest.pool, "allocate", 12),
    (lambda backend: scheduler(backend).runner.forest, "match_prefix", 5),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("policy", ["rounds", "fcfs"])
@pytest.mark.parametrize(
    ("owner", "name", "at"), PLACES, ids=[f"{name}-{at}-{i}" for i, (_, name, at) in enumerate(PLACES)]
)
def test_what_breaks_in_a_round_fails_its_requests_and_the_engine_goes_on(
    backend: SeedBackend, naive: Naive, owner: Callable[[SeedBackend], Any], name: str, at: int, policy: str
) -> None:
    """Wherever it happens: a BackendError with the cause, no hang, no slot lost, and the next requests are answered."""
    backend.reset()
    scheduler(backend).policy = policy
    with pytest.MonkeyPatch.context() as patch:
        once(patch, owner(backend), name, at)
        replies = ask(backend, *MIX, errors=True)
        idle(backend)
    failed = [reply for reply in replies if isinstance(reply, BaseException)]
    assert failed
    for error in failed:
        assert type(error) is BackendError
        assert type(error.__cause__) is RuntimeError
        assert "RuntimeError: the device is on fire" in str(error)
    clean(backend)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    clean(backend)
    scheduler(backend).policy = "rounds"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ModelRunner, "forward"),
        (RadixCache, "match_prefix"),
        (SlotPool, "allocate"),
        (Coupled, "verify"),
        (type(ngram_drafter()), "propose"),
        (type(ngram_drafter()), "observe_all"),
        (type(ngram_drafter()), "forget"),
    ],
)
def test_what_always_breaks_fails_everything_and_never_hangs(
    opened: Open, naive: Naive, owner: type, name: str
) -> None:
    """Also what waits for a row, and would break the next round."""
    backend = opened(max_rows=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, lambda *args: 1 / 0)
        errors = ask(backend, *MIX, errors=True)
        idle(backend)
    assert {type(error.__cause__) for error in errors} == {ZeroDivisionError}
    clean(backend)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)


# Draft models that are no good cost time, never an answer.


def test_a_draft_model_whose_logits_are_not_finite_drafts_nothing(pair: Path, opened: Open, naive: Naive) -> None:
    """Texts are those of the target."""
    backend = opened(draft=str(pair / "model-draft"), drafter="model", draft_tokens=3)
    assert backend.core.parts is not None
    assert backend.core.parts.draft_runner is not None
    backend.core.parts.draft_runner.weights.model.network.model.embed_tokens.weight.data[:] = torch.nan
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    clean(backend)


@pytest.mark.parametrize("extra", [-2, 40])
@pytest.mark.parametrize("verify", ["coupled", "rejection"])
def test_a_draft_model_may_have_more_or_fewer_padded_ids(
    pair: Path, tmp_path: Path, opened: Open, naive: Naive, extra: int, verify: str
) -> None:
    """Ids beyond the tokenizer's are never proposed to a target that lacks them, nor read by a draft that does."""
    shape = SHAPE | {"vocab_size": tokenizer_size() + extra, "num_hidden_layers": 1}
    draft = save_model(tmp_path / "x-draft", transformers.LlamaConfig(**shape, num_key_value_heads=2), seed=3)
    backend = opened(draft=draft, drafter="model", draft_tokens=3, verify=verify)
    requests = [request(i % 3, i, 3, temperature=i % 2, max_tokens=30) for i in range(4)]
    replies = ask(backend, *requests)
    for reply, expected, asked in zip(told(replies), naive.expected(requests), requests, strict=True):
        assert reply == expected or (verify == "rejection" and asked.sampling.temperature > 0)
    clean(backend)


def test_a_draft_model_with_a_shorter_context_drafts_as_far_as_it_goes(
    pair: Path, tmp_path: Path, opened: Open, naive: Naive
) -> None:
    """Beyond it the target goes on alone; a model with learned positions would fail there."""
    config = transformers.GPT2Config(**GPT2 | {"n_positions": 60, "n_layer": 1}, initializer_range=0.25)
    backend = opened(draft=save_model(tmp_path / "x-draft", config), drafter="model", draft_tokens=3)
    requests = [request(0, 0, max_tokens=30), request(2, 1, max_tokens=90), request(3, 2, 2, max_tokens=40)]
    assert told(ask(backend, *requests)) == naive.expected(requests)
    clean(backend)
    assert scheduler(backend).counters.drafted > 0


def test_a_draft_model_without_memory_drafts_nothing(pair: Path, opened: Open, naive: Naive) -> None:
    """Texts are those of the target, and nothing is left in the draft's forest."""
    backend = opened(draft=str(pair / "model-draft"), drafter="model", draft_tokens=3)
    assert backend.core.parts is not None
    assert backend.core.parts.draft_runner is not None
    for limit in (0, 5, 70):
        backend.reset()
        backend.core.parts.draft_runner.forest.pool.limit = limit
        assert told(ask(backend, *MIX)) == naive.expected(MIX)
        clean(backend)
