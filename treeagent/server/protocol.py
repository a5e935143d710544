"""OpenAI's chat-completions protocol: what a request may say, and the objects of a reply."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import validation
from ..reply import Usage
from ..runtime.budget import Budget
from ..runtime.result import Result
from ..text import cleaned
from .http_errors import HttpError

SEED_LIMIT = 2**63
"""Seeds lie between minus this and this, the latter excluded."""
_LIMITS = tuple(limit.name for limit in fields(Budget))
_FINISH = {**dict.fromkeys((*_LIMITS, "interrupted"), "length"), "refused": "content_filter"}
"""Why a search ended, in OpenAI's words; anything else is ``stop``."""


class BudgetFields(BaseModel):
    """Limits of a request's search; those of the server stay the highest."""

    model_config = ConfigDict(extra="forbid", strict=True)
    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    nodes: int | None = Field(default=None, ge=0)
    dollars: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def capped(self, most: Budget) -> Budget:
        """The smaller of each limit and the server's."""
        return Budget(
            calls=_smaller(self.calls, most.calls),
            tokens=_smaller(self.tokens, most.tokens),
            seconds=_smaller(self.seconds, most.seconds),
            nodes=_smaller(self.nodes, most.nodes),
            dollars=_smaller(self.dollars, most.dollars),
        )


Limit = TypeVar("Limit", int, float)


def _smaller(wanted: Limit | None, most: Limit | None) -> Limit | None:
    given = [limit for limit in (wanted, most) if limit is not None]
    return min(given, default=None)


class SearchFields(BaseModel):
    """What all requests for a search have in common; fields that are not listed are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    model: str
    seed: int | None = Field(default=None, ge=-SEED_LIMIT, lt=SEED_LIMIT)
    budget: BudgetFields = Field(default_factory=BudgetFields)
    row: dict[str, Any] | None = None
    """Fields of the input's data row, for a task that reads them."""


class EventsRequest(SearchFields):
    """A request for the events of a search."""

    input: str


class ChatMessage(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="ignore", strict=True)
    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """Its text. Raises HttpError for a part that is no text."""
        if isinstance(self.content, list):
            if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in self.content):
                raise HttpError(400, "only text can be read from a message", param="messages")
            return "".join(part["text"] for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(extra="ignore", strict=True)
    include_usage: bool = False


class ChatRequest(SearchFields):
    """A request for a chat completion. The last message of the user is the input."""

    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def input(self) -> str:
        """What is to be solved. Raises HttpError."""
        texts = [message.text for message in self.messages if message.role == "user"]
        if not texts:
            raise HttpError(400, "there is no message of the role 'user' to solve", param="messages")
        return texts[-1]

    def check(self) -> None:
        """Raise HttpError for what would change the answer and cannot be given."""
        if self.n not in (None, 1):
            raise HttpError(400, "n must be 1; send a request for each seed to get several answers", param="n")
        if self.logprobs:
            raise HttpError(400, "the answer of a search has no log-probabilities", param="logprobs")
        for name in ("tools", "functions"):
            if getattr(self, name):
                raise HttpError(400, f"a search calls no {name} of the client", param=name)
        if self.response_format and self.response_format.get("type") != "text":
            raise HttpError(400, "the task decides the form of the answer", param="response_format")


Form = TypeVar("Form", bound=BaseModel)


def read(form: type[Form], body: bytes) -> Form:
    """The request in a body. Raises HttpError (400) that names the first field which is wrong."""
    try:
        data = cleaned(json.loads(body, parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it is malformed or nested too deep"
        raise HttpError(400, f"the body is not JSON: {reason}") from None
    try:
        return form.model_validate(data)
    except ValidationError as error:
        [fault, *_] = error.errors(include_url=False, include_input=False)
        place = ".".join(str(part) for part in fault["loc"]) or None
        said = validation.message(fault, form)
        raise HttpError(400, f"{place or 'the body'}: {said}", param=place) from None


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def finish_reason(result: Result) -> str:
    """Why the search ended, in OpenAI's words."""
    return _FINISH.get(result.ended, "stop")


def usage_fields(usage: Usage) -> dict[str, Any] | None:
    """The usage object; None where the backend does not say how many tokens there were."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return counts


def outcome(result: Result) -> dict[str, Any]:
    """The object ``treeagent`` of a reply: the result without the server's own settings."""
    private = ("settings", "engine", "cut_off", "speculated")
    return {name: value for name, value in result.to_json().items() if name not in private}


def public(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event without the options of the server's backends, such as their addresses."""
    if kind not in ("run", "end") or "settings" not in data:
        return data
    settings = dict(data["settings"])
    for part in ("backend", "evaluator_model"):
        if part in settings:
            settings[part] = _without_options(settings[part])
    if "models" in settings:
        settings["models"] = {name: _without_options(used) for name, used in settings["models"].items()}
    return {**data, "settings": settings}


def _without_options(used: Any) -> Any:
    """The description of a backend; a model's name alone is returned as it is."""
    return {**used, "options": {}} if isinstance(used, dict) else used
