"""Fuzz targets that are programs: requests to engines, replies of servers, arguments of the command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from mutations import TEXTS, mutated_bytes, mutated_value, pieces

from treeagent.backend import Backend
from treeagent.errors import TreeagentError
from treeagent.reply import Reply, Scores
from treeagent.request import Key, Request, Sampling, ScoreRequest

WORDS = ("Numbers: 4 5 6 10", "steps", "sure", "abc", "xyz", "left: 24", "\n", " ")


@cache
def engines() -> tuple[Backend, Backend]:
    """A tiny model in the backends ``transformers`` and ``seed``; its folder stays until the process ends."""
    from tiny_model import save_tiny_model

    from treeagent.backends.seed.backend import SeedBackend
    from treeagent.backends.transformers.backend import TransformersBackend

    folder = save_tiny_model(Path(_KEPT.enter_context(tempfile.TemporaryDirectory())))
    return (
        TransformersBackend(str(folder), device="cpu", dtype="float64"),
        SeedBackend(str(folder), device="cpu", dtype="float64"),
    )


_KEPT = contextlib.ExitStack()


def request_case(draw: random.Random, folder: Path) -> None:
    """Odd requests, several at once, are answered alike by both local backends, or refused by both."""
    requests = [_request(draw, place) for place in range(draw.randint(1, 4))]
    plain, seed = (asyncio.run(_answers(backend, requests)) for backend in engines())
    for request, one, other in zip(requests, plain, seed, strict=True):
        if isinstance(one, TreeagentError) or isinstance(other, TreeagentError):
            assert isinstance(one, TreeagentError) == isinstance(other, TreeagentError), (request, one, other)
        elif isinstance(one, Reply):
            assert isinstance(other, Reply)
            assert [each.text for each in one.completions] == [each.text for each in other.completions], request
        else:
            assert isinstance(one, Scores) and isinstance(other, Scores)  # noqa: PT018
            assert one.lengths == other.lengths


async def _answers(backend: Backend, requests: list[Request | ScoreRequest]) -> list[Any]:
    calls = [
        backend.generate(request) if isinstance(request, Request) else backend.score(request) for request in requests
    ]
    answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, TreeagentError):
            raise answer
    return answers


def _request(draw: random.Random, place: int) -> Request | ScoreRequest:
    prompt = pieces(draw, WORDS, 5)[: draw.choice((40, 200, 3000))]
    if draw.random() < 0.2:
        return ScoreRequest(prompt, tuple(pieces(draw, WORDS, 2)[:60] for _ in range(draw.randint(0, 3))))
    sampling = Sampling(
        temperature=draw.choice((0.0, 0.0, 0.7, 1.0, 1e-9, 1e9)),
        top_k=draw.choice((None, None, 1, 5, 10**6)),
        top_p=draw.choice((None, None, 0.9, 1e-12, 1.0)),
        min_p=draw.choice((None, None, 0.1, 1.0)),
        max_tokens=draw.choice((1, 2, 4, 12) * 12 + (40, 300)),
        stop=tuple(draw.choice((*WORDS, *TEXTS[:20])) for _ in range(draw.choice((0, 0, 1, 6)))),
    )
    return Request(prompt, Key(draw.choice((0, 2**63)), "propose", str(place)), sampling, draw.choice((1, 1, 2, 5)))


class Service:
    """A server of OpenAI's protocol whose next answers are mutated, and backends for it."""

    def __init__(self) -> None:
        from openai_server import Model, Server

        self.draw = random.Random(0)
        self.model = Model()
        self.server = _KEPT.enter_context(Server(self._answer).listening())

    def _answer(self, asked: Any) -> Any:
        answer, draw = self.model(asked), self.draw
        act = draw.randrange(6)
        if act == 0:
            answer.body = mutated_bytes(draw, answer.encoded().split(b"\r\n\r\n", 1)[1])
        elif act == 1:
            answer.cut = draw.randrange(len(answer.encoded()))
        elif act == 2:
            answer.status = draw.choice((200, 201, 204, 302, 400, 401, 404, 429, 500, 503, 600, 99))
        elif act == 3:
            name = draw.choice(("content-type", "content-length", "content-encoding", "retry-after", "location"))
            answer.headers[name] = draw.choice(("", "gzip", "0", "-1", "99999", "text/html; charset=x", "br", "1e400"))
        else:
            answer.body = mutated_value(draw, answer.body)
        return answer


