"""The section ``prompts``: a text for each role, or a system prompt and several messages of a chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .key_lines import Loc
from .strict_model import Strict

Speaker = Literal["system", "user", "assistant"]
_TURNS: tuple[Speaker, ...] = ("user", "assistant")


class MessageSpec(Strict):
    """A message of a chat."""

    role: str
    """``user`` or ``assistant``, in turn."""
    content: str
    """Template."""

    @field_validator("role")
    @classmethod
    def _speaker(cls, role: str) -> str:
        if role not in _TURNS:
            raise ValueError("a message is of the role 'user' or 'assistant'; a system prompt is the key 'system'")
        return role


class PromptSpec(Strict):
    """The prompt of a role in a chat."""

    system: str | None = None
    """Template of the system prompt."""
    messages: list[MessageSpec] = Field(min_length=1)
    """User and assistant in turn; the first and the last one are the user's."""

    @model_validator(mode="after")
    def _in_turn(self) -> PromptSpec:
        for index, message in enumerate(self.messages):
            if message.role != _TURNS[index % 2]:
                raise ValueError(f"user and assistant take turns, so message {index + 1} is of {_TURNS[index % 2]!r}")
        if len(self.messages) % 2 == 0:
            raise ValueError("the last message is the user's: the model answers it")
        return self

    def parts(self) -> list[tuple[Speaker, Loc, str]]:
        """Who speaks, the keys that lead to the template, and the template; the last one is the prompt."""
        system: list[tuple[Speaker, Loc, str]] = [] if self.system is None else [("system", ("system",), self.system)]
        return system + [
            (cast("Speaker", message.role), ("messages", index, "content"), message.content)
            for index, message in enumerate(self.messages)
        ]


class TextPrompt(PromptSpec):
    """The prompt of a role that is one text."""

    def parts(self) -> list[tuple[Speaker, Loc, str]]:
        """The text, which stands at the key of the role."""
        return [(speaker, (), text) for speaker, _, text in super().parts()]


def _written(value: Any) -> Any:
    """A text alone stands for one message of the user."""
    if isinstance(value, str):
        return TextPrompt(messages=[MessageSpec(role="user", content=value)])
    if value is None or isinstance(value, dict):
        return value
    raise PydanticCustomError("string_type", "Input should be a valid string")


Prompt = Annotated[PromptSpec | None, BeforeValidator(_written)]


class Prompts(Strict):
    """Jinja templates, one prompt for each role. Searches and evaluators declare which they need."""

    propose: Prompt = None
    sample: Prompt = None
    value: Prompt = None
    vote: Prompt = None
    answer: Prompt = None
    io: Prompt = None
    cot: Prompt = None
    critique: Prompt = None
    outcome: Prompt = None
    prm: Prompt = None
    reflect: Prompt = None

    @field_validator("prm")
    @classmethod
    def _one_text(cls, prompt: PromptSpec | None) -> PromptSpec | None:
        if prompt is not None and len(prompt.parts()) > 1:
            raise ValueError("a process reward model reads one text: write it without system and messages")
        return prompt

    def parts(self, role: str) -> list[tuple[Speaker, Loc, str]]:
        """As :meth:`PromptSpec.parts`; empty for a role without a prompt."""
        prompt: PromptSpec | None = getattr(self, role)
        return [] if prompt is None else prompt.parts()

    def templates(self) -> Iterator[tuple[str, Loc, str]]:
        """All templates: the role, the keys that lead to the template, and the template."""
        for role in type(self).model_fields:
            for _, place, source in self.parts(role):
                yield role, ("prompts", role, *place), source
