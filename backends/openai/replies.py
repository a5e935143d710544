"""The parts of a server's reply that are read, as strict records; everything else in it is ignored.

Every departure is a BackendError that names the server, the key and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from treeagent.errors import BackendError

Record = TypeVar("Record", bound=BaseModel)


def _whole(value: Any) -> Any:
    """A float without a fraction as the whole number that it is: JSON has one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=2**53)]
TokenId = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=2**31)]
LogProb = Annotated[float, Field(le=1.0, allow_inf_nan=False)]
"""Rounding on a server can lift a logarithm of 1 above 0 by a little."""


class ReplyRecord(BaseModel):
    """No conversions: a number in a string is not a number."""

    model_config = ConfigDict(strict=True, extra="ignore")


class ReplyMessage(ReplyRecord):
    """What the model says in a chat."""

    role: str | None = None
    content: str | list[dict[str, Any]] | None = None
    """A text, its parts, or null where the model says nothing."""
    reasoning_content: str | None = None
    """Thinking, where the server separates it (vLLM, SGLang, llama.cpp, DeepSeek)."""
    reasoning: str | None = None
    """The same at OpenRouter, Ollama and newer versions of vLLM."""
    refusal: str | None = None

    def parts(self) -> tuple[str, str | None]:
        """Text and reasoning."""
        thought = self.reasoning_content or self.reasoning or None  # empty where the model does not think
        if not isinstance(self.content, list):
            return self.content or "", thought
        texts = [part["text"] for part in self.content if isinstance(part.get("text"), str)]
        thoughts = [_nested_text(part["thinking"]) for part in self.content if "thinking" in part]
        return "".join(texts), thought or "".join(thoughts) or None


class ReplyChoice(ReplyRecord):
    """One completion."""

    index: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=10**6)] | None = None
    message: ReplyMessage | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    """Read by :class:`ReplyLogProbs` where they were asked for."""


class ReplyUsage(ReplyRecord):
    """Token counts."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    completion_tokens_details: Any = None
    """Where the reasoning tokens are, if anywhere."""

    @property
    def reasoning(self) -> int | None:
        """Tokens of thinking; None where they are not reported as a whole number."""
        details = self.completion_tokens_details
        number = details.get("reasoning_tokens") if isinstance(details, dict) else None
        return number if type(number) is int and number >= 0 else None


class CompletionReply(ReplyRecord):
    """The reply of ``completions`` and ``chat/completions``."""

    choices: list[ReplyChoice]
    usage: ReplyUsage | None = None


class TokenLogProb(ReplyRecord):
    """A token and its log-probability."""

    token: str | None = None
    id: TokenId | None = None
    logprob: LogProb | None = None
    """None where JSON has no form for it, such as minus infinity."""


class PositionLogProbs(TokenLogProb):
    """The sampled token of a place and the most likely ones."""

    top_logprobs: list[TokenLogProb] | None = None


class ReplyLogProbs(ReplyRecord):
    """Log-probabilities in the form of chats and llama.cpp (``content``) or in that of completions."""

    content: list[PositionLogProbs] | None = None
    token_logprobs: list[LogProb | None] | None = None
    top_logprobs: list[dict[str, LogProb | None] | None] | None = None


class TokenizerReply(ReplyRecord):
    """The reply of ``/tokenize``."""

    tokens: list[TokenId] = Field(min_length=1)


class DetokenizerReply(ReplyRecord):
    """The reply of ``/detokenize`` and ``/apply-template``."""

    prompt: str


def read_reply(record: type[Record], answer: Mapping[str, Any], where: str, path: str = "") -> Record:
    """A record from a reply; ``where`` is the address. Raises BackendError with the first faulty key."""
    try:
        return record.model_validate(dict(answer))
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
    key = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in _location(item["loc"]))
    got = "" if item["type"] == "missing" else f", not {_shown(item['input'])}"
    raise BackendError(f"{where}: the reply is malformed at {key.lstrip('.')}: {_expected(item)}{got}")


def _location(loc: tuple[int | str, ...]) -> list[int | str]:
    """Without the names of the alternatives of a type."""
    return [part for part in loc if not (isinstance(part, str) and ("[" in part or part in _TYPES))]


_TYPES = ("str", "int", "float", "none")
_EXPECTED = {
    "string": "a text", "int": "a whole number", "float": "a number", "list": "a list", "dict": "an object",
    "model": "an object", "finite": "a finite number", "missing": "this key is missing",
    "greater": "a number that is possible here", "less": "a number that is possible here",
    "too": "at least one item",
}  # fmt: skip


def _expected(item: Mapping[str, Any]) -> str:
    kind = str(item["type"]).partition("_")[0]
    words = _EXPECTED.get(kind, str(item["msg"]))
    return words if kind == "missing" else f"expected {words}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > 2**63:  # Python refuses to write numbers of many digits
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _nested_text(part: Any) -> str:
    """The texts in the thinking part of a message, which is a text or a list of parts."""
    if isinstance(part, str):
        return part
    items = part if isinstance(part, list) else []
    return "".join(item["text"] for item in items if isinstance(item, dict) and isinstance(item.get("text"), str))


_LONGEST = 60
