"""The replicas of ``treeagent eval --workers ray``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..runtime.factory import shown_by_loading

if TYPE_CHECKING:
    from ..ray.pool import Pool
    from ..runtime.agent import Agent
    from ..taskfile.dataset import Data
    from .agent_options import AgentOptions


def find_models(agent: Agent) -> None:
    """As :meth:`Agent.find_models`; what that loads is released, for replicas load their own.

    Where the settings name all that runs, this process needs no device.
    """
    if any(shown_by_loading(used) for used in agent.backends):
        agent.find_models()
        asyncio.run(agent.aclose())


@contextmanager
def loaded_replicas(
    workers: str, replicas: int, at_once: int, agent: Agent, options: AgentOptions, problems: Data, *, quiet: bool
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


def _build(options: AgentOptions, backend_name: str, problems: Data) -> tuple[Agent, Data]:
    """The agent in the process of a replica, and the problems."""
    replica = replace(options, backend=replace(options.backend, backend=backend_name))
    replica.check()
    return replica.make_agent(replica.load_task()), problems
