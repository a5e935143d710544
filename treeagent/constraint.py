"""What a completion must be: a regular expression, a list of choices or a JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import pattern_syntax
from .errors import ConfigError

Kind = Literal["regex", "choices", "json_schema"]
KINDS: tuple[Kind, ...] = ("regex", "choices", "json_schema")
OPTIONS = ("constrain", *KINDS)
"""Keys of ``sampling.ROLE``, of which a role has one; ``constrain``: what the task itself holds its completions to."""

_ENDLESS = 1_000_000  # characters; a pattern without end is said to have more


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

    @classmethod
    def of_regex(cls, pattern: str, stop: Iterable[str] = ()) -> Constraint:
        """The completion matches a pattern; a stop string may end it, as a model may write one where the text ends."""
        ends = "|".join(map(literal, stop))
        return cls("regex", f"{pattern}(?:{ends})?" if ends else pattern)

    @classmethod
    def of_labels(cls, labels: Iterable[str], stop: Iterable[str] = ()) -> Constraint:
        """The completion is one of the labels of a judge, perhaps after a blank."""
        return cls.of_regex(" ?(?:" + "|".join(map(literal, labels)) + ")", stop)

    @classmethod
    def of_options(cls, values: Mapping[str, Any]) -> Constraint | None:
        """What one of the keys ``regex``, ``choices`` and ``json_schema`` says; None where none of them is given."""
        if values.get("regex") is not None:
            return cls("regex", values["regex"])
        if values.get("choices") is not None:
            return cls.of_choices(values["choices"])
        if values.get("json_schema") is not None:
            return cls("json_schema", json.dumps(values["json_schema"], ensure_ascii=False))
        return None

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices; none for another kind."""
        return tuple(json.loads(self.text)) if self.kind == "choices" else ()

    @property
    def longest(self) -> int | None:
        """Bytes of the longest text at most; None where there is none, or for a schema."""
        if self.kind == "choices":
            return max(len(choice.encode()) for choice in self.choices)
        if self.kind != "regex":
            return None
        try:
            most: int = pattern_syntax.parse(self.text).getwidth()[1]
        except (re.error, OverflowError, RecursionError):
            return None
        return (1 if self.text.isascii() else 4) * most if most < _ENDLESS else None

    def stopped_by(self, stop: Sequence[str]) -> str | None:
        """The first stop string that stands in every text, so that no completion can be whole; None if unknown.

        One at the very end of a regular expression only ends the text.
        """
        if self.kind == "regex":
            fixed = _fixed_characters(self.text)
            return next((each for each in stop if each in fixed.removesuffix(each)), None)
        choices = self.choices
        return next((each for each in stop if choices and all(each in choice for choice in choices)), None)


def literal(text: str) -> str:
    """A regular expression that matches this text alone, in the syntax that the grammar libraries share."""
    return re.escape(text).replace("\\\n", "\\n").replace("\\ ", " ")


def _fixed_characters(source: str) -> str:
    """The characters that every text of a regular expression has, with NUL in place of all else."""
    try:
        items = pattern_syntax.parse(source)
    except (re.error, OverflowError, RecursionError):
        return ""
    return "".join(chr(value) if str(op) == "LITERAL" else "\0" for op, value in items)
