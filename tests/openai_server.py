"""A server on this machine that speaks OpenAI's protocol, well or badly, and time that passes when a test says so."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from treeagent.backends.openai.retry import RetryClock


@dataclass(slots=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    left: threading.Event = field(default_factory=threading.Event)
    """Set when the client closes the connection before it has the answer."""


@dataclass(slots=True)
class Answer:
    """What the server sends; ``cut`` bytes of it, after which it closes the connection, or nothing at all."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    never: bool = False

    def encoded(self) -> bytes:
        """The whole of it."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {self.status} Said so\r\n{head}\r\n".encode() + body


Handler = Callable[[Asked], Answer]


class Server:
    """Answers with what a function returns; listens in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.arrived = threading.Event()
        """Set by each request."""
        self.live = 0
        """Requests being answered, and the most there were."""
        self.most = 0
        self.connections = 0
        """Open ones."""
        self.gate: Callable[[Asked], Awaitable[None]] | None = None
        """Awaited in the server's loop before each answer."""
        self.url = ""
        self.loop: asyncio.AbstractEventLoop

    @property
    def bodies(self) -> list[Any]:
        """Of the requests for completions."""
        return [asked.body for asked in self.asked if asked.path.endswith("completions")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(method, path, headers, json.loads(body) if body else None)
        self.asked.append(asked)
        self.live += 1
        self.most = max(self.most, self.live)
        self.arrived.set()
        try:
            if self.gate is not None:
                await self.gate(asked)
            answer = self.handler(asked)
            if answer.never:
                if not await reader.read(1):
                    asked.left.set()
                return False
            writer.write(answer.encoded()[: answer.cut])
            await writer.drain()
        finally:
            self.live -= 1
        return answer.cut is None

    async def _listen(self, ready: Future[asyncio.Event]) -> None:
        """Until the event that ``ready`` gets is set; asyncio.run ends what is still being answered."""
        stop = asyncio.Event()
        made = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}/v1"
        self.loop = asyncio.get_running_loop()
        ready.set_result(stop)
        await stop.wait()
        made.close()

    @contextmanager
    def listening(self) -> Iterator[Server]:
        """On a free port of this machine; ``url`` is the API's base."""
        ready: Future[asyncio.Event] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._listen(ready)), name="test-server", daemon=True)
        thread.start()
        stop = ready.result()
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(stop.set)
            thread.join()


