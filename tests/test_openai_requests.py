"""What the backend ``openai`` sends for completions, and in how many requests."""

from __future__ import annotations

import asyncio
import gc

import pytest
from openai_asking import DECLARED, ask, wanted
from openai_server import Answer, Asked, Listen, Model, error

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.protocol import SEED_BITS
from treeagent.backends.openai.server_kinds import KINDS
from treeagent.errors import BackendError
from treeagent.reply import Usage


@pytest.mark.parametrize("kind", KINDS)
def test_the_distribution_is_the_one_that_was_asked_for(listen: Listen, kind: str) -> None:
    """Fields that are not asked for are neutral where servers have defaults of their own."""
    server = listen(Model())
    ask(server, wanted(stop=tuple("abcdef"), top_p=0.5), "toy", server=kind)
    body = server.bodies[-1]
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (4, 0.7, 0.5)
    assert body["stop"] == list("abcd" if kind == "hosted" else "abcdef")
    assert "n" not in body
    neutral = {**KINDS[kind].neutral, "top_p": 0.5}
    assert {name: body[name] for name in neutral} == neutral


@pytest.mark.parametrize("kind", KINDS)
def test_top_k_and_min_p_are_sent_or_refused_and_never_dropped(listen: Listen, kind: str) -> None:
    """A server that would ignore them would draw from another distribution."""
    server = listen(Model())
    request = wanted(top_k=5, min_p=0.1)
    if KINDS[kind].supports_top_k:
        ask(server, request, "toy", server=kind)
        assert (server.bodies[-1]["top_k"], server.bodies[-1]["min_p"]) == (5, 0.1)
    else:
        with pytest.raises(BackendError, match=f"top_k=5, which a server of kind '{kind}' does not take"):
            ask(server, request, "toy", server=kind)


def test_seeds_come_from_the_key_alone(listen: Listen) -> None:
    """The same in every run, another for every sample, small enough for every server."""
    server = listen(Model())
    for _ in range(2):
        ask(server, wanted(3), "toy", server="vllm", deterministic=True, score="none", chat=True)
    seeds = sorted(body["seed"] for body in server.bodies)
    assert seeds == sorted([wanted().key.stream(sample) % (1 << SEED_BITS) for sample in range(3)] * 2)
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_samples_go_together_where_the_server_counts_them_right(listen: Listen) -> None:
    """One request for n; llama.cpp counts only one of them, so there they go alone."""
    server = listen(Model())
    reply = ask(server, wanted(3), "toy", server="vllm", **DECLARED)
    assert [body.get("n") for body in server.bodies] == [3]
    assert reply.usage == Usage(1, 3, 12)
    server.asked.clear()
    assert ask(server, wanted(3), "toy", server="llamacpp", **DECLARED).usage == Usage(1, 9, 12)
    assert [body.get("n") for body in server.bodies] == [None] * 3


def test_samples_are_in_their_order(listen: Listen) -> None:
    """By the choices' index, whatever order they are sent in."""
    server = listen(Model())
    together = ask(server, wanted(3), "toy", server="vllm", **DECLARED)
    body = server.bodies[-1]
    assert [each.text for each in together.completions] == [Model().text("Numbers: 4 5", body, i) for i in range(3)]


def test_a_server_that_ignores_n_is_asked_n_times_and_remembered(listen: Listen) -> None:
    """Its completions count; the missing ones are requested singly, from the next request on all of them."""
    server = listen(Model(n=False))
    backend = OpenAIBackend("toy", base_url=server.url, server="hosted", **DECLARED)  # type: ignore[arg-type]
    assert backend.prompt_copies(wanted(3)) == 3
    for asked in (3, 3):
        server.asked.clear()
        reply = asyncio.run(backend.generate(wanted(3)))
        assert len(reply.completions) == 3
        assert len(server.bodies) == asked
        assert reply.usage.completion_tokens == 12
    assert not any("n" in body for body in server.bodies)


def test_a_server_that_refuses_n_is_asked_n_times(listen: Listen) -> None:
    """A refusal for another reason is an error."""

    def picky(asked: Asked) -> Answer:
        if asked.body and asked.body.get("n", 1) > 1:
            return error(400, "n must be 1")
        return error(400, "too long") if asked.body and "long" in str(asked.body) else Model()(asked)

    server = listen(picky)
    backend = OpenAIBackend("toy", base_url=server.url, server="vllm", **DECLARED)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="too long"):
        asyncio.run(backend.generate(wanted(2, "long")))
    assert len(asyncio.run(backend.generate(wanted(2))).completions) == 2
    assert [body.get("n") for body in server.bodies][-3:] == [2, None, None]
    asyncio.run(backend.generate(wanted(2)))
    assert [body.get("n") for body in server.bodies][-2:] == [None, None]


