"""Log-probabilities of labels from servers: tokens at the border of the prompt, and impossible values."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai_server import Answer, Asked, Listen, error

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError
from treeagent.request import ScoreRequest


def llama(asked: Asked) -> Answer:
    """A tokenizer as Llama 2's: a blank before every text, and ``:s`` merged into one token; ids are letters' codes."""
    if asked.path == "/tokenize":
        text = asked.body.get("content", asked.body.get("prompt"))
        return Answer({"tokens": [1, *map(ord, f" {text}".replace(":s", "\u2236"))]})
    if asked.path == "/apply-template":
        return Answer({"prompt": f"{asked.body['messages'][0]['content']}"})
    prompt = asked.body["prompt"]
    if asked.body.get("echo"):
        rows = [[None, *[-0.5] * (len(row) - 1), -9.0] for row in prompt]
        return Answer({"choices": [{"index": place, "text": "", "logprobs": {"token_logprobs": row}}
                                   for place, row in enumerate(rows)]})  # fmt: skip
    tops = [{"id": code, "token": chr(code), "logprob": -1.0} for code in range(32, 127)]
    tops.append({"id": ord("\u2236"), "token": ":s", "logprob": -2.0})
    return Answer({"choices": [{"text": "a", "logprobs": {"content": [{**tops[0], "top_logprobs": tops}]}}]})


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_continuations_are_tokenised_in_their_prompt(listen: Listen, kind: str) -> None:
    """`` sure`` is five tokens after ``Answer:`` and not six; where the border merges, the merged token is scored."""
    server = listen(llama)
    score = "echo" if kind == "vllm" else "top"
    backend = OpenAIBackend("toy", base_url=server.url, server="vllm", chat=False, score=score)
    if kind == "llamacpp":
        healthy = server.handler
        server.handler = lambda asked: Answer({"data": []}) if asked.path == "/v1/models" else healthy(asked)
        backend = OpenAIBackend("toy", base_url=server.url, server="llamacpp", chat=False, score=score)
    request = ScoreRequest("2+2?\nAnswer:", (" sure", " no", "sure"))
    scores = asyncio.run(backend.score(request))
    assert scores.lengths == (5, 3, 4)
    each = (-0.5, -0.5, -0.5) if kind == "vllm" else (-1.0, -1.0, -1.25)
    assert scores.logprobs == pytest.approx([each[0] * 5, each[1] * 3, each[2] * 4])
    prompt = [1, *map(ord, " 2+2?\nAnswer:")]
    sent = [body["prompt"] for body in server.bodies]
    if kind == "vllm":
        assert sent == [
            [[*prompt, *map(ord, " sure")], [*prompt, *map(ord, " no")], [*prompt[:-1], *map(ord, "\u2236ure")]]
        ]
    else:
        assert prompt in sent
        assert prompt[:-1] in sent
    server.asked.clear()
    assert asyncio.run(backend.score(request)) == scores
    assert [asked.path for asked in server.asked].count("/tokenize") == 1


@pytest.mark.parametrize("shows", [True, False])
def test_a_chat_of_vllm_is_tokenised_with_its_template(listen: Listen, shows: bool) -> None:
    """The server turns the prompt's tokens into text; where it cannot, a continuation is tokenised alone."""

    def server(asked: Asked) -> Answer:
        body = asked.body
        if asked.path == "/detokenize":
            return Answer({"prompt": "".join(map(chr, body["tokens"][1:]))}) if shows else error(404, "no")
        if asked.path == "/tokenize" and "messages" in body:
            return Answer({"tokens": [1, *map(ord, f"<user>{body['messages'][0]['content']}<model>:")]})
        if asked.path == "/tokenize":
            assert body["add_special_tokens"] is False
            return Answer({"tokens": [*map(ord, body["prompt"].replace(":s", "\u2236"))]})
        return llama(asked)

    listening = listen(server)
    backend = OpenAIBackend("toy", base_url=listening.url, server="vllm", chat=True, score="echo")
    scores = asyncio.run(backend.score(ScoreRequest("2+2?", (" sure", " no"))))
    assert scores.lengths == (4, 2)
    head = [1, *map(ord, "<user>2+2?<model>:")]
    sure = [*head[:-1], *map(ord, "\u2236ure")] if shows else [*head, *map(ord, "sure")]
    assert listening.bodies[-1]["prompt"] == [sure, [*head, *map(ord, "no")]]


@pytest.mark.parametrize(
    "value",
    ["-1.0", None, 1e308, [], {"token": 5}],
)
def test_malformed_log_probabilities_are_an_error(listen: Listen, value: Any) -> None:
    """Texts, missing values and impossible ones."""

    def server(asked: Asked) -> Answer:
        if asked.path == "/tokenize":
            return Answer({"tokens": [1, 2, 3][: 2 + asked.body["prompt"].endswith("sure")]})
        return Answer({"choices": [{"text": "a", "logprobs": {"token_logprobs": [None, -1.0, value, -1.0]}}]})

    backend = OpenAIBackend("toy", base_url=listen(server).url, server="vllm", chat=False, score="echo")
    with pytest.raises(BackendError, match="log"):
        asyncio.run(backend.score(ScoreRequest("x", (" sure",))))


def test_impossible_labels_are_no_mathematical_error(listen: Listen) -> None:
    """Log-probabilities so small that their exponential is 0."""
    tops = [{"token": word, "logprob": -9999.0} for word in ("sure", "likely")]
    reply = {"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{**tops[0], "top_logprobs": tops}]}}]}
    backend = OpenAIBackend(
        "toy", base_url=listen(lambda _: Answer(reply)).url, server="hosted", chat=True, score="first"
    )
    assert asyncio.run(backend.score(ScoreRequest("x", (" sure", " likely")))).logprobs == pytest.approx(
        (-9999 + 0.6931, -9999), abs=1
    )
