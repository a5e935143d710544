"""Probe a server: its kind, its model, and whether it has a chat and log-probabilities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from treeagent.errors import BackendError, ModelError, did_you_mean

from .client import Rejected
from .protocol import next_tokens
from .server_kinds import KINDS, OWNERS, ServerKind

Send = Callable[[str, str, "dict[str, Any] | None"], Awaitable["dict[str, Any]"]]
"""Method, path below base_url and body to the answer's object."""


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of a server after the probe."""

    kind: ServerKind
    model: str
    chat: bool
    score: str
    """``echo``, ``top``, ``first`` or ``none``; see :mod:`.logprobs`."""
    models: tuple[str, ...] = ()
    """Models that the server lists."""


async def probe_server(
    send: Send,
    model: str | None,
    kind: str | None,
    chat: bool | None,
    score: str,
) -> Server:
    """Ask the server for what the options leave open, if anything. Raises BackendError."""
    models: tuple[str, ...] = ()
    if model is None or kind is None:
        models, owner = await _models(send)
        kind = kind or OWNERS.get(owner, "hosted")
        model = model or _only(models)
    server_kind = KINDS[kind]
    has_logprobs = False
    if chat is None and server_kind.name == "llamacpp" and await _has_default_template(send):
        chat = False
    if chat is None or (score == "auto" and chat):
        has_chat, has_logprobs = await _probe_chat(send, model)
        chat = has_chat if chat is None else chat
    if score == "auto":
        # In a chat, completions help only where the server shows the templated prompt.
        score = (
            await _probe_completions(send, model) if not chat or server_kind.name in ("vllm", "llamacpp") else "none"
        )
        if score == "top" and server_kind.name != "llamacpp":
            score = "first" if not chat else "none"
        if score == "none" and chat and has_logprobs:
            score = "first"
    return Server(server_kind, model, chat, score, models)


async def _models(send: Send) -> tuple[tuple[str, ...], str]:
    """Names of the models and the owner of the first; empty where the server has no list. Raises BackendError."""
    try:
        listed = (await send("GET", "models", None)).get("data")
    except Rejected as error:
        if error.status not in (404, 405):
            raise
        return (), ""
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    names = tuple(str(item["id"]) for item in items if "id" in item)
    return names, str(items[0].get("owned_by")) if items else ""


def _only(models: tuple[str, ...]) -> str:
    if len(models) == 1:
        return models[0]
    if not models:
        raise ModelError("the server lists no model; say which one with --model")
    shown = ", ".join(models[:_SHOWN]) + (", ..." if len(models) > _SHOWN else "")
    raise ModelError(f"the server has {len(models)} models; say which one with --model: {shown}")


async def _has_default_template(send: Send) -> bool:
    """Whether a llama.cpp server uses ChatML because the model has no template of its own."""
    try:
        shown = await send("POST", "/apply-template", {"messages": [{"role": "user", "content": "Hi"}]})
        marker = await send("POST", "/tokenize", {"content": _CHATML, "add_special": False, "parse_special": True})
    except Rejected:  # an older server
        return False
    return _CHATML in str(shown.get("prompt")) and len(marker.get("tokens") or ()) > 1


async def _probe_chat(send: Send, model: str) -> tuple[bool, bool]:
    """Whether the server has a chat, and whether the chat has log-probabilities. Raises BackendError."""
    base = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    short = {**base, "max_tokens": 1}
    logprobs = {"logprobs": True, "top_logprobs": 2}
    for body in ({**short, **logprobs}, short, {**base, "max_completion_tokens": _ROOM}):
        try:
            answer = await send("POST", "chat/completions", body)
        except Rejected as error:
            if error.status in (401, 403):
                raise
            continue
        return True, next_tokens(answer) is not None
    return False, False


async def _probe_completions(send: Send, model: str) -> str:
    """``echo`` where completions have log-probabilities of the prompt, ``top`` where of the next token only."""
    base = {"model": model, "prompt": "one two three", "max_tokens": 1, "logprobs": 2}
    for more in ({"echo": True}, {}):
        try:
            answer = await send("POST", "completions", {**base, **more})
        except Rejected as error:
            if error.status in (401, 403):
                raise
            continue
        logprobs = (answer.get("choices") or [{}])[0].get("logprobs")
        if isinstance(logprobs, dict) and len(logprobs.get("token_logprobs") or ()) > 2:
            return "echo"
        if next_tokens(answer) is not None:
            return "top"
    return "none"


def with_model_names(error: BackendError, server: Server) -> BackendError:
    """The error, with the names of the server's models where it does not have the requested one."""
    if isinstance(error, Rejected) and error.status == 404 and server.models and server.model not in server.models:
        return ModelError(f"{error}.{did_you_mean(server.model, server.models)}")
    return error


_CHATML = "<|im_start|>"
"""One token in the vocabulary of every model trained with ChatML."""
_SHOWN = 10
_ROOM = 16
"""Tokens in the probe of a model that reasons before it answers."""
