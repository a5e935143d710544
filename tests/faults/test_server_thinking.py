"""Servers of models that think: the thinking is kept apart, and what such models refuse is not sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai_server import Answer, Asked, Listen, error
from server_replies import backend_at, chat, reply_to, said, wanted

from treeagent import Agent
from treeagent.errors import BackendError

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
