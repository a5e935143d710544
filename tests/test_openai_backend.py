"""What the backend ``openai`` finds out of a server, and what it says of itself: options, prices, figures."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from openai_asking import DECLARED, ask, wanted
from openai_server import Answer, Asked, Listen, Model, error

from treeagent import Agent, Budget, extras
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.server_kinds import KINDS
from treeagent.errors import BackendError, ConfigError, ModelError

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
