"""``treeagent serve``: searches behind OpenAI's chat-completions protocol."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from .. import extras
from ..errors import ConfigError
from . import arguments
from .arguments import say
from .option_groups import BackendOptions, LimitOptions, RunOptions, TraceOptions, with_option_groups

if TYPE_CHECKING:
    from ..runtime.budget import Budget
    from ..server.served_models import ServedModels
    from ..tracing import Tracing

TOKEN = "TREEAGENT_TOKEN"  # noqa: S105  the name of a variable
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@with_option_groups
def serve(
    *,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", "-t",
            help="A registered task, the path of a YAML file, or module:Class with --allow-code; repeatable. Default: "
            "all registered tasks.",
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search", "-s", help="A registered search, or module:Class; repeatable. Default: all registered searches."
        ),
    ] = None,
    evaluator: arguments.EvaluatorName = None,
    backend: BackendOptions,
    run: RunOptions,
    limits: LimitOptions,
    mcp: Annotated[
        bool,
        typer.Option(
            "--mcp",
            help="Offer solve and evaluate as tools of the Model Context Protocol on standard input and output, not "
            "over HTTP.",
        ),
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    token_variable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Environment variable with the token that clients must send. Default: {TOKEN}, where it is set.",
        ),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Searches that run at a time.")] = 16,
    order: arguments.Order = "arrival",
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait for their turn; others get 429.")] = 64,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of the largest body; a larger one gets 413.")] = 1 << 20,
    keep: Annotated[
        int, typer.Option(min=0, help="Searches that the pages show; 0 keeps no input, prompt or reply.")
    ] = 20,
    trace: TraceOptions,
    quiet: arguments.Quiet = False,
) -> None:  # fmt: skip
    """Serve searches over HTTP: OpenAI's chat-completions protocol, with "task/search" as the model.

    With --mcp they are tools of a server that a client starts as a process; the options of HTTP are then without
    effect.

    Limits are the highest of a request, which may set lower ones. The first Ctrl-C or SIGTERM ends all searches with
    their best attempts.
    """
    if mcp:
        extras.require("option --mcp", "mcp")
    else:
        extras.require("treeagent serve", "starlette", "uvicorn")
    token = None if mcp else _token(token_variable)
    if token is None and not mcp and host not in LOOPBACK:
        raise ConfigError(
            f"--host {host}: other machines may reach this address, so clients need a token; put one into the "
            f"environment variable {TOKEN}"
        )
    arguments.reach_local_code(
        *(search or ()), backend.backend, evaluator, backend.evaluator_backend, allow_code=run.allow_code
    )
    budget = limits.budget()
    with trace.tracing() as tracing:
        models = _models(task, search, evaluator, backend, run, order, tracing)
        if mcp:
            from ..server.mcp_stdio import serve_searches

            _say_what_is_left_out(models, quiet=quiet)
            asyncio.run(serve_searches(models, budget, at_once))
        else:
            http = HttpOptions(host, port, token, at_once, queue, max_body, keep)
            _serve_http(models, budget, http, backend.label, quiet=quiet)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where and how a server listens, and how much it takes."""

    host: str
    port: int
    token: str | None
    at_once: int
    queue: int
    max_body: int
    keep: int


def _serve_http(models: ServedModels, budget: Budget, http: HttpOptions, label: str, *, quiet: bool) -> None:
    from ..server.app import make_app
    from ..server.http_server import address, listen, own_names
    from ..server.http_server import serve as serve_app
    from ..server.search_queue import SearchQueue
    from ..server.search_service import SearchService

    service = SearchService(models, budget, SearchQueue(http.at_once, http.queue), http.keep)
    hosts = own_names(http.host) if http.host in LOOPBACK else None
    app = make_app(service, token=http.token, hosts=hosts, most_bytes=http.max_body)
    listening = listen(http.host, http.port)

    async def work() -> None:
        if not quiet:
            say(f"loading {label}")
        await service.load()
        try:
            if not quiet:
                _say_what_is_served(models, address(listening), with_token=http.token is not None)
            await serve_app(app, listening, service.close)
        finally:
            await service.aclose()

    with listening:
        asyncio.run(work())


def _token(variable: str | None) -> str | None:
    """The token of the clients; None where there is none. Raises ConfigError."""
    token = os.environ.get(variable or TOKEN, "")
    if variable is not None and not token:
        raise ConfigError(f"--token-variable: the environment variable {variable} is not set, or empty")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"the token in the environment variable {variable or TOKEN} has more than ASCII letters")
    return token or None


def _models(
    tasks: list[str] | None,
    searches: list[str] | None,
    evaluator: str | None,
    backend: BackendOptions,
    run: RunOptions,
    order: str,
    tracing: Tracing | None,
) -> ServedModels:
    """An agent for each pair of a task and a search, all on the same backends. Raises ConfigError."""
    from .. import registry
    from ..server.agents import AgentMaker
    from ..server.served_models import open_models

    maker = AgentMaker(
        backend=backend.backend, model=backend.model, evaluator=evaluator, evaluator_model=backend.evaluator_model,
        evaluator_backend=backend.evaluator_backend, options=run.option_values(),
        load=run.load_task,
        more={"seed": run.seed, "legality": not run.no_legality, "speculate": run.speculate, "order": order},
    )  # fmt: skip
    return open_models(
        tasks or registry.task_names(), searches or registry.names("search"),
        lambda task, search: maker.agent(task, search).with_tracing(tracing), named=bool(tasks and searches),
    )  # fmt: skip


def _say_what_is_served(models: ServedModels, where: str, *, with_token: bool) -> None:
    names = models.names
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    say(f"serving {shown}")
    _say_what_is_left_out(models, quiet=False)
    say(f"OpenAI's protocol at {where}/v1, searches in a browser at {where}/{'?token=...' if with_token else ''}")
    say("Ctrl-C ends the server.")


def _say_what_is_left_out(models: ServedModels, *, quiet: bool) -> None:
    if models.left_out and not quiet:
        say(f"{len(models.left_out)} pairs of a task and a search do not fit together and are left out")
