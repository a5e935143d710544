"""The log-probability of sampled completions, in both local backends, against a plain forward over the whole text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from device import DEVICE
from draft_trees import Trees
from seed_tools import MIX, Naive, Open, ask, request

from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.reply import Completion
from treeagent.request import Request

pytestmark = pytest.mark.usefixtures("fixed_times")

CLOSE = 1e-4
ALL = [*MIX, request(2, 20, 3, temperature=0.7, max_tokens=80), request(3, 21, 3, temperature=1.0, max_tokens=80)]


def check(naive: Naive, requests: list[Request], replies: list[Any]) -> None:
    """Every completion has the sum over its own tokens, an end of text and a whole stop string included."""
    for asked, reply in zip(requests, replies, strict=True):
        for i, completion in enumerate(reply.completions):
            sample = naive.sample(asked, i)
            assert completion.text == sample.text
            assert completion.logprob == pytest.approx(naive.logprob(asked, sample.raw), abs=CLOSE)


def test_the_requests_have_texts_of_every_ending(naive: Naive) -> None:
    """Those that end by an end of text, by a stop string and by their limit; greedy and tempered ones."""
    ends = {
        (naive.sample(asked, i).finish, naive.sample(asked, i).raw[-1] in naive.model.eos)
        for asked in ALL
        for i in range(asked.n)
    }
    assert ends == {("stop", True), ("stop", False), ("length", False)}
    assert {asked.sampling.temperature for asked in ALL} >= {0.0, 0.7}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plain_decoding_reports_it(pair: Path, dtype: str) -> None:
    """In batches whose rows end one after another."""
    folder = str(pair / "model")
    backend = TransformersBackend(folder, device=DEVICE, dtype=dtype)
    check(Naive(folder, dtype), ALL, ask(backend, *ALL))


@pytest.mark.parametrize("drafter", ["none", "ngram", "dynamic"])
def test_the_engine_reports_it_whatever_is_drafted(opened: Open, naive: Naive, pair: Path, drafter: str) -> None:
    """Accepted drafts count like the tokens of plain passes; a repetition has every prefix cached."""
    draft = {"draft": str(pair / "model-draft"), "draft_tokens": 5} if drafter == "dynamic" else {}
    backend = opened(drafter=drafter, **draft)
    for _ in range(2):
        check(naive, ALL, ask(backend, *ALL))


def test_branches_of_a_draft_that_were_not_taken_count_for_nothing(opened: Open, naive: Naive) -> None:
    """Trees with wrong siblings around the right tokens, deeper than the texts."""
    truth = naive.truth(ALL)
    backend = opened(drafter=lambda: Trees(truth, hit=0.8, over=3), draft_tokens=12)
    read = backend.meter()
    check(naive, ALL, ask(backend, *ALL))
    assert read()["accepted"] > 0


def test_the_engine_reports_it_where_memory_is_short(opened: Open, naive: Naive) -> None:
    """Preempted texts keep the sum of the tokens that they had."""
    backend = opened(drafter="none", kv_memory=120 * 2 * 2 * 2 * 8 * 8 / 1e6)
    read = backend.meter()
    check(naive, ALL, ask(backend, *ALL))
    assert read()["preempted"] > 0


@pytest.mark.parametrize("drafter", ["dynamic", "rsd-s:3x2", "ngram+model"])
def test_rejection_reports_it(opened: Open, naive: Naive, pair: Path, drafter: str) -> None:
    """The texts are drawn otherwise, the sum is that of the model's own law all the same."""
    backend = opened(draft=str(pair / "model-draft"), drafter=drafter, verify="recursive", draft_tokens=6)
    requests = [request(i % 4, 80 + i, 2, temperature=0.7, top_k=20, top_p=0.9, max_tokens=12) for i in range(8)]
    whole = 0
    for asked, reply in zip(requests, ask(backend, *requests), strict=True):
        for completion in reply.completions:
            drawn = drawn_tokens(completion, naive)
            assert completion.logprob == pytest.approx(naive.logprob(asked, drawn), abs=CLOSE)
            whole += completion.finish == "length"
    assert whole


def drawn_tokens(completion: Completion, naive: Naive) -> tuple[int, ...]:
    """All tokens drawn for a completion without stop strings, of a model with one end of text."""
    assert completion.tokens is not None
    return (*completion.tokens, *(naive.model.eos if completion.finish == "stop" else ()))
