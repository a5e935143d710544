"""Models that think behind a server solve game24, and a server gets what a role's chat is given."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.request
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from openai_server import Answer, Asked, Listen, Model, Server, error, events

from treeagent import Agent, BackendError, Chat, Message, Request, Result, Sampling, ScoreRequest
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.request import Key
from treeagent.runtime import journal
from treeagent.viewer.run_data import run_data

THOUGHT = "I could try 4 * 6 = 24 (left: 24).\n\nsure, impossible? No: likely."
"""Holds a step, labels and a stop string."""
DECLARED: dict[str, Any] = {"server": "vllm", "chat": True, "score": "none"}


class ThinkingModel(Model):
    """Knows the Game of 24, and thinks before it says so; ``field`` is where the thinking stands."""

    def __init__(self, field: str | None = None, *, refuses_stop: bool = False, opened: bool = False) -> None:
        super().__init__()
        self.field, self.refuses_stop, self.opened = field, refuses_stop, opened
        self.oracle = Oracle()

    def complete(self, body: dict[str, Any], prompt: Any) -> Answer:
        """With the words of the exact player; the thinking counts."""
        if self.refuses_stop and body.get("stop"):
            return error(400, "Unsupported parameter: 'stop' is not supported with this model.")
        asked = body["messages"][-1]["content"]
        role = "propose" if asked.endswith("Steps:\n") else "value" if "Can these" in asked else "answer"
        text = self.oracle._text(Request(asked, Key(0, role, ""))) if "Numbers:" in asked else "Hello"
        said = {"content": text, self.field: THOUGHT} if self.field else {"content": self.marked(text)}
        choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(asked.split()), "completion_tokens": 100,
                 "completion_tokens_details": {"reasoning_tokens": 60}}  # fmt: skip
        reply = {"choices": [choice], "usage": usage}
        return events(reply) if body.get("stream") and self.field is None else Answer(reply)

    def marked(self, text: str) -> str:
        """The text after its thinking, of which the template may have opened the first mark."""
        return f"{'' if self.opened else '<think>'}\n{THOUGHT}\n</think>\n\n{text.lstrip()}"


def solved(server: Server, path: Path, **more: Any) -> Result:
    """The result of a search with the judge's labels."""
    options = {f"backend.{name}": value for name, value in {**DECLARED, "base_url": server.url}.items()}
    agent = Agent("game24", "bfs", backend="openai", evaluator="value", options={**options, **more})
    return agent.solve("4 5 6 10", journal=path)


@pytest.mark.parametrize(
    "model",
    [
        ThinkingModel(), ThinkingModel("reasoning_content"), ThinkingModel("reasoning"), ThinkingModel(opened=True),
        ThinkingModel(refuses_stop=True),
    ],
    ids=["marks", "field", "newer field", "opened by the template", "no stop strings"],
)  # fmt: skip
def test_a_model_that_thinks_solves_game24(listen: Listen, model: ThinkingModel, tmp_path: Path) -> None:
    """Its thinking is in the journal, in the count of tokens and on the page, and nowhere else."""
    path = tmp_path / "run.jsonl"
    result = solved(listen(model), path)
    assert result.solved is True
    assert result.counts.unparsed == result.counts.judgements_unparsed == result.counts.illegal == 0
    assert result.usage.reasoning_tokens == 60 * result.usage.calls
    lines = [event.data for event in journal.read(path) if event.type == "completion"]
    assert all(sample["reasoning"] == THOUGHT for line in lines for sample in line["completions"])
    assert not any("I could try" in sample["text"] for line in lines for sample in line["completions"])
    assert all(line["usage"]["reasoning_tokens"] == 60 for line in lines)
    page = run_data(journal.read(path), "run").replies
    [sample, *_] = page["requests"][0]["samples"]
    assert "\n".join(page["lines"][number] for number in sample["reasoning"]) == THOUGHT


def test_a_stream_of_a_model_that_thinks_shows_no_thinking(listen: Listen) -> None:
    """No part of it, while it is not finished either."""
    seen: list[str] = []
    backend = OpenAIBackend(base_url=listen(ThinkingModel()).url, **DECLARED)
    request = Request("Numbers: 4 6\nSteps:\n", Key(0, "propose", "0"), Sampling(stop=("\n\n",)))
    reply = asyncio.run(backend.stream(request, lambda part: seen.append(part.text)))
    assert reply.completions[0].text.startswith("4 * 6 = 24")
    assert len(seen) > 2
    assert all(reply.completions[0].text.startswith(text) for text in seen)


