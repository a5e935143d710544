"""Language models that reason by tree search, fast."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agent",
    "Backend": "backend",
    "Budget": "budget",
    "Checker": "checker",
    "Completion": "backend",
    "ConfigError": "errors",
    "BackendError": "errors",
    "CapabilityError": "errors",
    "Evaluator": "evaluator",
    "Event": "journal",
    "Explorer": "explorer",
    "InputError": "errors",
    "Journal": "journal",
    "JournalError": "errors",
    "Judgement": "thought",
    "Key": "backend",
    "ModelError": "errors",
    "NotRecordedError": "errors",
    "Reply": "backend",
    "Request": "backend",
    "Result": "agent",
    "Run": "agent",
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
    "ranked": "explorer",
}
"""Public names and the module each lives in; imported on first use, so that ``import treeagent`` stays light."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  all strings


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'treeagent' has no attribute {name!r}")


if TYPE_CHECKING:
    from .agent import Agent as Agent, Result as Result, Run as Run
    from .backend import (
        Backend as Backend, Completion as Completion, Key as Key, Reply as Reply, Request as Request,
        Sampling as Sampling, ScoreRequest as ScoreRequest, Scores as Scores, Usage as Usage,
    )  # fmt: skip
    from .budget import Budget as Budget
    from .checker import Checker as Checker
    from .errors import (
        BackendError as BackendError, CapabilityError as CapabilityError, ConfigError as ConfigError,
        InputError as InputError, JournalError as JournalError, ModelError as ModelError,
        NotRecordedError as NotRecordedError, TreeagentError as TreeagentError, UnknownNameError as UnknownNameError,
    )  # fmt: skip
    from .evaluator import Evaluator as Evaluator
    from .explorer import Explorer as Explorer, ranked as ranked
    from .journal import Event as Event, Journal as Journal
    from .search import Search as Search
    from .task import Task as Task
    from .thought import Judgement as Judgement, Thought as Thought, Tree as Tree
