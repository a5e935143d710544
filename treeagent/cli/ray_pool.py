"""The replicas of ``treeagent eval --workers ray``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..runtime.factory import shown_by_loading

if TYPE_CHECKING:
    from ..ray.pool import Pool
    from ..runtime.agent import Agent
    from ..taskfile.dataset import Data
    from .option_groups import BackendOptions, LimitOptions, ModelsOptions, RunOptions, SearchOptions

    Options = tuple[SearchOptions, BackendOptions, ModelsOptions, RunOptions, LimitOptions, str, bool]


def find_models(agent: Agent) -> None:
    """As :meth:`Agent.find_models`; what that loads is released, for replicas load their own.

    Where the settings name all that runs, this process needs no device.
    """
    if any(shown_by_loading(used) for used in agent.backends):
        agent.find_models()
        asyncio.run(agent.aclose())


@contextmanager
def loaded_replicas(
    workers: str, replicas: int, at_once: int, agent: Agent, options: Options, problems: Data, *, quiet: bool
) -> Iterator[Pool]:
    """Loaded replicas of the agent, ended with the context. Raises ConfigError, ModelError and MissingExtraError."""
    from ..display.board import StepBoard
    from ..ray.cluster import connection, parse
    from ..ray.pool import Pool

    build = partial(_build, options, agent.settings["backend"]["name"], problems)
    cpus, gpus = max(used.cpus for used in agent.backends), [used.gpus for used in agent.backends]
    with (
        connection(parse(workers)) as ray,
        closing(Pool(ray, build, replicas, cpus=cpus, gpus=gpus, at_once=-(-at_once // replicas))) as pool,
    ):
        waits = f", when there are {pool.shortage}" if pool.shortage else ""
        with StepBoard(quiet=quiet).step(f"loading replicas{waits}", replicas) as step:
            pool.load(step.advance)
        yield pool


def _build(options: Options, backend_name: str, problems: Data) -> tuple[Agent, Any]:
    """The agent in the process of a replica, and the problems."""
    from ..runtime.agent import Agent
    from . import arguments

    search, backend, models, run, limits, order, fsync = options
    names = (search.search, backend_name, search.evaluator, backend.evaluator_backend)
    names = (*names, *models.by_name()["backend_of"].values())
    arguments.reach_local_code(*names, allow_code=run.allow_code)
    agent = Agent(
        run.load_task(search.task), search.search, backend=backend_name, model=backend.model,
        evaluator=search.evaluator, evaluator_model=backend.evaluator_model,
        evaluator_backend=backend.evaluator_backend, **models.by_name(), options=run.option_values(), seed=run.seed,
        budget=limits.budget(), legality=not run.no_legality, allow_code=run.allow_code,
        speculate=run.speculate, order=order, fsync=fsync,
    )  # fmt: skip
    return agent, problems
