"""What a completion must be: a regular expression, a list of choices or a JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import pattern_syntax
from .errors import ConfigError

Kind = Literal["regex", "choices", "json_schema"]
KINDS: tuple[Kind, ...] = ("regex", "choices", "json_schema")


@dataclass(frozen=True, slots=True)
class Constraint:
    """The whole completion is one of the texts that this allows. Raises ConfigError for a kind or text that is none."""

    kind: Kind
    text: str
    """The regular expression; the JSON array of the choices; the JSON schema."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"a constraint is of the kind {', '.join(KINDS)}, not {self.kind!r}")
        if self.kind == "regex":
            return
        try:
            value = json.loads(self.text)
        except ValueError as error:
            raise ConfigError(f"the text of a constraint {self.kind!r} is not JSON: {error}") from error
        if self.kind == "json_schema":
            if not isinstance(value, dict | bool):
                raise ConfigError('a JSON schema is an object, as in {"type": "string"}')
        elif not (isinstance(value, list) and value and all(isinstance(choice, str) and choice for choice in value)):
            raise ConfigError('the choices of a constraint are a list of texts, as in ["yes", "no"], none empty')

    @classmethod
    def of_choices(cls, choices: Sequence[str]) -> Constraint:
        """The completion is one of these texts."""
        return cls("choices", json.dumps(list(choices), ensure_ascii=False))

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices; none for another kind."""
        return tuple(json.loads(self.text)) if self.kind == "choices" else ()

    def stopped_by(self, stop: Sequence[str]) -> str | None:
        """The first stop string that stands in every text, so that no completion can be whole; None if unknown.

        One at the very end of a regular expression only ends the text.
        """
        if self.kind == "regex":
            fixed = _fixed_characters(self.text)
            return next((each for each in stop if each in fixed.removesuffix(each)), None)
        choices = self.choices
        return next((each for each in stop if choices and all(each in choice for choice in choices)), None)


def _fixed_characters(source: str) -> str:
    """The characters that every text of a regular expression has, with NUL in place of all else."""
    try:
        items = pattern_syntax.parse(source)
    except (re.error, OverflowError, RecursionError):
        return ""
    return "".join(chr(value) if str(op) == "LITERAL" else "\0" for op, value in items)