def error(status: int, message: str, **headers: str) -> Answer:
    """A refusal as OpenAI writes it."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error": {"message": message, "type": "x", "code": None}}, status, sent)


def events(reply: dict[str, Any], *, cut: int | None = None, done: bool = True, size: int = 3) -> Answer:
    """A reply as a stream: pieces of ``size`` characters of all choices in turn, then ends, usage and ``[DONE]``.

    Only the first ``cut`` events are sent where it is given.
    """
    chat = "message" in reply["choices"][0]
    parts: list[dict[str, Any]] = []
    texts = {one["index"]: one["message"]["content"] if chat else one["text"] for one in reply["choices"]}
    for at in range(0, max(map(len, texts.values())), size):
        for index, text in texts.items():
            piece = text[at : at + size]
            parts.append({"index": index, **({"delta": {"content": piece}} if chat else {"text": piece})})
    for one in reply["choices"]:
        end = {"delta": {}} if chat else {"text": ""}
        parts.append({"index": one["index"], **end, "finish_reason": one["finish_reason"]})
    lines = [json.dumps({"choices": [part], "usage": None}) for part in parts]
    if "usage" in reply:
        lines.append(json.dumps({"choices": [], "usage": reply["usage"]}))
    lines += ["[DONE]"] * done
    body = "".join(f": ping\n\ndata: {line}\r\n\r\n" for line in lines[:cut])
    return Answer(body.encode(), headers={"content-type": "text/event-stream; charset=utf-8"})


WORDS = ("sure", "likely", "impossible", "4", "steps", "+")


Listen = Callable[[Handler], Server]
"""The fixture ``listen``: starts a server that ends with the test."""


class Model:
    """A made-up model behind an API: texts are a function of prompt and seed, words are tokens."""

    def __init__(
        self, owner: str = "vllm", *, chat: bool = True, completions: bool = True, echo: bool = True, n: bool = True,
        usage: bool = True, logprobs: bool = True, streams: bool = True, models: tuple[str, ...] = ("toy",),
    ) -> None:  # fmt: skip
        self.owner, self.models = owner, models
        self.chat, self.completions, self.echo = chat, completions, echo
        self.n, self.usage, self.logprobs, self.streams = n, usage, logprobs, streams

    def __call__(self, asked: Asked) -> Answer:
        """The answer of a healthy server."""
        if asked.path == "/v1/models":
            return Answer({"data": [{"id": name, "owned_by": self.owner} for name in self.models]})
        if asked.path == "/tokenize" and self.owner in ("vllm", "llamacpp"):
            return Answer({"tokens": self.ids(asked.body)})
        if asked.path == "/apply-template" and self.owner == "llamacpp":
            return Answer({"prompt": f"<user> {asked.body['messages'][0]['content']} <model> "})
        if asked.path == "/v1/chat/completions" and self.chat:
            return self.complete(asked.body, asked.body["messages"][0]["content"])
        if asked.path == "/v1/completions" and self.completions:
            if asked.body.get("echo") and not self.echo:
                return error(400, "echo is not supported")
            return self.complete(asked.body, asked.body["prompt"])
        return error(404, f"no {asked.path} here")

    def ids(self, body: dict[str, Any]) -> list[int]:
        """Of each word its letters' sum."""
        text = body.get("prompt") or body.get("content") or f"<user> {body['messages'][0]['content']} <model>"
        return [sum(map(ord, word)) for word in text.split()] or [1]

    def complete(self, body: dict[str, Any], prompt: Any) -> Answer:
        """``n`` choices, or one, with what is asked for and there."""
        if body["model"] not in self.models:
            return error(404, f"The model `{body['model']}` does not exist.")
        chat, rows = "messages" in body, prompt if isinstance(prompt, list) and body.get("echo") else [prompt]
        choices = []
        for row in rows:
            for sample in range(body.get("n", 1) if self.n else 1):
                text = self.text(row, body, sample)
                choice: dict[str, Any] = {"index": len(choices), "finish_reason": "length"}
                choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
                if body.get("logprobs") and self.logprobs:
                    choice["logprobs"] = self.told(row, body, chat=chat)
                choices.append(choice)
        answer: dict[str, Any] = {"choices": choices[::-1]}  # no order is promised
        if self.usage:
            words = sum(len(row) if isinstance(row, list) else len(row.split()) for row in rows)
            answer["usage"] = {"prompt_tokens": max(1, words), "completion_tokens": body["max_tokens"] * len(choices)}
        if body.get("stream") and self.streams:
            return events(answer)
        return Answer(answer)

    def text(self, prompt: Any, body: dict[str, Any], sample: int) -> str:
        """Stop strings are for the client to find."""
        draw = random.Random(f"{prompt} {body.get('seed')} {sample}")
        return " ".join(draw.choice(WORDS) for _ in range(body["max_tokens"]))

    def told(self, prompt: Any, body: dict[str, Any], *, chat: bool) -> dict[str, Any]:
        """Log-probabilities: -1, -2 ... for :data:`WORDS`; -0.5 for each word of an echoed prompt."""
        listed = {word if chat else f" {word}": -1.0 - place for place, word in enumerate(WORDS)}
        if chat or self.owner == "llamacpp":
            tops = [{"token": word, "id": sum(map(ord, word.strip())), "logprob": p} for word, p in listed.items()]
            return {"content": [{**tops[0], "top_logprobs": tops[: body.get("top_logprobs", body["logprobs"])]}]}
        words = len(prompt) if isinstance(prompt, list) else len(prompt.split())
        if body.get("echo"):
            return {"token_logprobs": [None, *[-0.5] * (words - 1), -9.0], "top_logprobs": None}
        return {"token_logprobs": [-1.0], "top_logprobs": [dict(list(listed.items())[: body["logprobs"]])]}


class Time:
    """A clock that a sleep moves on; what was slept is kept."""

    def __init__(self) -> None:
        self.at, self.slept = 1000.0, list[float]()
        self.limits: list[float] = []

    async def move_on(self, seconds: float) -> None:
        """At once."""
        self.slept.append(seconds)
        self.at += seconds

    async def within(self, work: Awaitable[Any], seconds: float) -> Any:
        """Without a limit, which is kept."""
        self.limits.append(seconds)
        return await work

    def clock(self, **changes: Any) -> RetryClock:
        """The smallest jitter; the date is 2026-01-01 at the start."""
        parts = {"monotonic": lambda: self.at, "now": lambda: 1767225600 + self.at - 1000, "sleep": self.move_on}
        return RetryClock(**{**parts, "within": self.within, "chance": lambda: 0.0, **changes})
