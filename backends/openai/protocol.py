"""Write requests in OpenAI's protocol and read completions from its replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treeagent.backend import Completion, Sampling, Usage
from treeagent.errors import BackendError

if TYPE_CHECKING:
    from .server_kinds import ServerKind

SEED_BITS = 31
"""llama.cpp has 32-bit seeds and reads all ones as a random seed; JavaScript gateways lack 64-bit numbers."""


def prompt_fields(prompt: str | Sequence[int], *, chat: bool) -> tuple[str, dict[str, Any]]:
    """The endpoint and the field with the prompt."""
    if chat:
        return "chat/completions", {"messages": [{"role": "user", "content": prompt}]}
    return "completions", {"prompt": prompt}


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


def completions(answer: Mapping[str, Any], stop: Sequence[str], *, chat: bool) -> list[Completion]:
    """The samples in order, each cut before the first stop string. Raises BackendError."""
    samples = []
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
        samples.append(Completion(text[:cut], finish=finish))
    return samples


def usage(answer: Mapping[str, Any]) -> Usage:
    """The token counts of a reply; None where the server does not report them."""
    fields = answer.get("usage")
    fields = fields if isinstance(fields, dict) else {}
    counts = [fields.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return Usage(1, prompt, completion)


def next_tokens(answer: Mapping[str, Any]) -> dict[str, float] | None:
    """Log-probabilities of the most likely first tokens of the first choice; None where there are none."""
    logprobs = _choices(answer)[0].get("logprobs")
    tops = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    if isinstance(tops, list) and tops and isinstance(tops[0], dict):  # completions; everything else is as in a chat
        return {str(token): float(value) for token, value in tops[0].items()} or None
    values: dict[str, float] = {}
    for item in _first_position(answer):
        if isinstance(token := item.get("token"), str):
            values[token] = max(float(item["logprob"]), values.get(token, -float("inf")))
    return values or None


def next_ids(answer: Mapping[str, Any]) -> dict[int, float] | None:
    """The same by token ids, which llama.cpp reports."""
    return {item["id"]: float(item["logprob"]) for item in _first_position(answer) if "id" in item} or None


def _first_position(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The most likely tokens and the sampled one, with ``token`` and ``logprob``."""
    logprobs = _choices(answer)[0].get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return []
    items = [*(content[0].get("top_logprobs") or ()), content[0]]
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("logprob"), float | int)]


def echoed(answer: Mapping[str, Any], rows: int) -> list[list[float | None]]:
    """Log-probabilities of all tokens of each echoed prompt, without the generated one. Raises BackendError."""
    echoes = []
    for choice in _choices(answer):
        logprobs = choice.get("logprobs")
        values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        if not isinstance(values, list) or len(values) < 2:
            break
        echoes.append(values[:-1])  # the request generates one token
    if len(echoes) != rows:
        raise BackendError(
            f"the server was asked to echo {rows} prompts with log-probabilities and answered with {len(echoes)}; "
            "set the option score to what it supports"
        )
    return echoes


def _choices(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise BackendError(
            f"the server's answer has no 'choices' (it has: {', '.join(map(str, answer)) or 'nothing'}); "
            "is base_url that of an OpenAI-compatible API?"
        )
    return sorted(choices, key=lambda choice: choice.get("index") or 0)
