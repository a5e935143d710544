"""What a chat is given beside the prompt: messages before it, arguments of the chat template, fields of a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

SWITCHES = ("enable_thinking", "thinking")
"""Arguments by which chat templates switch thinking: Qwen, GLM, SmolLM 3; DeepSeek, Granite, Kimi."""

OWN_FIELDS = {
    **dict.fromkeys(("model", "messages", "prompt", "n", "seed", "stream", "stream_options", "echo"), ""),
    **dict.fromkeys(("logprobs", "top_logprobs"), ""),
    **{
        name: f"; set sampling.ROLE.{name}" for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop")
    },
    "max_completion_tokens": "; set sampling.ROLE.max_tokens",
    "chat_template_kwargs": "; set sampling.ROLE.template",
}
"""Fields of a request that a backend writes itself, and what to set in place of them."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a chat before its last one, which is the prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Chat:
    """What a prompt comes with in a chat."""

    messages: tuple[Message, ...] = ()
    """The messages before the prompt, which is the last one and the user's."""
    thinking: bool | int | None = None
    """Thinking switched on or off, or the most tokens of it; None leaves it to the model."""
    template: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of the chat template by name; not to be changed."""
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further fields of the request to a server, by name; not to be changed."""

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that a backend must have for it."""
        given = {
            "chat": bool(self.messages or self.template or self.thinking is not None),
            "thinking_budget": self.budget is not None,
            "extra_body": bool(self.extra_body),
        }
        return frozenset(name for name, there in given.items() if there)

    @property
    def switched_off(self) -> bool:
        """Whether the chat template is told to open no thinking."""
        return any(self.arguments.get(name) is False for name in SWITCHES)

    @property
    def budget(self) -> int | None:
        """The most tokens of thinking; None where they are not limited."""
        return None if isinstance(self.thinking, bool) else self.thinking

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the chat template, with those that switch thinking."""
        switched = {} if self.thinking is None else dict.fromkeys(SWITCHES, True if self.budget else self.thinking)
        return {**switched, **self.template}

    def without_budget(self) -> Chat:
        """The same for a prompt that no text is drawn after, so that thinking has no length."""
        return self if self.budget is None else replace(self, thinking=True)

    def as_messages(self, prompt: str) -> list[dict[str, str]]:
        """All messages, the prompt last, as templates and servers take them."""
        before = [{"role": message.role, "content": message.content} for message in self.messages]
        return [*before, {"role": "user", "content": prompt}]


def conversation(messages: Sequence[Message], prompt: str) -> str:
    """All messages for a reader, each under the name of its role; the prompt alone where nothing precedes it."""
    if not messages:
        return prompt
    shown = [*messages, Message("user", prompt)]
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in shown)


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def thinking_value(value: Any) -> bool | int | None:
    """The value of a setting ``thinking``. Raises ValueError."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError("thinking is true, false, or the most tokens of it, a whole number above 0")
