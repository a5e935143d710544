"""What type checkers read in place of ``__init__.py``, which imports these names on first use."""

from .aio import in_thread
from .backend import Backend
from .chat import Chat, Message
from .checker import Checker
from .data_source import DataSource
from .errors import (
    BackendError,
    CapabilityError,
    ConfigError,
    InputError,
    JournalError,
    MissingExtraError,
    ModelError,
    NotRecordedError,
    PluginError,
    RequestRefusedError,
    ToolError,
    TreeagentError,
    UnknownNameError,
    UnsupportedModelError,
)
from .evaluator import EvaluationContext, Evaluator
from .proposed_step import ProposedStep
from .reply import Completion, OnText, Partial, Reply, Round, Scores, Usage
from .request import Key, Request, RewardRequest, Sampling, ScoreRequest
from .runtime.agent import Agent
from .runtime.budget import Budget
from .runtime.journal import Event, Journal
from .runtime.result import Result
from .runtime.run import Run
from .search import Explorer, Search
from .task import Task
from .taskfile.yaml_task import YamlTask
from .thought import Judgement, Thought, Tree, ranked
from .world import ObserveLimits, World

__version__: str

__all__ = [
    "Agent", "Backend", "BackendError", "Budget", "CapabilityError", "Chat", "Checker", "Completion", "ConfigError",
    "DataSource", "EvaluationContext", "Evaluator", "Event", "Explorer", "InputError", "Journal", "JournalError",
    "Judgement", "Key", "Message", "MissingExtraError", "ModelError", "NotRecordedError", "ObserveLimits", "OnText",
    "Partial",
    "PluginError", "ProposedStep", "Reply", "Request", "RequestRefusedError", "Result", "RewardRequest", "Round", "Run",
    "Sampling",
    "ScoreRequest", "Scores", "Search", "Task", "Thought", "ToolError", "Tree", "TreeagentError", "UnknownNameError",
    "UnsupportedModelError", "Usage", "World", "YamlTask", "__version__", "in_thread", "ranked",
]  # fmt: skip
