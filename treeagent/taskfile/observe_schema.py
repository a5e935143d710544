"""The key ``observe``: what a task file says of the tool or environment that its checker has."""

from __future__ import annotations

from pydantic import Field

from ..world import ObserveLimits
from .strict_model import Strict

_DEFAULT = ObserveLimits()


class ObserveSpec(Strict):
    """Limits of one observation, and how it becomes part of the state."""

    timeout: float = Field(default=_DEFAULT.timeout, gt=0, le=86400)
    """Seconds until an observation is ended and its step is dropped."""
    characters: int = Field(default=_DEFAULT.characters, ge=1, le=1_000_000)
    """Of an observation; what is longer is cut, with a note of how much."""
    state: str = "{{ state }}\n{{ observation }}"
    """Template for the state with the observation; ``state`` is the one after the step."""
    terminal: str = "false"
    """Jinja expression; a thought whose step is terminal is so in any case."""

    @property
    def limits(self) -> ObserveLimits:
        """Time and length."""
        return ObserveLimits(self.timeout, self.characters)
