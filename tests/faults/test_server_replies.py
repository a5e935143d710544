"""Odd, hostile and honest replies of servers, and what the backend makes of them; no test waits."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from openai_server import Answer, Asked, Listen, Model, Time, error

from treeagent import Agent
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError, CapabilityError, ModelError, RequestRefusedError
from treeagent.reply import Completion, Reply
from treeagent.request import Key, Request, Sampling, ScoreRequest

SECRET = "sk-very-secret-0123456789abcdef"  # noqa: S105  # of no use anywhere
DECLARED: dict[str, Any] = {"server": "vllm", "chat": True, "score": "none"}
"""So that nothing is asked beforehand."""


def wanted(n: int = 1, prompt: str = "Numbers: 4 5", **sampling: Any) -> Request:
    """A request for four sampled tokens."""
    return Request(prompt, Key(3, "value", "0.1"), Sampling(**{"temperature": 0.7, "max_tokens": 4, **sampling}), n)


def backend_at(url: str, **options: Any) -> OpenAIBackend:
    """One that asks nothing beforehand and never waits."""
    backend = OpenAIBackend("toy", **{"base_url": url, **DECLARED, **options})
    backend.clock = Time().clock()
    return backend


def reply_to(listen: Listen, body: Any, request: Request | None = None, **options: Any) -> Reply:
    """The reply of a fresh backend to a server that always answers with this body."""
    answer = body if isinstance(body, Answer) else Answer(body)
    url = listen(lambda asked: answer).url
    return asyncio.run(backend_at(url, **options).generate(request or wanted()))


def chat(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """A reply with one choice."""
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def said(text: Any, finish: Any = "stop") -> dict[str, Any]:
    """A reply with one text."""
    return chat({"role": "assistant", "content": text}, finish)


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


# Thinking

STEPS = "4 + 9 = 13 (left: 10 13 13)\n10 - 4 = 6 (left: 6 9 13)"
THOUGHT = "\nPerhaps 4 * 9 first.\n\nNo: sure of another way.\n"


def test_thinking_is_kept_apart_from_the_text(listen: Listen) -> None:
    """Marks in the text, a closing mark alone, and a field of its own; stop strings end the text, not the thinking."""
    for message in (
        {"content": f"<think>{THOUGHT}</think>\n\n{STEPS}\n\nmore"},
        {"content": f"{THOUGHT}</think>\n\n{STEPS}\n\nmore"},
        {"content": f"{STEPS}\n\nmore", "reasoning_content": THOUGHT.strip()},
        {"content": f"{STEPS}\n\nmore", "reasoning": THOUGHT.strip(), "reasoning_content": ""},
    ):
        [one] = reply_to(listen, chat(message), wanted(stop=("\n\n",))).completions
        assert (one.text, one.finish) == (STEPS, "stop")
        assert one.reasoning is not None
        assert one.reasoning.strip() == THOUGHT.strip()


@pytest.mark.parametrize(
    "message",
    [{"content": None, "reasoning_content": "Let me think. We have"}, {"content": "<think>Let me think. We have"},
     {"content": "", "reasoning": "Let me think. We have"}],
)  # fmt: skip
def test_thinking_that_is_cut_off_is_no_text(listen: Listen, message: dict[str, Any]) -> None:
    """All tokens went into it, and the completion says so."""
    [one] = reply_to(listen, chat(message, "length")).completions
    assert (one.text, one.finish, one.reasoning) == ("", "length", "Let me think. We have")


def test_a_message_without_content_that_says_how_it_ended_is_empty(listen: Listen) -> None:
    """Some servers leave the key out where thinking took all tokens."""
    [one] = reply_to(listen, chat({"role": "assistant"}, "length")).completions
    assert (one.text, one.finish, one.reasoning) == ("", "length", None)


def test_marks_can_be_others_or_none(listen: Listen) -> None:
    """By an option."""
    body = said("[THINK]a[/THINK]<think>b</think>sure")
    assert reply_to(listen, body, thinking="[THINK] [/THINK]").completions[0].text == "<think>b</think>sure"
    assert reply_to(listen, body, thinking="none").completions[0].text == "[THINK]a[/THINK]<think>b</think>sure"


def thinker(asked: Asked) -> Answer:
    """Thinks, and cuts at stop strings as servers do: also within the thinking."""
    if asked.path == "/v1/models":
        return Answer({"data": [{"id": "toy", "owned_by": "vllm"}]})
    text = f"<think>{THOUGHT}</think>\n\n{STEPS}"
    if asked.body["max_tokens"] == 1:
        return Answer({**said("<think>", "length")})
    cuts = [at for at in (text.find(stop) for stop in asked.body.get("stop", ())) if at >= 0]
    return Answer({**said(text[: min(cuts, default=None)]), "usage": {"prompt_tokens": 10, "completion_tokens": 20}})


def test_stop_strings_do_not_reach_a_server_whose_model_thinks(listen: Listen) -> None:
    """The probe shows it; without a probe the first reply does, and that request is repeated and counted."""
    server = listen(thinker)
    for options, bodies, prompt_tokens in (({"chat": None}, 2, 10), ({}, 2, 20)):
        server.asked.clear()
        backend = backend_at(server.url, **options)
        reply = asyncio.run(backend.generate(wanted(stop=("\n\n",), max_tokens=99)))
        assert reply.completions[0].text == STEPS
        assert len(server.bodies) == bodies
        assert "stop" not in server.bodies[-1]
        assert reply.usage.prompt_tokens == prompt_tokens
        asyncio.run(backend.generate(wanted(stop=("\n\n",), max_tokens=99)))
        assert len(server.bodies) == bodies + 1


def test_the_user_says_who_looks_for_stop_strings(listen: Listen) -> None:
    """``client`` never sends them; ``server`` always does."""
    server = listen(thinker)
    for option, sent in (("client", [False]), ("server", [True])):
        server.asked.clear()
        asyncio.run(backend_at(server.url, stop_strings=option).generate(wanted(stop=("\n\n",), max_tokens=99)))
        assert ["stop" in body for body in server.bodies] == sent


def test_a_template_that_opens_thinking_is_seen_on_llama_cpp(listen: Listen) -> None:
    """The server shows the prompt; what is never closed is thinking, and stop strings stay here."""

    def server(asked: Asked) -> Answer:
        if asked.path == "/apply-template":
            return Answer({"prompt": "<user>Hi<model><think>\n"})
        if asked.path == "/v1/models":
            return Answer({"data": [{"id": "toy", "owned_by": "llamacpp"}]})
        return Answer(said("Let me see", "length"))

    listening = listen(server)
    backend = backend_at(listening.url, server="llamacpp")
    [one] = asyncio.run(backend.generate(wanted(stop=("me",)))).completions
    assert (one.text, one.reasoning) == ("", "Let me see")
    assert "stop" not in listening.bodies[-1]


@pytest.mark.parametrize("mode", ["think", "cut"])
def test_a_thinking_model_is_searched_by_what_it_says(listen: Listen, mode: str) -> None:
    """Steps and labels come from after the thinking, and the journal keeps it; what has none has no steps."""

    def server(asked: Asked) -> Answer:
        if asked.path == "/v1/models":
            return Answer({"data": [{"id": "toy", "owned_by": "toyshop"}]})
        prompt = asked.body["messages"][-1]["content"]
        text = STEPS if "Combine" in prompt else "likely"
        message = {"content": f"<think>{THOUGHT}</think>\n\n{text}"}
        if mode == "cut":
            message = {"content": None, "reasoning_content": "Let me think."}  # type: ignore[dict-item]
        return Answer(chat(message, "length" if mode == "cut" else "stop"))

    options = {"backend.base_url": listen(server).url}
    events: list[Any] = []
    result = Agent("game24", "greedy", backend="openai", options=options).solve("4 9 10 13", on_event=events.append)
    texts = [thought.text for thought in result.tree][1:]
    assert set(texts) <= set(STEPS.split("\n"))
    assert bool(texts) == (mode == "think")
    kept = [item["reasoning"] for event in events if event.type == "completion" for item in event.data["completions"]]
    assert kept
    assert all(kept)
    assert result.counts.judgements_unparsed == 0


# Models with fixed fields


def o_series(asked: Asked) -> Answer:
    """Refuses what OpenAI's reasoning models refuse."""
    if asked.path == "/v1/models":
        return Answer({"data": [{"id": "toy", "owned_by": "system"}]})
    if "max_tokens" in asked.body:
        return error(400, "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
    if asked.body.get("temperature", 1) != 1:
        return error(400, "'temperature' does not support this value. Only the default (1) value is supported.")
    if "stop" in asked.body:
        return error(400, "'stop' is not supported with this model.")
    return Answer(said("sure\n\nmore"))


def test_stop_strings_that_are_refused_are_looked_for_here(listen: Listen) -> None:
    """From then on they are not sent."""
    server = listen(o_series)
    backend = backend_at(server.url, server="hosted")
    for asked in (3, 1):
        server.asked.clear()
        [one] = asyncio.run(backend.generate(wanted(temperature=1.0, stop=("\n\n",)))).completions
        assert (one.text, one.finish) == ("sure", "stop")
        assert len(server.asked) == asked


def test_a_refused_temperature_names_the_way_to_change_it(listen: Listen) -> None:
    """One line with the option; and with the option the search runs."""
    url = listen(o_series).url
    with pytest.raises(BackendError, match=r"--set sampling\.value\.temperature=1$"):
        asyncio.run(backend_at(url, server="hosted").generate(wanted()))
    options: dict[str, Any] = {"backend.base_url": url}
    options |= {f"sampling.{role}.temperature": "1" for role in ("propose", "value")}
    assert Agent("game24", "greedy", backend="openai", options=options).solve("4 9 10 13").ended == "finished"


# Models


@pytest.mark.parametrize("owner", ["vllm", "llamacpp", "toyshop"])
def test_a_model_that_the_server_does_not_list_is_refused(listen: Listen, owner: str) -> None:
    """Also where the server would answer with another one; the nearest name is offered."""

    def lax(asked: Asked) -> Answer:
        if asked.body and "model" in asked.body:
            asked.body["model"] = "toy"
        return Model(owner)(asked)

    server = listen(lax)
    with pytest.raises(ModelError, match=r"/models: the server has no model 'tay'. Did you mean 'toy'\?"):
        OpenAIBackend("tay", base_url=server.url).load()
    if owner == "llamacpp":
        with pytest.raises(ModelError, match="no model 'tay'"):
            OpenAIBackend("tay", base_url=server.url, server="llamacpp", chat=True, score="none").load()


@pytest.mark.parametrize(
    ("name", "listed"),
    [("qwen", {"id": "qwen:latest"}), ("some/model:free", {"id": "some/model"}), ("openai/x", {"id": "openai/*"}),
     ("m", {"id": "/models/m.gguf", "aliases": ["m"]}), ("org/m", {"id": "m", "root": "org/m"})],
)  # fmt: skip
def test_other_names_of_a_model_are_known(listen: Listen, name: str, listed: dict[str, Any]) -> None:
    """Tags, variants, patterns and aliases."""

    def server(asked: Asked) -> Answer:
        return Answer({"data": [listed]} if asked.path == "/v1/models" else said("a"))

    OpenAIBackend(name, base_url=listen(server).url, chat=True, score="none").load()


@pytest.mark.parametrize("models", [error(404, "no"), error(405, "no"), Answer({"data": None}), Answer({"data": [3]})])
def test_a_server_without_a_list_may_have_any_model(listen: Listen, models: Answer) -> None:
    """Nothing can be said of the name then."""
    server = listen(lambda asked: models if asked.path == "/v1/models" else Answer(said("a")))
    OpenAIBackend("any", base_url=server.url, chat=True, score="none").load()


def test_a_base_url_without_v1_is_suspected(listen: Listen) -> None:
    """Where the server answers something that is no completion."""
    url = listen(lambda asked: Answer({"message": "welcome"})).url.removesuffix("/v1")
    with pytest.raises(BackendError, match=r"has no 'choices'.*lack the ending /v1"):
        asyncio.run(backend_at(url).generate(wanted()))


# Agents


def test_an_agent_asks_no_server_anything(listen: Listen) -> None:
    """Until it runs; the journal then names the model that the server has."""
    server = listen(Model("system", completions=False, logprobs=False))
    options = {"backend.base_url": server.url}
    agent = Agent("game24", "greedy", backend="openai", options=options)
    choosing = Agent("game24", "greedy", backend="openai", evaluator="choice", options=options)
    assert server.asked == []
    assert agent.settings["backend"]["model"] is None
    events: list[Any] = []
    result = agent.solve("4 9 10 13", on_event=events.append)
    assert events[0].type == "run"
    assert events[0].data["settings"]["backend"]["model"] == "toy"
    assert result.settings["backend"]["model"] == "toy"
    with pytest.raises(CapabilityError, match="'choice' needs score"):
        choosing.solve("4 9 10 13")
    with pytest.raises(CapabilityError, match="needs score"):
        Agent("game24", backend="openai", evaluator="choice", options={**options, "backend.score": "none"})


def test_an_evaluation_records_the_model_that_the_server_has(listen: Listen) -> None:
    """It asks before it writes its settings, by which it is continued."""
    url = listen(Model("system", completions=False)).url
    agent = Agent("game24", "greedy", backend="openai", options={"backend.base_url": url})
    agent.find_models()
    assert agent.settings["backend"]["model"] == "toy"


def test_a_server_that_is_down_fails_the_run_and_not_the_agent(listen: Listen) -> None:
    """The events begin with the settings all the same."""
    backend = backend_at("http://127.0.0.1:9/v1", chat=None, attempts=1)
    events: list[Any] = []
    with pytest.raises(BackendError, match="cannot connect"):
        Agent("game24", "greedy", backend=backend).solve("4 9 10 13", on_event=events.append)
    assert [event.type for event in events] == ["run", "failed", "end"]


# Scoring


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


# Azure


def test_a_query_and_another_header_for_the_key_are_options(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Azure's older addresses want them; the query holds no secret."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = listen(lambda asked: Answer(said("a")))
    backend = backend_at(server.url, query="api-version=2024-10-21", key_header="api-key")
    asyncio.run(backend.generate(wanted()))
    [asked] = server.asked
    assert asked.path == "/v1/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == SECRET
    assert "authorization" not in asked.headers
