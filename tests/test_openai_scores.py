"""How the backend ``openai`` scores continuations, in whichever way a server has."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from openai_server import Listen, Model, error

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError
from treeagent.request import ScoreRequest

LABELS = ScoreRequest("Numbers: 4 5\nAnswer:", (" sure", " likely", " impossible"))


@pytest.mark.parametrize(
    ("model", "options", "logprobs", "lengths"),
    [
        (Model(), {}, (-0.5, -0.5, -0.5), (1, 1, 1)),
        (Model(), {"chat": False}, (-0.5, -0.5, -0.5), (1, 1, 1)),
        (Model("sglang"), {"chat": False}, (-0.5, -0.5, -0.5), (1, 1, 1)),
        (Model("llamacpp", echo=False), {}, (-1.0, -2.0, -3.0), (1, 1, 1)),
        (Model("llamacpp", echo=False), {"chat": False, "top_logprobs": 1}, (-1.0, -2.0, -3.0), (1, 1, 1)),
        (Model("system"), {}, (-1.0, -2.0, -3.0), (1, 1, 1)),
        (Model("system", echo=False), {"chat": False}, (-1.0, -2.0, -3.0), (1, 1, 1)),
    ],
)
def test_labels_are_scored_in_whichever_way(
    listen: Listen, model: Model, options: dict[str, Any], logprobs: tuple[float, ...], lengths: tuple[int, ...]
) -> None:
    """Echoed, looked up by their tokens, or read off the first token; drawn from the model's own distribution."""
    server = listen(model)
    backend = OpenAIBackend(base_url=server.url, **options)
    backend.load()
    server.asked.clear()
    scores = asyncio.run(backend.score(LABELS))
    assert scores.logprobs == pytest.approx(logprobs)
    assert scores.lengths == lengths
    assert scores.usage.prompt_tokens
    assert all((body["temperature"], body["top_p"]) == (1.0, 1.0) for body in server.bodies)


@pytest.mark.parametrize("owner", ["vllm", "llamacpp"])
def test_the_tokens_of_labels_are_asked_for_once(listen: Listen, owner: str) -> None:
    """From the second scoring on, the tokenizer sees the prompt alone."""
    server = listen(Model(owner))
    backend = OpenAIBackend(base_url=server.url)
    first = asyncio.run(backend.score(LABELS))
    server.asked.clear()
    assert asyncio.run(backend.score(LABELS)) == first
    assert [asked.path for asked in server.asked].count("/tokenize") == 1


def test_a_scoring_costs_what_the_ledger_reserves_at_most(listen: Listen) -> None:
    """An echo counts the prompt with each continuation; a look-up counts it once."""
    for model, options in ((Model(), {}), (Model("sglang"), {"chat": False}), (Model("llamacpp", echo=False), {})):
        backend = OpenAIBackend(base_url=listen(model).url, **options)  # type: ignore[arg-type]
        backend.load()
        usage = asyncio.run(backend.score(LABELS)).usage
        room = len(LABELS.prompt) * backend.prompt_copies(LABELS) + sum(map(len, LABELS.continuations))
        assert usage.tokens is not None
        assert usage.tokens <= room + 64


def test_a_vllm_without_its_tokenizer_echoes_texts(listen: Listen) -> None:
    """Gateways pass the API alone."""
    healthy = Model()
    server = listen(lambda asked: error(404, "no") if asked.path == "/tokenize" else healthy(asked))
    backend = OpenAIBackend(base_url=server.url, chat=False)
    assert asyncio.run(backend.score(LABELS)).logprobs == (-0.5, -0.5, -0.5)
    assert server.bodies[-1]["prompt"] == [LABELS.prompt, *(LABELS.prompt + label for label in LABELS.continuations)]


def test_a_label_out_of_reach_gets_an_upper_bound_and_is_counted(listen: Listen) -> None:
    """It is at most as likely as the least likely token listed, and as all unlisted tokens together."""
    backend = OpenAIBackend(base_url=listen(Model("system")).url, top_logprobs=2)
    meter = backend.meter()
    scores = asyncio.run(backend.score(LABELS))
    left = math.log(1 - math.exp(-1.0) - math.exp(-2.0))
    assert scores.logprobs == pytest.approx((-1.0, -2.0, min(-2.0, left)))
    assert meter()["labels_out_of_reach"] == 1


def test_a_label_of_several_tokens_is_refused_where_only_the_first_is_scored(listen: Listen) -> None:
    """The line says which label and what to do; so it does where no label is in reach."""
    backend = OpenAIBackend(base_url=listen(Model("system")).url)
    with pytest.raises(BackendError, match=r"label 'surely' is more than one token .'sure' begins it.*evaluator value"):
        asyncio.run(backend.score(ScoreRequest("x", (" surely", " likely"))))
    with pytest.raises(BackendError, match="none of 'yes', 'no' is among the 6 most likely first tokens"):
        asyncio.run(backend.score(ScoreRequest("x", ("yes", "no"))))


def test_a_way_of_scoring_that_the_server_has_not_is_an_error_that_says_so(listen: Listen) -> None:
    """Where the option declares more than there is."""
    url = listen(Model("system", logprobs=False)).url
    for options, said in (
        ({"score": "echo", "chat": False}, "asked to echo 4 prompts"),
        ({"score": "echo"}, "chat=false"),
        ({"score": "top"}, "exposes its tokenizer"),
        ({"score": "first"}, "returned none"),
    ):
        with pytest.raises(BackendError, match=said):
            asyncio.run(OpenAIBackend(base_url=url, **options).score(LABELS))  # type: ignore[arg-type]


def test_a_continuation_of_too_many_tokens_is_refused_where_each_is_a_request(listen: Listen) -> None:
    """Before the first of them."""
    server = listen(Model("llamacpp", echo=False))
    backend = OpenAIBackend(base_url=server.url)
    backend.load()
    before = len(server.bodies)
    with pytest.raises(BackendError, match="65 tokens"):
        asyncio.run(backend.score(ScoreRequest("x", ("a " * 65,))))
    assert len(server.bodies) == before