def test_greedy_samples_are_drawn_once(listen: Listen) -> None:
    """They are one text; vLLM refuses to draw two of them."""
    server = listen(Model())
    reply = ask(server, wanted(3, temperature=0.0), "toy", server="vllm", **DECLARED)
    assert len(server.bodies) == 1
    assert "n" not in server.bodies[0]
    assert len({completion.text for completion in reply.completions}) == 1
    assert len(reply.completions) == 3


def test_a_model_that_requires_max_completion_tokens_gets_them(listen: Listen) -> None:
    """After one refusal, and from then on at once."""

    def modern(asked: Asked) -> Answer:
        if asked.body and "max_tokens" in asked.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if asked.body:
            asked.body["max_tokens"] = asked.body["max_completion_tokens"]
        return Model("system")(asked)

    server = listen(modern)
    backend = OpenAIBackend("toy", base_url=server.url, server="hosted", **DECLARED)  # type: ignore[arg-type]

    async def run() -> None:
        await asyncio.gather(*(backend.generate(wanted()) for _ in range(3)))

    asyncio.run(run())
    assert len(server.asked) <= 6
    server.asked.clear()
    asyncio.run(run())
    assert len(server.asked) == 3


def test_a_server_that_takes_no_seed_gets_none_unless_one_was_promised(listen: Listen) -> None:
    """With ``deterministic`` the refusal is an error, because texts would differ from what was promised."""

    def seedless(asked: Asked) -> Answer:
        refuse = asked.body and "seed" in asked.body
        return error(422, "extra fields are not permitted: seed") if refuse else Model("system")(asked)

    server = listen(seedless)
    backend = OpenAIBackend("toy", base_url=server.url, server="hosted", **DECLARED)  # type: ignore[arg-type]
    for _ in range(2):
        assert asyncio.run(backend.generate(wanted())).completions
    assert len(server.asked) == 3
    with pytest.raises(BackendError, match="not permitted: seed"):
        ask(server, wanted(), "toy", server="hosted", deterministic=True, **DECLARED)


def test_stop_strings_end_a_text_whoever_finds_them(listen: Listen) -> None:
    """A server that has cut already says ``stop``; one that has not is helped."""
    said = {"text": "3 + 4\n= 7", "finish_reason": "length", "index": 0}
    server = listen(lambda asked: Answer({"choices": [said]}))
    [one] = ask(server, wanted(stop=("=", "\n")), "m", server="hosted", chat=False, score="none").completions
    assert (one.text, one.finish) == ("3 + 4", "stop")
    [two] = ask(server, wanted(), "m", server="hosted", chat=False, score="none").completions
    assert (two.text, two.finish) == ("3 + 4\n= 7", "length")


def test_a_message_without_content_is_an_empty_text(listen: Listen) -> None:
    """As models send it that have spent their tokens on reasoning."""
    server = listen(lambda asked: Answer({"choices": [{"message": {"content": None}, "finish_reason": "length"}]}))
    [one] = ask(server, wanted(), "m", server="hosted", **DECLARED).completions
    assert (one.text, one.finish) == ("", "length")


def test_no_more_requests_are_under_way_than_allowed(listen: Listen) -> None:
    """The cap holds within one event loop, and is reached."""
    server = listen(Model())
    backend = OpenAIBackend("toy", base_url=server.url, server="vllm", concurrency=3, **DECLARED)  # type: ignore[arg-type]

    async def make() -> asyncio.Event:
        return asyncio.Event()

    full = asyncio.run_coroutine_threadsafe(make(), server.loop).result()

    async def gate(asked: Asked) -> None:
        if server.live == 3:
            full.set()
        await full.wait()

    server.gate = gate

    async def run() -> None:
        await asyncio.gather(*(backend.generate(wanted()) for _ in range(12)))

    asyncio.run(run())
    assert server.most == 3


def test_connections_are_kept_within_a_loop_and_end_with_it(listen: Listen) -> None:
    """Nothing is left open by a program that never heard of ``aclose``, nor by one that did."""
    server = listen(Model())
    backend = OpenAIBackend("toy", base_url=server.url, server="vllm", **DECLARED)  # type: ignore[arg-type]

    def open_now() -> int:
        async def count() -> int:
            for _ in range(20):
                await asyncio.sleep(0)
            return server.connections

        return asyncio.run_coroutine_threadsafe(count(), server.loop).result()

    async def run(*, close: bool) -> int:
        for _ in range(3):
            await backend.generate(wanted())
        seen = open_now()
        if close:
            await backend.aclose()
            seen += open_now()
        return seen

    for close in (False, True):
        assert asyncio.run(run(close=close)) == 1
        gc.collect()
        assert open_now() == 0
