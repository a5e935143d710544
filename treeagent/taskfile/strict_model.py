"""What the sections of a task file have in common: unknown keys and values of another type are errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..patterns import Pattern as Compiled


class Strict(BaseModel):
    """A section."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _regex(pattern: str) -> str:
    Compiled(pattern)  # raises ValueError, saying what is wrong
    return pattern


Pattern = Annotated[str, AfterValidator(_regex)]
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
