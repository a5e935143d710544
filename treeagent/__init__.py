"""Language models that reason by tree search, fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Agent": "runtime.agent",
    "Backend": "backend",
    "Budget": "runtime.budget",
    "Checker": "checker",
    "Completion": "backend",
    "ConfigError": "errors",
    "BackendError": "errors",
    "CapabilityError": "errors",
    "Evaluator": "evaluator",
    "Event": "runtime.journal",
    "Explorer": "search",
    "InputError": "errors",
    "Journal": "runtime.journal",
    "JournalError": "errors",
    "Judgement": "thought",
    "Key": "backend",
    "ModelError": "errors",
    "NotRecordedError": "errors",
    "ProposedStep": "task",
    "Reply": "backend",
    "Request": "backend",
    "Result": "runtime.result",
    "Round": "backend",
    "Run": "runtime.run",
    "Sampling": "backend",
    "ScoreRequest": "backend",
    "Scores": "backend",
    "Search": "search",
    "Task": "task",
    "Thought": "thought",
    "Tree": "thought",
    "TreeagentError": "errors",
    "UnknownNameError": "errors",
    "Usage": "backend",
    "YamlTask": "taskfile.yaml_task",
    "ranked": "thought",
}
"""Public names and the module each lives in; imported on first use, so that ``import treeagent`` stays light."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  all strings


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'treeagent' has no attribute {name!r}")


if TYPE_CHECKING:
    from .backend import Backend as Backend  # fmt: skip
    from .backend import Completion as Completion
    from .backend import Key as Key
    from .backend import Reply as Reply
    from .backend import Request as Request
    from .backend import Round as Round
    from .backend import Sampling as Sampling
    from .backend import ScoreRequest as ScoreRequest
    from .backend import Scores as Scores
    from .backend import Usage as Usage
    from .checker import Checker as Checker
    from .errors import BackendError as BackendError  # fmt: skip
    from .errors import CapabilityError as CapabilityError
    from .errors import ConfigError as ConfigError
    from .errors import InputError as InputError
    from .errors import JournalError as JournalError
    from .errors import ModelError as ModelError
    from .errors import NotRecordedError as NotRecordedError
    from .errors import TreeagentError as TreeagentError
    from .errors import UnknownNameError as UnknownNameError
    from .evaluator import Evaluator as Evaluator
    from .runtime.agent import Agent as Agent
    from .runtime.budget import Budget as Budget
    from .runtime.journal import Event as Event
    from .runtime.journal import Journal as Journal
    from .runtime.result import Result as Result
    from .runtime.run import Run as Run
    from .search import Explorer as Explorer
    from .search import Search as Search
    from .task import ProposedStep as ProposedStep
    from .task import Task as Task
    from .taskfile.yaml_task import YamlTask as YamlTask
    from .thought import Judgement as Judgement
    from .thought import Thought as Thought
    from .thought import Tree as Tree
    from .thought import ranked as ranked
