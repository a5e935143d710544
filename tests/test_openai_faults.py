"""What the backend does when the server, or the way to it, fails. No test waits: sleeping moves the test's clock on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openai_server import Answer, Asked, Model, Server, Time, error

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError, ConfigError
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling

SECRET = "sk-very-secret-0123456789abcdef"  # noqa: S105  # of no use anywhere
REQUEST = Request("Numbers: 4 5", Key(1, "propose", "0"), Sampling(temperature=0.7, max_tokens=4))
DECLARED = {"server": "vllm", "chat": True, "score": "none"}
"""So that nothing is asked beforehand."""


class Case:
    """A server that answers by a script and then well, and a backend on a clock of the test's."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.time = stack, Time()
        self.script: list[Answer | Callable[[Asked], Answer]] = []
        self.server = stack.enter_context(Server(self._answer).listening())

    def _answer(self, asked: Asked) -> Answer:
        answer = self.script.pop(0) if self.script else Model()(asked)
        return answer(asked) if callable(answer) else answer

    def backend(
        self, model: str | None = "toy", *, clock: dict[str, Any] | None = None, **options: Any
    ) -> OpenAIBackend:
        """One that asks nothing beforehand."""
        made = OpenAIBackend(model, **{"base_url": self.server.url, **DECLARED, **options})
        made.clock = self.time.clock(**(clock or {}))
        return made

    def ask(self, *script: Answer, request: Request = REQUEST, **options: Any) -> Reply:
        """The reply of a fresh backend."""
        self.script = list(script)
        return asyncio.run(self.backend(**options).generate(request))

    def fails(self, *script: Answer, **options: Any) -> str:
        """The one line that a fresh backend gives up with."""
        with pytest.raises(BackendError) as caught:
            self.ask(*script, **options)
        text = str(caught.value)
        assert "\n" not in text
        assert SECRET not in text
        return text


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        yield Case(stack)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again_with_growing_waits(case: Case, status: int) -> None:
    """Half of 0.5, 1 and 2 seconds, the least that the jitter leaves."""
    meter = (backend := case.backend()).meter()
    case.script = [error(status, "later")] * 3
    reply = asyncio.run(backend.generate(REQUEST))
    assert len(reply.completions) == 1
    assert case.time.slept == [0.25, 0.5, 1.0]
    assert len(case.server.asked) == 4
    figures = meter()
    assert (figures["http_requests"], figures["retries"], figures["failed"]) == (4, 3, 0)
    assert figures["rate_limit_seconds"] == (1.75 if status == 429 else 0)


def test_the_jitter_doubles_a_wait_at_most(case: Case) -> None:
    """Chance 1 is the whole of the doubled time, which ends at 30 seconds."""
    case.fails(*[error(500, "no")] * 9, clock={"chance": lambda: 1.0}, attempts=9)
    assert case.time.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_said_once_in_one_line(case: Case, status: int) -> None:
    """With the server's message, status and URL."""
    text = case.fails(error(status, "this\nis why"))
    assert "this is why" in text
    assert str(status) in text
    assert f"{case.server.url}/chat/completions" in text
    assert len(case.server.asked) == 1


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "Thu, 01 Jan 2026 00:00:09 GMT"}, 9.0),
        ({"retry_after": "3", "x_ratelimit_reset_requests": "50s"}, 3.0),
        ({"x_ratelimit_reset_tokens": "6m0s", "x_ratelimit_remaining_tokens": "0"}, 360.0),
        (
            {"x_ratelimit_reset_tokens": "2m", "x_ratelimit_remaining_tokens": "900",
             "x_ratelimit_reset_requests": "12s", "x_ratelimit_remaining_requests": "0"}, 12.0,
        ),
        ({"x_ratelimit_reset": "1767225620"}, 20.0),
        ({"x_ratelimit_reset": "1767225620000"}, 20.0),
        ({"x_ratelimit_reset_requests": "750ms"}, 0.75),
        ({"retry_after": "soon"}, 0.25),
    ],
)  # fmt: skip
def test_the_servers_own_word_on_when_to_come_back_is_kept(case: Case, headers: dict[str, str], wait: float) -> None:
    """Retry-After in each of its forms, else the reset of what is used up; nonsense is as good as nothing."""
    case.ask(error(429, "slow down", **headers))
    assert case.time.slept == [pytest.approx(wait)]


def test_a_limit_that_one_request_meets_holds_the_others_back(case: Case) -> None:
    """A request that begins during the server's waiting time is sent after it."""
    backend = case.backend()
    meter = backend.meter()

    async def run() -> None:
        waiting, may = asyncio.Event(), asyncio.Event()

        async def stand_still(seconds: float) -> None:
            case.time.slept.append(seconds)
            waiting.set()
            await may.wait()

        backend.clock = case.time.clock(sleep=stand_still)
        case.script = [error(429, "slow down", retry_after="20")]
        first = asyncio.ensure_future(backend.generate(REQUEST))
        await waiting.wait()
        waiting.clear()
        second = asyncio.ensure_future(backend.generate(REQUEST))
        await waiting.wait()
        assert case.time.slept == [20.0, 20.0]
        assert len(case.server.asked) == 1
        may.set()
        case.time.at += 20
        await asyncio.gather(first, second)

    asyncio.run(run())
    assert len(case.server.asked) == 3
    assert meter()["rate_limit_seconds"] == 40.0


