"""Write requests in OpenAI's protocol and read completions and log-probabilities from its replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from treeagent.errors import BackendError
from treeagent.reply import Completion, Usage
from treeagent.request import Sampling

from .replies import CompletionReply, PositionLogProbs, ReplyChoice, ReplyLogProbs, read_reply

if TYPE_CHECKING:
    from treeagent.chat import Chat
    from treeagent.reasoning import Thinking

    from .server_kinds import ServerKind

SEED_BITS = 31
"""llama.cpp has 32-bit seeds and reads all ones as a random seed; JavaScript gateways lack 64-bit numbers."""

_LENGTH = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
_REFUSED = frozenset(
    {"content_filter", "content-filter", "safety", "refusal", "sensitive", "recitation", "prohibited_content"}
)
_FAILED = frozenset({"error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and the address that it came from."""

    data: Mapping[str, Any]
    where: str

    def fault(self, what: str) -> BackendError:
        """An error that names the address."""
        return BackendError(f"{self.where}: {what}")


@dataclass(frozen=True, slots=True)
class TextRules:
    """How the text of a completion is cut: thinking off its start, the rest before the first stop string."""

    stop: Sequence[str]
    thinking: Thinking | None
    chat: bool


def prompt_fields(prompt: str, chat: Chat, kind: ServerKind, *, in_chat: bool) -> tuple[str, dict[str, Any]]:
    """The endpoint, and the fields with the prompt and what comes with it. Raises BackendError."""
    if in_chat:
        fields = {**message_fields(prompt, chat, kind), **budget_fields(chat, kind)}
        return "chat/completions", {**fields, **chat.extra_body}
    if chat.needs - {"extra_body"}:
        raise BackendError("messages, thinking and arguments of a template need a chat, which this server has not")
    return "completions", {"prompt": prompt, **chat.extra_body}


def message_fields(prompt: str, chat: Chat, kind: ServerKind) -> dict[str, Any]:
    """The fields that become the templated prompt. Raises BackendError."""
    fields: dict[str, Any] = {"messages": chat.as_messages(prompt)}
    if chat.arguments:
        if not kind.takes_template:
            name = "template" if chat.template else "thinking"
            raise BackendError(
                f"sampling.ROLE.{name}: a server of kind {kind.name!r} takes no arguments of a chat template; "
                "set the field that it has for this in sampling.ROLE.extra_body, such as reasoning_effort"
            )
        fields["chat_template_kwargs"] = chat.arguments
    return fields


def budget_fields(chat: Chat, kind: ServerKind) -> dict[str, Any]:
    """The field with the most tokens of thinking, where there is a number. Raises BackendError."""
    if chat.budget is None:
        return {}
    if kind.budget_field is None:
        raise BackendError(
            f"sampling.ROLE.thinking={chat.budget}: a server of kind {kind.name!r} takes no number of tokens for "
            "thinking; set true or false, or the field that it has for this in sampling.ROLE.extra_body"
        )
    return {kind.budget_field: chat.budget}


def sampling_fields(sampling: Sampling, kind: ServerKind, limit: str) -> dict[str, Any]:
    """The sampling fields; ``limit`` is the server's name of ``max_tokens``. Raises BackendError."""
    for name in ("top_k", "min_p"):
        if getattr(sampling, name) is not None and not kind.supports_top_k:
            raise BackendError(
                f"the task asks for {name}={getattr(sampling, name)}, which a server of kind {kind.name!r} does not "
                f"take; leave it out of the task's sampling, or set the option server to the right kind"
            )
    fields = {**kind.neutral, limit: sampling.max_tokens, "temperature": sampling.temperature}
    fields |= {name: value for name in ("top_p", "top_k", "min_p") if (value := getattr(sampling, name)) is not None}
    if sampling.stop:
        fields["stop"] = list(sampling.stop[: kind.max_stop_strings])
    return fields


def completions(answer: Answer, rules: TextRules) -> list[Completion]:
    """The samples in order. Raises BackendError."""
    return [_completion(answer, place, choice, rules) for place, choice in enumerate(_choices(answer))]


def _completion(answer: Answer, place: int, choice: ReplyChoice, rules: TextRules) -> Completion:
    reason = (choice.finish_reason or "").lower()
    if reason in _FAILED:
        raise answer.fault(f"the server gave up choice {place} with finish_reason {choice.finish_reason!r:.60}")
    text, thought = _parts(answer, place, choice, chat=rules.chat)
    refusal = choice.message.refusal if choice.message else None
    if thought is None and rules.thinking is not None:
        split = rules.thinking.split(text)
        text, thought = split.text, split.reasoning
    cut = min((at for at in (text.find(end) for end in rules.stop) if at >= 0), default=None)
    finish = "length" if reason in _LENGTH else "refused" if reason in _REFUSED or (refusal and not text) else "stop"
    return Completion(text[:cut], finish="stop" if cut is not None else finish, reasoning=thought)


