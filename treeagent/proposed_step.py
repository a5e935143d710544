"""A step that a completion proposes, as a task reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProposedStep:
    """A part of a completion, read as the step that it proposes."""

    text: str
    state: str
    """What prompts show of the problem after the step."""
    key: str
    """Steps with equal keys lead to the same state."""
    terminal: bool
    """Whether the path is complete with this step."""
    fault: str | None = None
    """None, ``unparsed`` (not in the form of a step) or ``illegal``."""
    reason: str | None = None
    """Why it could not be read, where the text alone does not show it: a limit, or a fault of the task."""
