"""Requests as OpenAI's protocol writes them, and its answers as completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treeagent.backend import Completion, Sampling, Usage
from treeagent.errors import BackendError

if TYPE_CHECKING:
    from .server_kinds import Kind

SEED_BITS = 31
"""llama.cpp's seeds have 32 bits, of which all ones mean a random one; JavaScript gateways know no 64-bit numbers."""


def question(prompt: str | Sequence[int], *, chat: bool) -> tuple[str, dict[str, Any]]:
    """The endpoint, and the field with the prompt."""
    if chat:
        return "chat/completions", {"messages": [{"role": "user", "content": prompt}]}
    return "completions", {"prompt": prompt}


def sampling_fields(sampling: Sampling, kind: Kind, limit: str) -> dict[str, Any]:
    """How to draw; ``limit`` is what the server calls ``max_tokens``. Raises BackendError."""
    for name in ("top_k", "min_p"):
        if getattr(sampling, name) is not None and not kind.truncates:
            raise BackendError(
                f"the task asks for {name}={getattr(sampling, name)}, which a server of kind {kind.name!r} does not "
                f"take; leave it out of the task's sampling, or say with the option server which kind it is"
            )
    fields = {**kind.neutral, limit: sampling.max_tokens, "temperature": sampling.temperature}
    fields |= {name: value for name in ("top_p", "top_k", "min_p") if (value := getattr(sampling, name)) is not None}
    if sampling.stop:
        fields["stop"] = list(sampling.stop[: kind.stops])
    return fields


def completions(answer: Mapping[str, Any], stop: Sequence[str], *, chat: bool) -> list[Completion]:
    """The samples in order, each ended before the first stop string. Raises BackendError."""
    found = []
    for choice in _choices(answer):
        if chat:
            message = choice.get("message")
            text = message.get("content") if isinstance(message, dict) else None
        else:
            text = choice.get("text")
        if not isinstance(text, str | None):
            raise BackendError(f"the server's answer has no text in its choice {choice.get('index', 0)}: {text!r:.80}")
        text = text or ""
        cut = min((at for at in (text.find(end) for end in stop) if at >= 0), default=None)
        finish = "length" if choice.get("finish_reason") == "length" and cut is None else "stop"
        found.append(Completion(text[:cut], finish=finish))
    return found


def usage(answer: Mapping[str, Any]) -> Usage:
    """What the server says that it cost; None where it does not say."""
    told = answer.get("usage")
    told = told if isinstance(told, dict) else {}
    counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return Usage(1, prompt, completion)


def next_tokens(answer: Mapping[str, Any]) -> dict[str, float] | None:
    """Log-probabilities of the likeliest first tokens of the first choice; None where they are not told."""
    told = _choices(answer)[0].get("logprobs")
    tops = told.get("top_logprobs") if isinstance(told, dict) else None
    if isinstance(tops, list) and tops and isinstance(tops[0], dict):  # completions; everything else is as in a chat
        return {str(token): float(value) for token, value in tops[0].items()} or None
    found: dict[str, float] = {}
    for item in _first_position(answer):
        if isinstance(token := item.get("token"), str):
            found[token] = max(float(item["logprob"]), found.get(token, -float("inf")))
    return found or None


def next_ids(answer: Mapping[str, Any]) -> dict[int, float] | None:
    """The same by token ids, which llama.cpp tells."""
    return {item["id"]: float(item["logprob"]) for item in _first_position(answer) if "id" in item} or None


def _first_position(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The likeliest tokens and the one that was drawn, with ``token`` and ``logprob``."""
    told = _choices(answer)[0].get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return []
    items = [*(content[0].get("top_logprobs") or ()), content[0]]
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("logprob"), float | int)]


def echoed(answer: Mapping[str, Any], rows: int) -> list[list[float | None]]:
    """Log-probabilities of all tokens of each echoed prompt, the generated ones cut off. Raises BackendError."""
    found = []
    for choice in _choices(answer):
        told = choice.get("logprobs")
        values = told.get("token_logprobs") if isinstance(told, dict) else None
        if not isinstance(values, list) or len(values) < 2:
            break
        found.append(values[:-1])  # one token was asked for
    if len(found) != rows:
        raise BackendError(
            f"the server was asked to echo {rows} prompts with log-probabilities and answered with {len(found)}; "
            "say with the option score what it can do"
        )
    return found


def _choices(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = answer.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(choice, dict) for choice in found):
        raise BackendError(
            f"the server's answer has no 'choices' (it has: {', '.join(map(str, answer)) or 'nothing'}); "
            "is base_url that of an OpenAI-compatible API?"
        )
    return sorted(found, key=lambda choice: choice.get("index") or 0)