def _parts(answer: Answer, place: int, choice: ReplyChoice, *, chat: bool) -> tuple[str, str | None]:
    """Text and separate reasoning of a choice. A missing text is an empty one where the choice says how it ended."""
    if chat:
        if choice.message is None:
            raise answer.fault(f"the reply is malformed at choices[{place}].message: expected an object")
        named = choice.message.model_fields_set
        if not named or (named == {"role"} and choice.finish_reason is None):
            raise answer.fault(f"the reply is malformed at choices[{place}].message.content: expected a text")
        return choice.message.parts()
    if choice.text is None and ("text" not in choice.model_fields_set or choice.finish_reason is None):
        raise answer.fault(f"the reply is malformed at choices[{place}].text: expected a text")
    return choice.text or "", None


def usage(answer: Answer) -> Usage:
    """The token counts of a reply; None where the server does not report them. Raises BackendError."""
    counts = _reply(answer).usage
    if counts is None:
        return Usage(1, None, None, reasoning_tokens=None)
    return Usage(1, counts.prompt_tokens, counts.completion_tokens, reasoning_tokens=counts.reasoning)


def next_tokens(answer: Answer) -> dict[str, float] | None:
    """Log-probabilities of the most likely first tokens of the first choice; None where there are none.

    Raises BackendError.
    """
    logprobs = _logprobs(answer, 0, _choices(answer)[0])
    if logprobs is None:
        return None
    if logprobs.top_logprobs and logprobs.top_logprobs[0]:  # completions; everything else is as in a chat
        tops = logprobs.top_logprobs[0]
        return {token: value for token, value in tops.items() if value is not None} or None
    values: dict[str, float] = {}
    for item in _first_position(logprobs):
        if item.token is not None and item.logprob is not None:
            values[item.token] = max(item.logprob, values.get(item.token, -float("inf")))
    return values or None


def next_ids(answer: Answer) -> dict[int, float] | None:
    """The same by token ids, which llama.cpp reports. Raises BackendError."""
    logprobs = _logprobs(answer, 0, _choices(answer)[0])
    items = [] if logprobs is None else _first_position(logprobs)
    return {item.id: item.logprob for item in items if item.id is not None and item.logprob is not None} or None


def _first_position(logprobs: ReplyLogProbs) -> list[Any]:
    """The most likely tokens and the sampled one, with ``token`` and ``logprob``."""
    if not logprobs.content:
        return []
    first: PositionLogProbs = logprobs.content[0]
    return [*(first.top_logprobs or ()), first]


def echoed(answer: Answer, rows: int) -> list[list[float | None]]:
    """Log-probabilities of all tokens of each echoed prompt, without the generated one. Raises BackendError."""
    echoes = []
    for place, choice in enumerate(_choices(answer)):
        logprobs = _logprobs(answer, place, choice)
        values = None if logprobs is None else logprobs.token_logprobs
        if values is None or len(values) < 2:
            break
        echoes.append(list(values[:-1]))  # the request generates one token
    if len(echoes) != rows:
        raise answer.fault(
            f"the server was asked to echo {rows} prompts with log-probabilities and answered with {len(echoes)}; "
            "set the option score to what it supports"
        )
    return echoes


def echoes_prompt(answer: Answer) -> bool:
    """Whether the reply has log-probabilities of the prompt. Raises BackendError."""
    logprobs = _logprobs(answer, 0, _choices(answer)[0])
    return logprobs is not None and len(logprobs.token_logprobs or ()) > 2


def _logprobs(answer: Answer, place: int, choice: ReplyChoice) -> ReplyLogProbs | None:
    if choice.logprobs is None:
        return None
    path = f"choices[{place}].logprobs"
    if not isinstance(choice.logprobs, dict):
        raise answer.fault(f"the reply is malformed at {path}: expected an object")
    return read_reply(ReplyLogProbs, choice.logprobs, answer.where, path)


def _choices(answer: Answer) -> list[ReplyChoice]:
    """The choices in the order of their indices. Raises BackendError."""
    choices = _reply(answer).choices
    places = [place if choice.index is None else choice.index for place, choice in enumerate(choices)]
    return [choice for _, choice in sorted(zip(places, choices, strict=True), key=lambda pair: pair[0])]


def _reply(answer: Answer) -> CompletionReply:
    data = answer.data
    if not isinstance(data.get("choices"), list) or not data["choices"]:
        names = ", ".join(str(name)[:40] for name in list(data)[:10])
        hint = "" if "/v1/" in answer.where else " Does base_url lack the ending /v1?"
        raise answer.fault(
            f"the server's answer has no 'choices' (it has: {names or 'nothing'}); "
            f"is base_url that of an OpenAI-compatible API?{hint}"
        )
    return read_reply(CompletionReply, data, answer.where)