def test_after_the_last_request_of_a_limit_the_next_one_waits(case: Case) -> None:
    """``remaining`` 0 on a good answer: the next request waits for the reset, and is never refused."""
    backend = case.backend()
    good = Model()

    def last(asked: Asked) -> Answer:
        answer = good(asked)
        answer.headers |= {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8s"}
        return answer

    case.script = [last]
    asyncio.run(backend.generate(REQUEST))
    assert case.time.slept == []
    asyncio.run(backend.generate(REQUEST))
    assert case.time.slept == [8.0]


def test_attempts_come_to_an_end(case: Case) -> None:
    """The line says how often, how long, and which options rule that."""
    text = case.fails(*[error(503, "overloaded")] * 9, attempts=3)
    assert len(case.server.asked) == 3
    for part in ("503", "overloaded", "3 attempts", "attempts=3", "patience=900"):
        assert part in text


def test_patience_comes_to_an_end(case: Case) -> None:
    """A wait that would end after it is not begun."""
    text = case.fails(*[error(503, "overloaded")] * 99, attempts=99, patience=10)
    assert sum(case.time.slept) <= 10
    assert len(case.time.slept) > 3
    assert "patience=10" in text
    assert "the server asks to wait 3,600 s" in case.fails(error(429, "no", retry_after="3600"))


def test_the_last_attempt_gets_no_more_time_than_is_left(case: Case) -> None:
    """``timeout`` is for one attempt, and never goes past ``patience``."""
    case.ask(error(429, "no", retry_after="90"), timeout=60, patience=100)
    assert case.time.limits == [60.0, pytest.approx(10.0)]


def test_a_server_that_is_down_is_tried_again_and_then_named(case: Case) -> None:
    """Nobody listens at the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        text = case.fails(base_url=url, attempts=3)
    assert len(case.time.slept) == 2
    assert f"{url}/chat/completions: cannot connect" in text
    assert "is the server running" in text


def test_a_slow_server_is_given_up_and_its_connection_closed(case: Case) -> None:
    """The request has arrived, its answer never comes; each attempt leaves nothing behind."""
    slow: list[Asked] = []

    def never(asked: Asked) -> Answer:
        slow.append(asked)
        return Answer(never=True)

    async def within(work: Awaitable[Any], seconds: float) -> Any:
        task = asyncio.ensure_future(work)
        await asyncio.to_thread(case.server.arrived.wait)
        case.server.arrived.clear()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise TimeoutError

    backend = case.backend(clock={"within": within}, attempts=2, timeout=30)
    case.script = [never, never]
    with pytest.raises(BackendError, match="no answer within 30 s"):
        asyncio.run(backend.generate(REQUEST))
    assert len(slow) == 2
    assert all(asked.left.wait(60) for asked in slow)


def test_cancelling_a_request_closes_its_connection_and_its_place_is_free(case: Case) -> None:
    """What was cancelled costs the server nothing more, and those after it are answered."""
    backend = case.backend(concurrency=1)
    case.script = [Answer(never=True)]

    async def run() -> None:
        task = asyncio.ensure_future(backend.generate(REQUEST))
        await asyncio.to_thread(case.server.arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert case.server.asked[0].left.wait(60)
        assert (await backend.generate(REQUEST)).completions

    asyncio.run(run())


def test_one_failing_sample_ends_the_others(case: Case) -> None:
    """Of n requests for one reply, those still under way are cancelled when one of them is refused."""
    hung: list[Asked] = []

    def never(asked: Asked) -> Answer:
        hung.append(asked)
        return Answer(never=True)

    async def make() -> asyncio.Event:
        return asyncio.Event()

    both = asyncio.run_coroutine_threadsafe(make(), case.server.loop).result()

    async def gate(asked: Asked) -> None:
        if len(case.server.asked) == 2:
            both.set()
        await both.wait()

    backend = case.backend(deterministic=True)
    case.script = [never, error(400, "no")]
    case.server.gate = gate
    request = Request("x", Key(1, "a", "0"), Sampling(temperature=1.0, max_tokens=2), n=2)
    with pytest.raises(BackendError, match="400"):
        asyncio.run(backend.generate(request))
    assert [asked.left.wait(60) for asked in hung] == [True]


@pytest.mark.parametrize("cut", [0, 30, -5])
def test_a_connection_that_breaks_is_tried_again(case: Case, cut: int) -> None:
    """Before the answer, within its head, within its body."""

    def half(asked: Asked) -> Answer:
        answer = Model()(asked)
        answer.cut = cut
        return answer

    assert len(case.ask(half, half).completions) == 1
    assert len(case.server.asked) == 3
    assert "the connection broke" in case.fails(half, half, attempts=2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(b"<html>welcome</html>", headers={"content-type": "text/html"}), "not a JSON object but text/html"),
        (Answer(b'{"choices": [{"te'), "not a JSON object"),
        (Answer(b"\xff\xfe\x00"), "not a JSON object"),
        (Answer(b""), "nothing"),
        (Answer([1, 2]), "not a JSON object"),
        (Answer({"hello": 1}), "has no 'choices' (it has: hello)"),
        (Answer({"choices": []}), "has no 'choices'"),
        (Answer({"choices": "x"}), "has no 'choices'"),
        (Answer({"choices": [{"message": {"content": 5}}]}), "choices[0].message.content: expected a text, not 5"),
        (Answer({"error": {"message": "no credit", "code": 402}}), "no credit"),
        (Answer(b"", status=302, headers={"location": "https://elsewhere.example/"}), "302"),
        (Answer({"detail": "Not Found"}, status=404), "Not Found"),
        (Answer({"object": "error", "message": "of old", "code": 404}, status=404), "of old"),
    ],
)
def test_garbage_is_named_and_not_asked_for_again(case: Case, answer: Answer, said: str) -> None:
    """An answer that is none is a mistake in the address or in the server; waiting does not cure it."""
    assert said in case.fails(answer)
    assert len(case.server.asked) == 1


def test_an_error_within_a_good_answer_may_pass(case: Case) -> None:
    """Gateways send 200 and put the refusal of what is behind them into the text."""
    assert case.ask(Answer({"error": {"message": "upstream busy", "code": 502}})).completions
    assert case.time.slept == [0.25]


def test_a_wrong_content_type_does_not_matter_where_the_content_is_right(case: Case) -> None:
    """Some servers call their JSON text."""

    def text(asked: Asked) -> Answer:
        answer = Model()(asked)
        answer.headers["content-type"] = "text/plain"
        return answer

    assert case.ask(text).completions


def test_a_missing_v1_is_suspected(case: Case) -> None:
    """The commonest mistake in an address."""
    text = case.fails(base_url=case.server.url.removesuffix("/v1"))
    assert "404" in text
    assert "does base_url lack the ending /v1?" in text


def test_unauthorised_names_the_variable_and_never_the_key(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the server quotes it."""
    monkeypatch.setenv("MY_KEY", SECRET)
    refusal = error(401, f"Incorrect API key provided: {SECRET}, or sk-abcd****wxyz.")
    text = case.fails(refusal, key_variable="MY_KEY")
    assert case.server.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert "key_variable" in text
    assert "sk-" not in text


def test_the_key_is_nowhere_to_be_read(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in what a journal keeps, not in the object's own words, and not in the environment of anything else."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    backend = case.backend()
    asyncio.run(backend.generate(REQUEST))
    assert SECRET not in json.dumps(backend.describe()) + repr(backend) + str(backend.meter()()) + repr(REQUEST)
    assert backend.describe()["options"].get("key_variable") is None
    assert os.environ["OPENAI_API_KEY"] == SECRET


def test_a_variable_that_is_named_must_be_set(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default one may be missing, because local servers need none."""
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        case.backend(key_variable="NO_SUCH_KEY")
    case.ask()
    assert "authorization" not in case.server.asked[0].headers
    monkeypatch.setenv("NO_SUCH_KEY", "sk-ünïcode")
    with pytest.raises(ConfigError, match="control characters") as caught:
        case.backend(key_variable="NO_SUCH_KEY")
    assert "sk-" not in str(caught.value)


def test_a_model_that_is_not_there_is_named_with_those_that_are(case: Case) -> None:
    """As the server lists them; the list is requested only where no option gives the kind of server."""
    text = case.fails(model="tay", server=None)
    assert f"{case.server.url}/models: the server has no model 'tay'" in text
    assert "Did you mean 'toy'?" in text


def test_tokens_that_the_server_does_not_count_are_unknown(case: Case) -> None:
    """Never 0, neither in the usage nor in the speed."""
    backend = case.backend()
    meter = backend.meter()
    case.script = [Model(usage=False)]
    reply = asyncio.run(backend.generate(REQUEST))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (None, None)
    assert meter()["tokens_per_second"] is None


@pytest.mark.parametrize("hangs", ["models", "completions"])
def test_ctrl_c_ends_a_program_whose_server_hangs(case: Case, hangs: str) -> None:
    """While the server is asked what it is as well as during the search; the connection is closed."""
    hung: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        if not asked.path.endswith(hangs) or (hangs == "completions" and asked.body["max_tokens"] == 1):
            return Model()(asked)
        hung.append(asked)
        reached.set()
        return Answer(never=True)

    reached = threading.Event()
    case.server.handler = answer
    command = [sys.executable, "-m", "treeagent", "solve", "--task", "game24", "--backend", "openai", "-q",
               "--set", f"backend.base_url={case.server.url}"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert reached.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    assert hung[0].left.wait(60)
