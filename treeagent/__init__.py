"""Language models that reason by tree search, fast."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "aio": "in_thread",
    "backend": "Backend",
    "chat": "Chat Message",
    "checker": "Checker",
    "data_source": "DataSource",
    "errors": (
        "BackendError CapabilityError ConfigError InputError JournalError MissingExtraError ModelError "
        "NotRecordedError PluginError RequestRefusedError ToolError TreeagentError UnknownNameError "
        "UnsupportedModelError"
    ),
    "evaluator": "EvaluationContext Evaluator",
    "reply": "Completion OnText Partial Reply Round Scores Usage",
    "request": "Key Request RewardRequest Sampling ScoreRequest",
    "runtime.agent": "Agent",
    "runtime.budget": "Budget",
    "runtime.events": (
        "AnswerEvent CompletionEvent DroppedEvent EarlyEvent EndEvent Event FailedEvent JudgedEvent ObservedEvent "
        "RefusedEvent ResumedEvent RoundsEvent RunEvent ScoresEvent ThoughtEvent"
    ),
    "runtime.journal": "Journal",
    "runtime.recorded_event": "RecordedEvent",
    "runtime.result": "Result",
    "runtime.run": "Run",
    "search": "Explorer Search",
    "proposed_step": "ProposedStep",
    "task": "Task",
    "taskfile.yaml_task": "YamlTask",
    "thought": "Judgement Thought Tree ranked",
    "world": "ObserveLimits World",
}
"""The public names of each module, imported on first use, so that ``import treeagent`` stays light.

Type checkers read ``__init__.pyi`` in place of this.
"""
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  all strings


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'treeagent' has no attribute {name!r}")
