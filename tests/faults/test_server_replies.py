"""Odd, hostile and honest replies of servers, and what the backend makes of them; no test waits."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from openai_server import Answer, Listen, Model, error
from server_replies import SECRET, backend_at, chat, reply_to, said, wanted

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError, RequestRefusedError
from treeagent.reply import Completion

# Malformed replies


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"choices": [{}]}, "choices[0].message"),
        ({"choices": [{"message": {}}]}, "choices[0].message.content"),
        ({"choices": [{"message": {"role": "assistant"}}]}, "choices[0].message.content"),
        ({"choices": [{"message": {}, "finish_reason": "stop"}]}, "choices[0].message.content"),
        ({"choices": [{"message": None}]}, "choices[0].message"),
        ({"choices": [{"index": "zero", "message": {"content": "a"}}]}, "choices[0].index: expected a whole number"),
        ({"choices": [{"index": 1.5, "message": {"content": "a"}}]}, "choices[0].index"),
        ({"choices": [{"index": -1, "message": {"content": "a"}}]}, "choices[0].index"),
        ({"choices": ["a"]}, "choices[0]: expected an object, not 'a'"),
        (chat({"content": 5}), "choices[0].message.content: expected a text, not 5"),
        (chat({"content": "a", "reasoning_content": 5}), "choices[0].message.reasoning_content"),
        (chat({"content": "a"}, finish=7), "choices[0].finish_reason: expected a text, not 7"),
        (chat({"content": "a"}, usage={"completion_tokens": 10**4000}), "usage.completion_tokens"),
        (chat({"content": "a"}, usage={"completion_tokens": -1}), "usage.completion_tokens"),
        (chat({"content": "a"}, usage={"prompt_tokens": "many"}), "usage.prompt_tokens: expected a whole number"),
        (chat({"content": "a"}, usage=[]), "usage: expected an object"),
        (chat({"content": "half"}, "error"), "gave up choice 0 with finish_reason 'error'"),
    ],
)
def test_a_malformed_reply_names_the_server_and_the_key(listen: Listen, body: Any, key: str) -> None:
    """In one line, with what was expected; it is never taken for an empty completion."""
    with pytest.raises(BackendError) as caught:
        reply_to(listen, body)
    text = str(caught.value)
    assert key in text
    assert text.startswith("http://127.0.0.1:")
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1" * 5000])
def test_what_is_no_json_is_refused(listen: Listen, literal: str) -> None:
    """Not a number, infinity, and numbers of more digits than Python reads."""
    body = json.dumps(said("a"))[:-1] + f', "usage": {{"prompt_tokens": {literal}}}}}'
    with pytest.raises(BackendError, match="not a JSON object"):
        reply_to(listen, Answer(body.encode()))


def test_deep_nesting_is_no_traceback(listen: Listen) -> None:
    """Neither in a reply nor in an error."""
    for body in (b'{"choices": ' + b"[" * 100_000, b'{"error": ' + b'{"a":' * 900 + b"1" + b"}" * 901):
        with pytest.raises(BackendError):
            reply_to(listen, Answer(body))


def test_counts_that_the_server_leaves_out_are_unknown(listen: Listen) -> None:
    """Null is no number; a whole number may be written with a point."""
    reply = reply_to(listen, chat({"content": "a"}, usage={"prompt_tokens": None, "completion_tokens": 3.0}))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (None, 3)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "stop"), (None, "stop"), ("eos", "stop"), ("a word of tomorrow", "stop"), ("length", "length"),
     ("max_tokens", "length"), ("content_filter", "refused"), ("SAFETY", "refused")],
)  # fmt: skip
def test_every_end_of_a_completion_is_one_of_three(listen: Listen, finish: str | None, expected: str) -> None:
    """Words of several servers; an unknown one is an ordinary end."""
    assert reply_to(listen, said("sure", finish)).completions == (Completion("sure", finish=expected),)


def test_a_refusal_in_place_of_a_text_is_no_text(listen: Listen) -> None:
    """As hosted models send it, with null content."""
    [one] = reply_to(listen, chat({"content": None, "refusal": "I cannot"})).completions
    assert (one.text, one.finish) == ("", "refused")


def test_parts_of_a_content_are_joined(listen: Listen) -> None:
    """Some servers send a list of parts, thinking among them."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "su"},
             {"type": "text", "text": "re"}]  # fmt: skip
    [one] = reply_to(listen, said(parts)).completions
    assert (one.text, one.reasoning) == ("sure", "Hm")


def test_half_an_emoji_is_replaced(listen: Listen) -> None:
    """Where it comes in; a whole one in two escapes is kept, and error messages are clean as well."""
    [one] = reply_to(listen, said("a\ud83d b\ud83d\ude00")).completions
    assert one.text == "a\ufffd b\U0001f600"
    with pytest.raises(BackendError) as caught:
        reply_to(listen, error(400, "half \ud83d"))
    assert str(caught.value).encode()