@cache
def service() -> Service:
    """Listens until the process ends."""
    return Service()


def reply_case(draw: random.Random, folder: Path) -> None:
    """A mutated reply of a server is a clean reply or an error of the hierarchy."""
    from openai_server import Time

    from treeagent.backends.openai.backend import OpenAIBackend
    from treeagent.backends.openai.retry import RetryClock

    running = service()
    running.draw = draw
    options: dict[str, Any] = draw.choice(
        ({"server": "vllm", "chat": True, "score": "none"}, {"server": "vllm", "chat": False, "score": "echo"}, {})
    )
    backend = OpenAIBackend("toy", base_url=running.server.url, attempts=2, timeout=0.5, **options)
    backend.clock = Time().clock(within=RetryClock().within)  # waits for the server are real and short
    sampling = Sampling(temperature=0.7, max_tokens=4, stop=("x",))
    request = Request("Numbers: 4 5", Key(1, "propose", "0"), sampling, draw.choice((1, 3)))

    async def ask() -> None:
        try:
            await asyncio.to_thread(backend.load)
            reply = await backend.generate(request)
            for each in reply.completions:
                each.text.encode()
                assert each.finish in ("stop", "length", "refused")
            if "score" in backend.capabilities:
                scores = await backend.score(ScoreRequest("Numbers: 4 5", (" sure", " likely")))
                assert len(scores.logprobs) == 2
        finally:
            await backend.aclose()

    asyncio.run(ask())


COMMANDS = (
    ["solve", "--task", "game24", "--input", "4 5 6 10", "--backend", "scripted", "--model", "rules.yaml"],
    ["eval", "--task", "game24", "--limit", "2", "--backend", "scripted", "--model", "rules.yaml", "--out", "out"],
    ["tasks", "show", "game24"],
    ["tasks", "validate", "task.yaml"],
    ["export", "run.jsonl", "--format", "json"],
    ["resume", "run.jsonl"],
    ["view", "run.jsonl", "--no-open"],
    ["models", "list"],
    ["compare", "--task", "game24", "--input", "4 5 6 10", "--a", "scripted", "--b", "scripted"],
)
SWITCHES = (
    "--search", "bfs", "mcts", "--set", "beam=2", "backend.x=1", "evaluator.samples=0", "--max-calls", "3", "--seed",
    "--json", "--quiet", "--evaluator", "value", "vote", "--max-seconds", "nan", "inf", "--max-dollars", "1e400",
    "--var", "target=24", "--journal", "j.jsonl", "--no-legality", "--limit", "--help", "--", "-", "@", "1:2",
)  # fmt: skip


def argument_case(draw: random.Random, folder: Path) -> None:
    """Mutated arguments end with a documented exit code and no traceback."""
    from typer.testing import CliRunner

    from treeagent.cli import app
    from treeagent.cli.arguments import EXIT_CODES

    (folder / "rules.yaml").write_text("- {match: ., text: sure}\n")
    (folder / "task.yaml").write_bytes(mutated_bytes(draw, b"name: a\ndepth: 1\n"))
    (folder / "run.jsonl").write_bytes(b'{"type": "run", "t": 0}\n')
    words = list(draw.choice(COMMANDS))
    for _ in range(draw.randint(1, 4)):
        act, at = draw.randrange(3), draw.randint(1, len(words))
        if act == 0:
            words.insert(at, draw.choice(SWITCHES))
        elif act == 1 and at < len(words):
            words[at] = draw.choice((*SWITCHES, *TEXTS[:40]))
        elif at < len(words):
            del words[at]
    if any(word in ("seed", "transformers", "openai") for word in words):
        return
    if not any(word == "scripted" for word in words) and words[0] in ("solve", "eval", "compare"):
        return  # the default backend would load a model
    words = [word.replace("\x00", "") for word in words]
    typed = pieces(draw, ("4 5 6 10",), 3).encode("utf-8", "surrogatepass")
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(app, words, input=typed)
    finally:
        os.chdir(before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in EXIT_CODES, (words, result.exit_code)
    assert "Traceback" not in result.output
