"""Backend ``openai``: requests go to a server that speaks OpenAI's protocol.

vLLM, SGLang, llama.cpp, Ollama and hosted models differ in what they take, tell and count; :mod:`servers` knows how.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from treeagent import aio, extras
from treeagent.backend import Backend, Completion, Reply, Request, ScoreRequest, Scores, Usage
from treeagent.errors import BackendError
from treeagent.options import as_words, read_options

from .metrics import Figures
from .options import check, checked_url, read_key
from .retry import RetryClock

if TYPE_CHECKING:
    from .client import Client, Rejected
    from .probe import Server

Result = TypeVar("Result")

PUBLIC = "https://api.openai.com/v1"
BASE_URL = "OPENAI_BASE_URL"


class OpenAIBackend(Backend):
    """Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, hosted models.

    The key comes from the environment variable that ``key_variable`` names and is never written anywhere. What the
    options leave open (model, kind of server, chat, scoring) is asked of the server before the first request. Raises
    ConfigError for a wrong option, and MissingExtraError where httpx or tenacity is not installed.
    """

    name = "openai"
    options: ClassVar[dict[str, type]] = {
        "base_url": str, "key_variable": str, "server": str, "chat": bool, "score": str, "top_logprobs": int,
        "deterministic": bool, "concurrency": int, "timeout": float, "patience": float, "attempts": int,
        "price_in": float, "price_out": float,
    }  # fmt: skip
    """What :meth:`open` understands."""

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        key_variable: str | None = None,
        server: str | None = None,
        chat: bool | None = None,
        score: str = "auto",
        top_logprobs: int | None = None,
        deterministic: bool = False,
        concurrency: int = 16,
        timeout: float = 300.0,
        patience: float = 900.0,
        attempts: int = 6,
        price_in: float | None = None,
        price_out: float | None = None,
    ) -> None:
        extras.require("the backend 'openai'", "httpx", "tenacity")
        self.model = model
        self.base_url = checked_url(base_url or os.environ.get(BASE_URL) or PUBLIC)
        self.key_variable, self.server, self.chat, self.score_by = key_variable, server, chat, score
        self.top_logprobs, self.deterministic, self.concurrency = top_logprobs, deterministic, concurrency
        self.timeout, self.patience, self.attempts = timeout, patience, attempts
        self.price_in, self.price_out = price_in, price_out
        check(self)
        self.price = None if price_in is None or price_out is None else (price_in / 1e6, price_out / 1e6)
        self.clock = RetryClock()
        self._asked_model = model
        self._figures = Figures(self._now)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._known: Server | None = None
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._alone = deterministic  # each sample in a request of its own
        self._pieces: dict[str, list[int]] = {}
        self._seeds = True  # whether the server takes them
        self._limit = "max_tokens"  # newer models of OpenAI call it max_completion_tokens

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> OpenAIBackend:
        """From the command line's words. Raises ConfigError for an unknown or misformed option."""
        return cls(model, **read_options(cls.name, cls.options, options))

    def describe(self) -> dict[str, Any]:
        """Name, model and options as :meth:`open` takes them; asks the server which model it has if none was named."""
        if self.model is None:
            self._find_out()
        names = {option: "score_by" if option == "score" else option for option in self.options}
        return {
            "name": self.name,
            "model": self.model,
            "options": as_words({option: getattr(self, name) for option, name in names.items()}),
        }

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # known only once the server has been asked
        """Asks the server for what the options leave open. Raises BackendError."""
        server = self._find_out()
        offered = {"score": server.score != "none", "chat": server.chat, "seed": self.deterministic}
        return frozenset({"generate"} | {name for name, there in offered.items() if there})

    def load(self) -> None:
        """Ask the server for what the options leave open. Raises BackendError."""
        self._find_out()

    def prompt_copies(self, request: Request | ScoreRequest) -> int:
        """Samples in requests of their own, and continuations that are echoed, are counted with their prompt each."""
        known = self._known
        if isinstance(request, ScoreRequest):
            return len(request.continuations) + 1 if known is None or known.score == "echo" else 1
        sure = known is not None and known.kind.name in ("vllm", "sglang") and not self._alone
        return 1 if sure or request.sampling.temperature == 0 else request.n

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Requests over HTTP, retries, seconds waited for rate limits, tokens per second, latencies."""
        return self._figures.meter()

    async def aclose(self) -> None:
        """Close this event loop's connections; without it they close with the loop."""
        if self._client is not None:
            await self._client.aclose()

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        if request.n < 1:
            raise BackendError(f"a request must ask for at least 1 completion, not {request.n}")
        server = await self._server()
        # Greedily drawn samples are one text; vLLM refuses to draw two of them.
        wanted = request.n if request.sampling.temperature > 0 else 1
        samples: list[Completion] = []
        costs: list[Usage] = []
        at_once = wanted > 1 and server.kind.together and not self._alone
        if at_once:
            samples, cost = await self._together(request, server)
            costs.append(cost)
        rest = range(len(samples), wanted)
        for found, cost in await aio.gather(self._draw(request, server, 1, sample) for sample in rest):
            samples += found[:1]
            costs.append(cost)
        if at_once and rest:
            self._alone = True  # a server that ignores or refuses n does so always
        total = sum(costs, Usage())
        self._figures.tokens(total.completion_tokens)
        if wanted < request.n:
            samples *= request.n
        return Reply(tuple(samples[: request.n]), Usage(1, total.prompt_tokens, total.completion_tokens))

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations, where the server tells log-probabilities. Raises BackendError."""
        from .logprobs import score  # noqa: PLC0415  # httpx is imported with it

        server = await self._server()
        if server.score == "none":
            return await super().score(request)
        tops = self.top_logprobs or server.kind.tops
        scores, missing = await score(request, server, tops, self._ask, self._pieces)
        self._figures.count("labels_out_of_reach", missing)
        return scores

    async def _together(self, request: Request, server: Server) -> tuple[list[Completion], Usage]:
        """All samples in one request; none where the server refuses that."""
        from .client import Rejected  # noqa: PLC0415

        try:
            return await self._draw(request, server, request.n, 0)
        except Rejected as error:
            if error.status not in (400, 422):
                raise
            return [], Usage()  # one sample alone shows whether it was n that it refused

    async def _draw(self, request: Request, server: Server, n: int, sample: int) -> tuple[list[Completion], Usage]:
        """Samples from ``sample`` on. Raises BackendError."""
        from . import protocol  # noqa: PLC0415

        endpoint, body = protocol.question(request.prompt, chat=server.chat)
        body |= protocol.sampling_fields(request.sampling, server.kind, "max_tokens")
        body["seed"] = request.key.stream(sample) % (1 << protocol.SEED_BITS)
        if n > 1:
            body["n"] = n
        answer = await self._ask(endpoint, body)
        return protocol.completions(answer, request.sampling.stop, chat=server.chat), protocol.usage(answer)

    async def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a body, which is given the model's name."""
        from .client import Rejected  # noqa: PLC0415
        from .probe import unknown_model  # noqa: PLC0415

        server = await self._server()
        body = {"model": server.model, **body}
        while True:
            sent = self._adapted(body)
            try:
                return await self._send("POST", path, sent)
            except Rejected as error:
                if not self._adapt(sent, error):
                    raise unknown_model(error, server) from error

    def _adapt(self, sent: dict[str, Any], error: Rejected) -> bool:
        """Whether the refusal is about the form of a field, which is then sent in another for good."""
        if error.status not in (400, 422):
            return False
        if "max_tokens" in sent and "max_completion_tokens" in str(error):
            self._limit = "max_completion_tokens"
            return True
        if "seed" in sent and not self.deterministic and "seed" in str(error):
            self._seeds = False
            return True
        return False

    def _adapted(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            self._limit if name == "max_tokens" else name: value
            for name, value in body.items()
            if name != "seed" or self._seeds
        }

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        root = self.base_url.removesuffix("/v1") if path.startswith("/") else f"{self.base_url}/"
        return await self._connected().send(method, root + path, body)

    def _connected(self) -> Client:
        from .client import Client, Limits  # noqa: PLC0415

        with self._lock:
            if self._client is None:
                limits = Limits(self.concurrency, self.timeout, self.patience, self.attempts)
                self._client = Client(limits, read_key(self.key_variable), self.clock, self._figures)
            return self._client

    async def _server(self) -> Server:
        """The server, asked once however many requests come first."""
        if self._known is not None:
            return self._known
        from .probe import find_out  # noqa: PLC0415

        with self._lock:
            turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with turn:
            if self._known is None:
                known = await find_out(self._send, self._asked_model, self.server, self.chat, self.score_by)
                self.model, self._known = known.model, known
            return self._known

    def _now(self) -> float:
        return self.clock.monotonic()  # a test may have changed the clock

    def _find_out(self) -> Server:
        """The same from synchronous code, whether a loop is running here or not."""
        return self._known or _apart(self._server)


def _apart(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end in a loop of its own, in a thread that ends with it, or with Ctrl-C."""
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Future[Result]]] = Future()

    async def run() -> Result:
        working = asyncio.ensure_future(work())
        begun.set_result((asyncio.get_running_loop(), working))
        return await working

    with ThreadPoolExecutor(1, thread_name_prefix="treeagent-openai") as thread:
        ending = thread.submit(lambda: asyncio.run(run()))
        try:
            return ending.result()
        finally:
            if not ending.done():
                loop, working = begun.result()
                loop.call_soon_threadsafe(working.cancel)