# Size


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_has_a_limit(listen: Listen, packed: bool) -> None:
    """Of its decompressed bytes, whatever the server says; memory stays small and nothing is asked again."""
    body = json.dumps(said("a" * 60_000_000)).encode()
    answer = Answer(gzip.compress(body), headers={"content-encoding": "gzip"}) if packed else Answer(body)
    del body
    server = listen(lambda asked: answer)
    tracemalloc.start()
    try:
        with pytest.raises(BackendError, match=r"the reply is longer than 2,\d+,\d+ bytes.*\(max_tokens=4\)"):
            asyncio.run(backend_at(server.url).generate(wanted()))
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
    assert len(server.asked) == 1


def test_the_limit_grows_with_what_is_asked_for(listen: Listen) -> None:
    """A long text is no fault where max_tokens allows it."""
    text = "a" * 3_000_000
    assert reply_to(listen, said(text), wanted(max_tokens=4000)).completions[0].text == text


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_replies_are_read(listen: Listen, encoding: str) -> None:
    """In both forms that are asked for."""
    import zlib

    body = json.dumps(said("sure")).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    assert reply_to(listen, Answer(packed, headers={"content-encoding": encoding})).completions[0].text == "sure"
    for wrong, kind in ((packed[:-9], encoding), (body, encoding), (body, "br")):
        with pytest.raises(BackendError, match="cannot be read"):
            reply_to(listen, Answer(wrong, headers={"content-encoding": kind}))


# The key


def test_a_key_that_the_server_repeats_is_masked(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """In texts, thinking and names of models, however it is escaped."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    message = {"content": f"<think>{SECRET}</think>Bearer {SECRET}!"}
    plain = json.dumps(chat(message)).encode()
    escaped = plain.replace(SECRET.encode(), "".join(f"\\u{ord(letter):04x}" for letter in SECRET).encode())
    for body in (plain, escaped):
        [one] = reply_to(listen, Answer(body)).completions
        assert (one.text, one.reasoning) == ("Bearer ***!", "***")
    server = listen(Model(models=(SECRET,)))
    backend = OpenAIBackend(base_url=server.url, server="vllm", chat=True, score="none")
    backend.load()
    assert SECRET not in json.dumps(backend.describe())


# Refusals of one request


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"error": {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000",
                          "type": "invalid_request_error", "code": "context_length_exceeded"}}, 400),
        Answer({"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
                          "management policy.", "code": "content_filter",
                          "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, 400),
        Answer({"object": "error", "message": "This model's maximum context length is 2048 tokens. However, you "
                "requested 3000 tokens", "type": "BadRequestError", "code": 400}, 400),
        Answer({"error": {"message": "The decoder prompt (length 3000) is longer than the maximum model length of 2048",
                          "type": "BadRequestError", "code": 400}}, 400),
        Answer({"object": "error", "message": "The input (3000 tokens) is longer than the model's context length "
                "(2048 tokens).", "code": 400}, 400),
        Answer({"object": "error", "message": "Input length (3000 tokens) exceeds the maximum allowed length (2043 "
                "tokens)."}, 400),
        Answer({"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it",
                          "type": "exceed_context_size_error", "n_prompt_tokens": 3000, "n_ctx": 2048}}, 400),
        Answer({"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}, 400),
        Answer({"error": {"message": "the prompt was filtered", "code": "content_filter"}}, 400),
        Answer({"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}, 400),
        Answer({"error": {"message": "Request too large: reduce the length of the messages"}}, 413),
        Answer({"error": {"message": "It may contain inappropriate content", "code": "data_inspection_failed"}}),
    ],
)  # fmt: skip
def test_a_refusal_of_this_request_is_told_apart(listen: Listen, answer: Answer) -> None:
    """OpenAI, Azure, vLLM, SGLang, llama.cpp and others; it is asked once, also for several samples."""
    server = listen(lambda asked: answer)
    with pytest.raises(RequestRefusedError, match="others can be answered"):
        asyncio.run(backend_at(server.url).generate(wanted(3)))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        error(401, "Incorrect key; see our content policy"), error(403, "content_filter"), error(404, "no such model"),
        error(400, "temperature must be at most 2"), error(400, "unknown field 'top_k'"), error(422, "n must be 1"),
    ],
)  # fmt: skip
def test_what_concerns_all_requests_is_no_refusal_of_one(listen: Listen, answer: Answer) -> None:
    """Key, account, model, and fields of every request."""
    with pytest.raises(BackendError) as caught:
        reply_to(listen, answer)
    assert not isinstance(caught.value, RequestRefusedError)
