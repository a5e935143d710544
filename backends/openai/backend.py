"""Backend ``openai``: sends requests to a server that speaks OpenAI's protocol.

vLLM, SGLang, llama.cpp, Ollama and hosted models accept, report and count differently; see :mod:`.server_kinds`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from treeagent import aio, extras
from treeagent.backend import Backend
from treeagent.errors import BackendError
from treeagent.options import as_json, read_options
from treeagent.process_fork import ForkSafeLock
from treeagent.reasoning import DEFAULT_MARKS, Thinking
from treeagent.reply import Completion, OnText, Reply, Scores, Usage
from treeagent.request import Request, RewardRequest, ScoreRequest

from .loop_thread import run_in_thread
from .metrics import ClientMetrics
from .options import check, checked_url, is_azure, read_key
from .outbox import deliver
from .retry import RetryClock
from .slots import Urgencies

if TYPE_CHECKING:
    from .client import Arrived, Client
    from .dialect import RequestDialect
    from .probe import Server
    from .protocol import Answer
    from .tokens import TokenCache

PUBLIC = "https://api.openai.com/v1"
BASE_URL = "OPENAI_BASE_URL"


class OpenAIBackend(Backend):
    """Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, hosted models.

    The key is read from the environment variable that ``key_variable`` names and is never written. The backend asks the
    server for what the options leave open (model, kind of server, chat, scoring) before the first request. Raises
    ConfigError for a wrong option, and MissingExtraError where httpx or tenacity is not installed.
    """

    name = "openai"
    options: ClassVar[dict[str, type]] = {
        "base_url": str, "key_variable": str, "key_header": str, "query": str, "server": str, "chat": bool,
        "thinking": str, "stop_strings": str, "score": str, "top_logprobs": int, "deterministic": bool,
        "concurrency": int, "timeout": float, "patience": float, "attempts": int, "price_in": float, "price_out": float,
    }  # fmt: skip
    """Options of :meth:`open` with their types."""

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        key_variable: str | None = None,
        key_header: str | None = None,
        query: str | None = None,
        server: str | None = None,
        chat: bool | None = None,
        thinking: str = DEFAULT_MARKS,
        stop_strings: str = "auto",
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
        self.key_variable, self.key_header, self.query = key_variable, key_header, query
        self.server, self.chat, self.score_by = server, chat, score
        self.thinking, self.stop_strings = thinking, stop_strings
        self.top_logprobs, self.deterministic, self.concurrency = top_logprobs, deterministic, concurrency
        self.timeout, self.patience, self.attempts = timeout, patience, attempts
        self.price_in, self.price_out = price_in, price_out
        check(self)
        self.price = None if price_in is None or price_out is None else (price_in / 1e6, price_out / 1e6)
        self.clock = RetryClock()
        self._requested_model = model
        self._metrics = ClientMetrics(lambda: self.clock.monotonic())  # noqa: PLW0108  # tests replace the clock
        self._lock = ForkSafeLock()
        self._client: Client | None = None
        self._server_info: Server | None = None
        self._probe_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._separate_samples = deterministic  # one request for each sample
        self._urgencies = Urgencies()
        self._dialect: RequestDialect | None = None
        self._label_tokens: TokenCache | None = None

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> OpenAIBackend:
        """Open with options from the command line. Raises ConfigError for an unknown or misformed option."""
        return cls(model, **read_options(cls.name, cls.options, options))

    @classmethod
    def guarded_options(cls) -> dict[str, Any]:
        """The server's address and the name of the key's variable."""
        return {"base_url": checked_url(os.environ.get(BASE_URL) or PUBLIC), "key_variable": None}

    def describe(self) -> dict[str, Any]:
        """Name, model and options for :meth:`open`; the model is None until :meth:`load` where none was named."""
        values = {option: getattr(self, "score_by" if option == "score" else option) for option in self.options}
        left_out = {"thinking": DEFAULT_MARKS, "stop_strings": "auto"}.items()  # as in journals from before these
        options = {name: value for name, value in values.items() if (name, value) not in left_out}
        return {"name": self.name, "model": self.model, "options": as_json(options)}

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # depends on the server
        """Asks the server for what the options leave open. Raises BackendError."""
        server = self._probe()
        return self._offered(score=server.score != "none", chat=server.chat, rewards=server.kind.name == "vllm")

    @property
    def possible_capabilities(self) -> frozenset[str]:
        """Those that the options do not exclude; asks nothing."""
        return self._offered(score=self.score_by != "none", chat=self.chat is not False, rewards=True)

    def _offered(self, *, score: bool, chat: bool, rewards: bool) -> frozenset[str]:
        given = {"score": score, "chat": chat, "thinking_budget": chat, "rewards": rewards, "seed": self.deterministic}
        return frozenset({"generate", "extra_body", "constraints", *(name for name, there in given.items() if there)})

    def load(self) -> None:
        """Ask the server for what the options leave open. Raises BackendError."""
        self._probe()

    async def aload(self) -> None:
        """As :meth:`load`; the requests end when it is cancelled."""
        await self._server()

    def prompt_copies(self, request: Request | ScoreRequest) -> int:
        """Number of times that the server counts the prompt: once for each separate sample or echoed continuation."""
        known = self._server_info
        if isinstance(request, ScoreRequest):
            return len(request.continuations) + 1 if known is None or known.score == "echo" else 1
        shared = known is not None and known.kind.name in ("vllm", "sglang") and not self._separate_samples
        return 1 if shared or request.sampling.temperature == 0 else request.n

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Meter requests over HTTP, retries, seconds waited for rate limits, tokens per second, latencies."""
        return self._metrics.meter()

    async def aclose(self) -> None:
        """Close the connections of this event loop, which otherwise close with the loop."""
        if self._client is not None:
            await self._client.aclose()

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        with self._urgencies.serving(request):
            return await self._complete(request, None)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As :meth:`generate`, with the server's events; a server that sends none is asked for whole replies."""
        with self._urgencies.serving(request):
            return await deliver(lambda keep: self._complete(request, keep), on_text)

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """See :meth:`treeagent.Backend.raise_priority`."""
        self._urgencies.raise_priority(request)

    async def _complete(self, request: Request, on_text: OnText | None) -> Reply:
        if request.n < 1:
            raise BackendError(f"a request must ask for at least 1 completion, not {request.n}")
        from .draw_plan import DrawPlan, draw  # noqa: PLC0415  # httpx is imported with it

        server = await self._server()
        dialect = self._request_dialect() if self.stop_strings == "auto" else None
        # All greedy samples are equal; vLLM refuses to draw two of them.
        count = request.n if request.sampling.temperature > 0 else 1
        samples: list[Completion] = []
        costs: list[Usage] = []
        one_request = count > 1 and server.kind.samples_together and not self._separate_samples
        if one_request:
            samples, cost = await draw(request, server, self._post, DrawPlan(count, 0, on_text), dialect)
            costs.append(cost)
        rest = range(len(samples), count)
        for drawn, cost in await aio.gather(
            draw(request, server, self._post, DrawPlan(1, sample, on_text), dialect) for sample in rest
        ):
            samples += drawn[:1]
            costs.append(cost)
        if one_request and rest:
            self._separate_samples = True  # the server ignores or refuses n
        total = sum(costs, Usage())
        self._metrics.add_tokens(total.completion_tokens)
        copies = request.n if count < request.n else 1
        return Reply(tuple((samples * copies)[: request.n]), replace(total, calls=1))

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations where the server reports log-probabilities. Raises BackendError."""
        from .logprobs import score  # noqa: PLC0415  # httpx is imported with it
        from .rewards import rewards  # noqa: PLC0415
        from .tokens import TokenCache  # noqa: PLC0415

        server = await self._server()
        if server.score == "none" and not isinstance(request, RewardRequest):
            return await super().score(request)
        self._label_tokens = self._label_tokens or TokenCache()
        tops = self.top_logprobs or server.kind.top_logprobs
        with self._urgencies.serving(request):
            if isinstance(request, RewardRequest):
                return await rewards(request, self._ask, chat=self.chat is not False)
            scores, missing = await score(request, server, tops, self._ask, self._label_tokens)
        self._metrics.count("labels_out_of_reach", missing)
        return scores

    async def _ask(self, path: str, body: dict[str, Any]) -> Answer:
        """Send a body with the model's name and return the reply. Raises BackendError."""
        return (await self._post(path, body))[0]

    async def _post(
        self, path: str, body: dict[str, Any], role: str | None = None, arrived: Arrived | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        """The reply to a body with the model's name, and the body as the server takes it. Raises BackendError."""
        from .answers import Rejected  # noqa: PLC0415
        from .dialect import sampling_advice  # noqa: PLC0415
        from .event_stream import FIELDS  # noqa: PLC0415
        from .probe import with_model_names  # noqa: PLC0415

        server, dialect = await self._server(), self._request_dialect()
        body = {"model": server.model, **body, **(FIELDS if arrived else {})}
        while True:
            adapted = dialect.adapted(body)
            try:
                answer = await self._send("POST", path, adapted, arrived if "stream" in adapted else None)
                if "stream" in adapted and "usage" not in answer.data:
                    dialect.keep_whole()  # a budget needs token counts
                return answer, adapted
            except Rejected as error:
                if dialect.learn(adapted, error):
                    continue
                if role is not None and (advice := sampling_advice(adapted, error, role)):
                    raise BackendError(f"{str(error).rstrip('.')}.{advice}") from error
                raise with_model_names(error, server) from error

    def _request_dialect(self) -> RequestDialect:
        from .dialect import RequestDialect  # noqa: PLC0415

        with self._lock:
            if self._dialect is None:
                self._dialect = RequestDialect(keeps_seed=self.deterministic, sends_stop=self.stop_strings != "client")
            return self._dialect

    async def _send(
        self, method: str, path: str, body: dict[str, Any] | None, arrived: Arrived | None = None
    ) -> Answer:
        from .protocol import Answer  # noqa: PLC0415

        root = self.base_url.removesuffix("/v1") if path.startswith("/") else f"{self.base_url}/"
        return Answer(await self._connected().send(method, root + path, body, arrived), root + path)

    def _connected(self) -> Client:
        from .answers import Credentials  # noqa: PLC0415
        from .attempts import ClientLimits  # noqa: PLC0415
        from .client import Client  # noqa: PLC0415

        with self._lock:
            if self._client is None:
                limits = ClientLimits(self.concurrency, self.timeout, self.patience, self.attempts)
                credentials = Credentials(read_key(self.key_variable), self.key_header, self.query)
                self._client = Client(limits, credentials, self.clock, self._metrics)
            return self._client

    async def _server(self) -> Server:
        """The server, probed once even if several requests begin together."""
        if self._server_info is not None:
            return self._server_info
        from .probe import Declared, probe_server  # noqa: PLC0415

        with self._lock:
            lock = self._probe_locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            if self._server_info is None:
                declared = Declared(
                    self._requested_model, self.server, self.chat, self.score_by, Thinking.parse(self.thinking),
                    lists_models=not is_azure(self.base_url),
                )  # fmt: skip
                server = await probe_server(self._send, declared)
                if server.thinks and self.stop_strings == "auto":
                    self._request_dialect().keep_stop()
                self.model, self._server_info = server.model, server
            return self._server_info

    def _probe(self) -> Server:
        """The server, from synchronous code, with or without a running event loop."""
        return self._server_info or run_in_thread(self._server)