def test_a_refusal_of_stop_strings_is_said_once_and_remembered(
    listen: Listen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One request finds out; the others are sent without."""
    server = listen(ThinkingModel("reasoning_content", refuses_stop=True))
    with caplog.at_level(logging.WARNING, "treeagent"):
        result = solved(server, tmp_path / "run.jsonl")
    assert sum("takes no stop strings" in record.message for record in caplog.records) == 1
    assert sum("stop" in body for body in server.bodies) <= 1
    assert len(server.bodies) == result.usage.calls + 1


@pytest.mark.parametrize("thinking", [False, None])
def test_text_after_a_template_that_opens_thinking_only_by_default(listen: Listen, thinking: bool | None) -> None:
    """llama.cpp shows the default; where a role switches thinking off, a text without a mark is no thinking."""

    def handler(asked: Asked) -> Answer:
        if asked.path == "/apply-template":
            return Answer({"prompt": "<user> Hi <model> <think>\n"})
        return Model("llamacpp")(asked)

    backend = OpenAIBackend("toy", base_url=listen(handler).url, **{**DECLARED, "server": "llamacpp"})
    reply = asyncio.run(backend.generate(Request("3", Key(0, "a", "0"), Sampling(max_tokens=4, thinking=thinking))))
    [completion] = reply.completions
    assert bool(completion.text) == (thinking is False)
    assert (completion.reasoning is None) == (thinking is False)


def test_the_example_of_a_chat_runs(listen: Listen, tmp_path: Path) -> None:
    """Its roles have their own settings, and the thinking of a reply is no answer."""

    def handler(asked: Asked) -> Answer:
        text = "<think>\nIs it\nfig\n?</think>\n\nred" if asked.body and "messages" in asked.body else ""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return Answer({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 9}})

    server = listen(handler)
    options = {f"backend.{name}": value for name, value in {**DECLARED, "base_url": server.url}.items()}
    example = Path(__file__).parent.parent / "examples" / "colours.yaml"
    for search, fields in (("io", {"enable_thinking": False}), ("cot", {"enable_thinking": True})):
        result = Agent(example, search, backend="openai", model="toy", options=options).solve("fig red stone")
        assert result.answer == "red"
        assert result.usage.reasoning_tokens is None
        body = server.bodies[-1]
        assert [message["role"] for message in body["messages"]][:: len(body["messages"]) - 1] == ["system", "user"]
        assert body["chat_template_kwargs"].items() >= fields.items()
        assert body.get("thinking_token_budget") == (400 if search == "cot" else None)


# What a role's chat is given

BEFORE = (Message("system", "Be brief."), Message("user", "1"), Message("assistant", "2"))
GIVEN = Sampling(max_tokens=64, thinking=16, template={"style": "short"}, extra_body={"top_a": 0.5})


def _body(where: Server, request: Request, **options: Any) -> dict[str, Any]:
    backend = OpenAIBackend(base_url=where.url, **{**DECLARED, **options})
    asyncio.run(backend.generate(request))
    body: dict[str, Any] = where.bodies[-1]
    return body


@pytest.mark.parametrize(
    ("owner", "field"), [("vllm", "thinking_token_budget"), ("llamacpp", "thinking_budget_tokens")]
)
def test_a_server_gets_messages_arguments_budget_and_further_fields(listen: Listen, owner: str, field: str) -> None:
    """Under the names that each kind has for them."""
    request = Request("3", Key(0, "propose", "0"), GIVEN, messages=BEFORE)
    body = _body(listen(Model(owner)), request, server=owner)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][-1] == {"role": "user", "content": "3"}
    assert body["chat_template_kwargs"] == {"enable_thinking": True, "thinking": True, "style": "short"}
    assert body[field] == 16
    assert body["top_a"] == 0.5
    off = _body(listen(Model(owner)), Request("3", Key(0, "a", "0"), Sampling(thinking=False)), server=owner)
    assert off["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    plain = _body(listen(Model(owner)), Request("3", Key(0, "a", "0")), server=owner)
    assert not {"chat_template_kwargs", field} & set(plain)


@pytest.mark.parametrize(
    ("sampling", "kind", "words"),
    [
        (Sampling(thinking=False), "hosted", "takes no arguments of a chat template; set the field"),
        (Sampling(template={"a": 1}), "ollama", "sampling.ROLE.template"),
        (Sampling(max_tokens=64, thinking=8), "sglang", "takes no number of tokens"),
    ],
)
def test_what_a_kind_of_server_does_not_take_is_an_error(
    listen: Listen, sampling: Sampling, kind: str, words: str
) -> None:
    """It would change nothing, in silence."""
    with pytest.raises(BackendError) as caught:
        _body(listen(Model()), Request("3", Key(0, "a", "0"), sampling), server=kind)
    assert words in str(caught.value)


def test_messages_need_a_chat_of_the_server(listen: Listen) -> None:
    """A request for a completion has none."""
    with pytest.raises(BackendError, match="need a chat"):
        _body(listen(Model()), Request("3", Key(0, "a", "0"), messages=BEFORE), chat=False)


@pytest.mark.parametrize(("owner", "score"), [("hosted", "first"), ("llamacpp", "top"), ("vllm", "echo")])
def test_labels_are_scored_after_all_messages(listen: Listen, owner: str, score: str) -> None:
    """However the server scores; thinking that is switched off is so here too."""
    server = listen(Model(owner))
    options = {**DECLARED, "server": owner, "score": score}
    chat = Chat(BEFORE, **({} if owner == "hosted" else {"thinking": False}))
    backend = OpenAIBackend("toy", base_url=server.url, **options)
    asyncio.run(backend.score(ScoreRequest("3", ("sure", "likely"), chat)))
    sent = [asked.body for asked in server.asked if asked.body and "messages" in asked.body]
    assert [message["role"] for message in sent[-1]["messages"]] == ["system", "user", "assistant", "user"]
    if owner != "hosted":
        assert sent[-1]["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}


# llama.cpp


@pytest.mark.llamacpp
@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="no llama.cpp: pip install xllamacpp")
def test_llama_cpp_with_thinking_before_each_text_solves_game24(
    listen: Listen, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The bundled model does not think, so a server between the two writes thinking before its texts."""
    import mini_gguf

    target = Path(str(resources.files("treeagent.backends.mini"))) / "target"
    with mini_gguf.serving(mini_gguf.write(target, tmp_path_factory.mktemp("gguf") / "mini.gguf")) as base:

        def forward(asked: Asked) -> Answer:
            root = base.removesuffix("/v1")
            data = None if asked.body is None else json.dumps({**asked.body, "stream": False}).encode()
            request = urllib.request.Request(root + asked.path, data, {"content-type": "application/json"})  # noqa: S310
            try:
                with urllib.request.urlopen(request) as response:  # noqa: S310  # a server of this test
                    reply = json.load(response)
            except urllib.error.HTTPError as refused:
                return Answer(json.load(refused), refused.code)
            for choice in reply.get("choices", ()):
                if not asked.body.get("logprobs"):
                    choice["text"] = f"<think>\n{THOUGHT}\n</think>\n\n{choice['text']}"
            return Answer(reply)

        result = solved(
            listen(forward), tmp_path / "run.jsonl", **{"backend.server": "llamacpp", "backend.chat": False}
        )
    assert result.solved is True
    assert result.counts.unparsed == 0
    lines = [event.data for event in journal.read(tmp_path / "run.jsonl") if event.type == "completion"]
    assert {sample["reasoning"] for line in lines for sample in line["completions"]} == {THOUGHT}


@pytest.mark.llamacpp
@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="no llama.cpp: pip install xllamacpp")
def test_llama_cpp_takes_messages_arguments_and_further_fields(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A real server answers a task with a system prompt."""
    import mini_gguf

    target = Path(str(resources.files("treeagent.backends.mini"))) / "target"
    with mini_gguf.serving(mini_gguf.write(target, tmp_path_factory.mktemp("gguf") / "mini.gguf")) as base:
        backend = OpenAIBackend(base_url=base, chat=True)
        request = Request("3", Key(0, "a", "0"), GIVEN, messages=BEFORE)
        reply = asyncio.run(backend.generate(request))
        assert reply.completions
        plain = asyncio.run(backend.generate(Request("3", Key(0, "a", "0"), Sampling(max_tokens=64))))
        assert (reply.usage.prompt_tokens or 0) > (plain.usage.prompt_tokens or 0)
