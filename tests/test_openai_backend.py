"""What the backend sends to servers of each kind, what it makes of their answers, and what it says of itself."""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
from typing import Any

import pytest
from openai_server import Answer, Asked, Listen, Model, Server, error

from treeagent import Agent, Budget, extras
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.protocol import SEED_BITS
from treeagent.backends.openai.server_kinds import KINDS
from treeagent.errors import BackendError, ConfigError, ModelError
from treeagent.reply import Usage
from treeagent.request import Key, Request, Sampling, ScoreRequest


def wanted(n: int = 1, prompt: str = "Numbers: 4 5", **sampling: Any) -> Request:
    """A request for four sampled tokens."""
    return Request(prompt, Key(3, "propose", "0.1"), Sampling(**{"temperature": 0.7, "max_tokens": 4, **sampling}), n)


def ask(where: Server, request: Request, model: str | None = None, /, **options: Any) -> Any:
    """The reply of a fresh backend."""
    return asyncio.run(OpenAIBackend(model, base_url=where.url, **options).generate(request))


# What is found out


@pytest.mark.parametrize(("owner", "kind"), [("vllm", "vllm"), ("sglang", "sglang"), ("llamacpp", "llamacpp"),
                                             ("library", "ollama"), ("system", "hosted")])  # fmt: skip
def test_the_kind_and_the_model_are_those_that_the_server_lists(listen: Listen, owner: str, kind: str) -> None:
    """The only model it has, and the kind by its owner."""
    backend = OpenAIBackend(base_url=listen(Model(owner)).url)
    backend.load()
    assert backend.model == "toy"
    assert backend._server_info is not None
    assert backend._server_info.kind is KINDS[kind]


def test_of_several_models_one_must_be_named(listen: Listen) -> None:
    """The error lists them; with a name all is well."""
    server = listen(Model(models=("small", "large")))
    with pytest.raises(ModelError, match="2 models; say which one with --model: small, large"):
        OpenAIBackend(base_url=server.url).load()
    assert ask(server, wanted(), "large").completions
    with pytest.raises(ModelError, match="lists no model"):
        OpenAIBackend(base_url=listen(lambda asked: error(404, "no list")).url).load()


@pytest.mark.parametrize(("chat", "completions", "endpoint"),
                         [(True, True, "chat/completions"), (True, False, "chat/completions"),
                          (False, True, "completions")])  # fmt: skip
def test_the_chat_is_used_where_there_is_one(listen: Listen, chat: bool, completions: bool, endpoint: str) -> None:
    """Unless the option says otherwise."""
    server = listen(Model("system", chat=chat, completions=completions))
    ask(server, wanted())
    assert server.asked[-1].path == f"/v1/{endpoint}"
    if chat and completions:
        ask(server, wanted(), chat=False)
        assert server.asked[-1].path == "/v1/completions"


def test_what_options_give_is_not_requested(listen: Listen) -> None:
    """One request, one HTTP request."""
    server = listen(Model())
    ask(server, wanted(), "toy", server="vllm", chat=True, score="none")
    assert len(server.asked) == 1


def test_the_server_is_asked_once_however_many_requests_come_first(listen: Listen) -> None:
    """And once for all loops."""
    server = listen(Model("system"))
    backend = OpenAIBackend(base_url=server.url)

    async def run() -> None:
        await asyncio.gather(*(backend.generate(wanted()) for _ in range(5)))

    asyncio.run(run())
    asyncio.run(run())
    assert [asked.path for asked in server.asked].count("/v1/models") == 1


def test_a_wrong_key_is_seen_while_asking(listen: Listen) -> None:
    """Rather than taken for a server without a chat."""
    with pytest.raises(BackendError, match="401"):
        OpenAIBackend("toy", base_url=listen(lambda asked: error(401, "who are you?")).url).load()


@pytest.mark.parametrize(
    ("model", "options", "way"),
    [
        (Model(), {}, "echo"),
        (Model(), {"chat": False}, "echo"),
        (Model("llamacpp", echo=False), {}, "top"),
        (Model("sglang"), {"chat": False}, "echo"),
        (Model("sglang"), {}, "first"),
        (Model("system", completions=False), {}, "first"),
        (Model("system", chat=False, echo=False), {}, "first"),
        (Model("system", logprobs=False), {}, "none"),
        (Model(), {"score": "none"}, "none"),
    ],
)
def test_the_way_of_scoring_is_the_best_that_the_server_has(
    listen: Listen, model: Model, options: dict[str, Any], way: str
) -> None:
    """And the capability is there where there is one."""
    backend = OpenAIBackend(base_url=listen(model).url, **options)
    assert ("score" in backend.capabilities) == (way != "none")
    assert backend._server_info is not None
    assert backend._server_info.score == way


def test_only_an_option_makes_a_server_deterministic(listen: Listen) -> None:
    """``seed`` is a promise that no server makes by itself."""
    url = listen(Model()).url
    assert "seed" not in OpenAIBackend(base_url=url).capabilities
    assert "seed" in OpenAIBackend(base_url=url, deterministic=True).capabilities


# What is sent


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


DECLARED = {"chat": True, "score": "none"}


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


# Scoring

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


