"""Every error a user can meet.

::

    TreeagentError
    ├── ConfigError          a task file, an option or a name is wrong; ``problems`` lists all of it
    │   ├── UnknownNameError a task, search, evaluator, backend or model that does not exist
    │   └── MissingExtraError an optional library is not installed; the message names the command that installs it
    ├── InputError           the input does not have the form that the task asks for
    ├── CapabilityError      the backend cannot do what the search or the evaluator needs
    ├── BackendError         a request could not be answered
    │   ├── ModelError       a model could not be loaded or fetched
    │   │   └── UnsupportedModelError this backend cannot run this model; another backend may
    │   ├── RequestRefusedError this one request is refused (content filter, context length); others can be answered
    │   └── NotRecordedError a replayed or scripted backend has no answer for a request
    ├── ToolError            a tool or an environment has no observation for a step; the step alone is dropped
    ├── PluginError          a search, evaluator, task, checker or backend raised an exception of its own
    └── JournalError         a journal cannot be written, read or resumed

A message says what was wrong, what was expected and what to do. Running out of budget, a time-out and Ctrl-C are
ordinary ends of a search and raise nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class TreeagentError(Exception):
    """Base of every error that treeagent raises on purpose; its text is meant for the user."""

    result: Any = None
    """The best attempt (a ``Result``) of the search that the error ended, where there was one."""

    def attach(self, result: Any) -> None:
        """Set :attr:`result`."""
        self.result = result


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a configuration file."""

    file: Path | None
    line: int | None
    """1-based; None where the place is unknown."""
    key: str
    """Dotted path, such as ``prompts.value``."""
    message: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.key) if part not in (None, ""))
        return f"{place}: {self.message}" if place else self.message


class ConfigError(TreeagentError):
    """Something the user configured is wrong; every problem found is listed, not only the first."""

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = [Problem(None, None, "", problems)]
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownNameError(ConfigError):
    """A name that nothing is registered under; the message offers the nearest valid one."""

    def __init__(self, kind: str, name: str, valid: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.valid = kind, name, tuple(sorted(valid))
        super().__init__(f"no {kind} is called {name!r}.{did_you_mean(name, self.valid)}{hint}")


class MissingExtraError(ConfigError):
    """An optional library is not installed; the message is one line with the command that installs it."""


class InputError(TreeagentError):
    """The input does not have the form that the task asks for."""


class CapabilityError(TreeagentError):
    """The backend lacks a capability; raised before the first request."""


class BackendError(TreeagentError):
    """A backend could not answer a request."""


class ModelError(BackendError):
    """A model could not be found, loaded or fetched."""


class UnsupportedModelError(ModelError):
    """The backend cannot run this model, which is whole: another backend may (:attr:`Backend.fallback`)."""

    def __init__(self, message: str, reason: str) -> None:
        """``reason`` is the part of the message that says why, a clause without a full stop."""
        self.reason = reason
        super().__init__(message)


class RequestRefusedError(BackendError):
    """The backend refuses this one request, by a content filter or its context length; others can be answered."""


class NotRecordedError(BackendError):
    """A replayed or scripted backend was asked something that it has no answer for."""


class ToolError(TreeagentError):
    """A tool or an environment has no observation for a step: the step is dropped, and the search goes on."""


class PluginError(TreeagentError):
    """A plug-in raised an exception of its own; the message names the plug-in and the exception."""

    def __init__(self, kind: str, name: str, error: BaseException, where: str = "") -> None:
        """``kind`` is ``search``, ``evaluator``, ``task``, ``checker`` or ``backend``; ``where`` names the input."""
        self.kind, self.name = kind, name
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")  # a line, whatever its text is
        super().__init__(
            f"the {kind} {name!r} failed{where and f' at {where}'}: {reason}. This is a fault of the {kind}."
        )


class JournalError(TreeagentError):
    """A journal cannot be written, read or resumed."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or `` Valid: a, b, c.``; with a leading space, empty when there is nothing to offer."""
    choices = sorted(valid)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {near[0]!r}? (valid: {', '.join(choices)})"
    return f" Valid: {', '.join(choices)}." if choices else ""
