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
from .runtime.events import (
    AnswerEvent,
    CompletionEvent,
    DroppedEvent,
    EarlyEvent,
    EndEvent,
    Event,
    FailedEvent,
    JudgedEvent,
    ObservedEvent,
    RefusedEvent,
    ResumedEvent,
    RoundsEvent,
    RunEvent,
    ScoresEvent,
    ThoughtEvent,
)
from .runtime.journal import Journal
from .runtime.recorded_event import RecordedEvent
from .runtime.result import Result
from .runtime.run import Run
from .search import Explorer, Search
from .task import Task
from .taskfile.yaml_task import YamlTask
from .thought import Judgement, Thought, Tree, ranked
from .world import ObserveLimits, World

__version__: str

__all__ = [
    "Agent", "AnswerEvent", "Backend", "BackendError", "Budget", "CapabilityError", "Chat", "Checker", "Completion",
    "CompletionEvent", "ConfigError", "DataSource", "DroppedEvent", "EarlyEvent", "EndEvent", "EvaluationContext",
    "Evaluator", "Event", "Explorer", "FailedEvent", "InputError", "Journal", "JournalError", "JudgedEvent",
    "Judgement", "Key", "Message", "MissingExtraError", "ModelError", "NotRecordedError", "ObserveLimits",
    "ObservedEvent", "OnText", "Partial", "PluginError", "ProposedStep", "RecordedEvent", "RefusedEvent", "Reply",
    "Request", "RequestRefusedError", "Result", "ResumedEvent", "RewardRequest", "Round", "RoundsEvent", "Run",
    "RunEvent", "Sampling", "ScoreRequest", "Scores", "ScoresEvent", "Search", "Task", "Thought", "ThoughtEvent",
    "ToolError", "Tree", "TreeagentError", "UnknownNameError", "UnsupportedModelError", "Usage", "World", "YamlTask",
    "__version__", "in_thread", "ranked",
]  # fmt: skip