# Options, price, packages


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "http://me:secret@host/v1"}, "no user, password or query"),
        ({"base_url": "https://host/v1?key=secret"}, "no user, password or query"),
        ({"base_url": "localhost:8000"}, "must look like"),
        ({"base_url": "http://host:port/v1"}, "not a URL"),
        ({"server": "vlm"}, "Did you mean 'vllm'"),
        ({"score": "ecko"}, "Did you mean 'echo'"),
        ({"concurrency": 0}, "at least 1"),
        ({"attempts": 0}, "at least 1"),
        ({"top_logprobs": 0}, "at least 1"),
        ({"timeout": 0}, "positive number of seconds"),
        ({"patience": float("nan")}, "positive number of seconds"),
        ({"price_in": 1.0}, "need each other"),
        ({"price_in": -1.0, "price_out": 1.0}, "0 or more dollars"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    """In one line that shows no secret."""
    with pytest.raises(ConfigError, match=said) as caught:
        OpenAIBackend("m", **options)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_address_comes_from_the_option_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option first; what people copy from a manual is cut down to the base."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert OpenAIBackend("m").base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one:1/v1/")
    assert OpenAIBackend("m").base_url == "http://one:1/v1"
    assert OpenAIBackend("m", base_url="http://two:2/v1/chat/completions").base_url == "http://two:2/v1"


def test_words_of_the_command_line_become_options_and_words_again() -> None:
    """``open`` takes what ``describe`` tells; unknown prices stay unknown."""
    words = {"base_url": "http://h:1/v1", "chat": "false", "timeout": "2.5", "price_in": "0.15", "price_out": "0.6"}
    backend = OpenAIBackend.open("m", words)
    assert backend.price == pytest.approx((0.15e-6, 0.6e-6))
    told = backend.describe()["options"]
    values = {"base_url": "http://h:1/v1", "chat": False, "timeout": 2.5, "price_in": 0.15, "price_out": 0.6}
    assert values.items() <= told.items()
    assert OpenAIBackend.open("m", told).describe()["options"] == told
    assert OpenAIBackend("m", base_url="http://h:1/v1").price is None
    assert "price_in" not in OpenAIBackend("m", base_url="http://h:1/v1").describe()["options"]


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tenacity" else object())
    with pytest.raises(ConfigError, match=r"needs tenacity, which is not installed\. Run: .*pip install .*\[openai\]'"):
        OpenAIBackend("m")


def test_nothing_of_http_is_imported_before_it_is_needed() -> None:
    """Nor torch, ever."""
    code = (
        "import sys; from treeagent.backends.openai.backend import OpenAIBackend; OpenAIBackend('m');"
        "print([name for name in ('httpx', 'tenacity', 'openai', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_search_in_dollars_keeps_to_its_budget(listen: Listen) -> None:
    """With prices, what it spent is known and below the limit; without, the limit is refused before any request."""
    server = listen(Model("system", n=False))
    options = {"backend.base_url": server.url, "backend.price_in": 2.0, "backend.price_out": 8.0}
    agent = Agent("game24", "cot-sc", backend="openai", options=options, budget=Budget(dollars=0.02))
    result = agent.solve("4 9 10 13")
    assert result.usage.dollars is not None
    assert 0 < result.usage.dollars <= 0.02
    spent = (result.usage.prompt_tokens or 0) * 2e-6 + (result.usage.completion_tokens or 0) * 8e-6
    assert result.usage.dollars == pytest.approx(spent)
    with pytest.raises(ConfigError, match="price per token is unknown"):
        Agent("game24", "cot-sc", backend="openai", options={"backend.base_url": server.url}, budget=Budget(dollars=1))


def test_samples_that_are_paid_for_one_by_one_stay_within_a_budget(listen: Listen) -> None:
    """Each counts the prompt again, and the ledger has reserved that; a batch in parallel overshoots nothing."""
    model = Model("llamacpp", echo=False)

    def letters(asked: Asked) -> Answer:
        """A byte a token, the most there can be; the first steps are legal, so that there is something to vote on."""
        answer = model(asked)
        if asked.body and "messages" in asked.body and asked.path.endswith("completions"):
            answer.body["usage"]["prompt_tokens"] = len(asked.body["messages"][0]["content"].encode())
            answer.body["choices"][0]["message"]["content"] = "4 + 9 = 13 (left: 10 13 13)\n9 - 4 = 5 (left: 5 10 13)"
        return answer

    options = {"backend.base_url": listen(letters).url, "evaluator.samples": 5}
    for tokens in range(700, 1700, 50):
        agent = Agent(
            "game24", "bfs", backend="openai", evaluator="vote", budget=Budget(tokens=tokens), options=options
        )
        assert (agent.solve("4 9 10 13").usage.tokens or 0) <= tokens


def test_figures_are_those_of_the_meters_time(listen: Listen) -> None:
    """Requests, speed and latencies since it was started, by a clock that the server moves."""
    now = [0.0]
    server = listen(Model())

    async def work(asked: Asked) -> None:
        now[0] += 2.0

    server.gate = work
    backend = OpenAIBackend("toy", base_url=server.url, server="vllm", **DECLARED)  # type: ignore[arg-type]
    backend.clock = type(backend.clock)(monotonic=lambda: now[0])
    first = backend.meter()
    asyncio.run(backend.generate(wanted()))
    second = backend.meter()
    assert second()["tokens_per_second"] is None
    assert second()["latency_p50_seconds"] is None
    asyncio.run(backend.generate(wanted(3)))
    assert first()["http_requests"] == 2
    assert first()["tokens_per_second"] == 4.0
    assert second()["tokens_per_second"] == 6.0
    assert first()["latency_p50_seconds"] == first()["latency_p99_seconds"] == 2.0


def test_a_second_model_of_the_same_server_judges(listen: Listen) -> None:
    """``--evaluator-model`` opens it with the same options."""
    server = listen(Model(models=("large", "small")))
    agent = Agent("game24", "bfs", backend="openai", model="large", evaluator_model="small",
                  options={"backend.base_url": server.url, "b": 1}, budget=Budget(calls=12))  # fmt: skip
    agent.solve("4 9 10 13")
    assert {body["model"] for body in server.bodies} == {"large", "small"}
