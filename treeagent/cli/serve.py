"""``treeagent serve``: searches behind OpenAI's chat-completions protocol."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from .. import extras
from ..errors import ConfigError
from . import arguments
from .arguments import say
from .option_groups import BackendOptions, LimitOptions, RunOptions, with_option_groups

if TYPE_CHECKING:
    from ..server.served_models import ServedModels

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
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait for their turn; others get 429.")] = 64,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of the largest body; a larger one gets 413.")] = 1 << 20,
    keep: Annotated[
        int, typer.Option(min=0, help="Searches that the pages show; 0 keeps no input, prompt or reply.")
    ] = 20,
    quiet: arguments.Quiet = False,
) -> None:  # fmt: skip
    """Serve searches over HTTP: OpenAI's chat-completions protocol, with "task/search" as the model.

    Limits are the highest of a request, which may set lower ones. The first Ctrl-C or SIGTERM ends all searches with
    their best attempts.
    """
    extras.require("treeagent serve", "starlette", "uvicorn")
    token = _token(token_variable)
    if token is None and host not in LOOPBACK:
        raise ConfigError(
            f"--host {host}: other machines may reach this address, so clients need a token; put one into the "
            f"environment variable {TOKEN}"
        )
    arguments.reach_local_code(
        *(search or ()), backend.backend, evaluator, backend.evaluator_backend, allow_code=run.allow_code
    )
    from ..server.app import make_app
    from ..server.http_server import address, listen, own_names
    from ..server.http_server import serve as serve_app
    from ..server.search_queue import SearchQueue
    from ..server.search_service import SearchService

    budget = limits.budget()
    models = _models(task, search, evaluator, backend, run)
    service = SearchService(models, budget, SearchQueue(at_once, queue), keep)
    app = make_app(service, token=token, hosts=own_names(host) if host in LOOPBACK else None, most_bytes=max_body)
    listening = listen(host, port)

    async def work() -> None:
        if not quiet:
            say(f"loading {backend.label}")
        await service.load()
        try:
            if not quiet:
                _say_what_is_served(models, address(listening), with_token=token is not None)
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
) -> ServedModels:
    """An agent for each pair of a task and a search, all on the same backends. Raises ConfigError."""
    from .. import registry
    from ..server.agents import AgentMaker
    from ..server.served_models import open_models

    maker = AgentMaker(
        backend=backend.backend, model=backend.model, evaluator=evaluator, evaluator_model=backend.evaluator_model,
        evaluator_backend=backend.evaluator_backend, options=run.option_values(),
        load=run.load_task, more={"seed": run.seed, "legality": not run.no_legality, "speculate": run.speculate},
    )  # fmt: skip
    return open_models(
        tasks or registry.task_names(), searches or registry.names("search"), maker.agent,
        named=bool(tasks and searches),
    )  # fmt: skip


def _say_what_is_served(models: ServedModels, where: str, *, with_token: bool) -> None:
    names = models.names
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    say(f"serving {shown}")
    if models.left_out:
        say(f"{len(models.left_out)} pairs of a task and a search do not fit together and are left out")
    say(f"OpenAI's protocol at {where}/v1, searches in a browser at {where}/{'?token=...' if with_token else ''}")
    say("Ctrl-C ends the server.")
