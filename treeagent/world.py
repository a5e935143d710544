"""The contract of a world: what the steps of a task act on, such as a tool, a test run or an environment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .proposed_step import ProposedStep
from .thought import Thought


@dataclass(frozen=True, slots=True)
class ObserveLimits:
    """How much one observation may take."""

    timeout: float = 30.0
    """Seconds until it is cancelled, and its step is dropped."""
    characters: int = 4000
    """Of its text; what is longer is cut, with a note of how much."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a step."""

    text: str | None
    """None where the step needs no observation, or where it failed."""
    error: str | None = None
    """Why there is none, in one line; None where nothing failed."""


class World(ABC):
    """What steps act on.

    A search awaits :meth:`observe` once for each pair of state and step, whatever happens to the search afterwards: the
    journal holds the observation, and a resumed run reads it there. A world keeps no state of its own between calls:
    ``parent`` says where the step is taken, and searches go back to earlier states.
    """

    limits: ObserveLimits = ObserveLimits()

    @abstractmethod
    async def observe(self, parent: str, text: str) -> str | None:
        """What comes of the step ``text`` at the state ``parent``; None where the step needs no observation.

        Any exception drops the step alone; :class:`treeagent.ToolError` is the one to raise on purpose. It must end
        when it is cancelled, and work that blocks belongs in a thread (:func:`treeagent.in_thread`).
        """

    def read(
        self, step: ProposedStep, input: str, parent: Thought, steps: Sequence[str], observation: str
    ) -> ProposedStep:
        """The step with its observation: here a last line of the state. ``steps`` lead to the parent."""
        state = f"{step.state}\n{observation}"
        return replace(step, state=state, key=state)
