"""What kinds of servers there are, and finding out which one this is and what it offers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from treeagent.errors import BackendError, ModelError, did_you_mean

from .client import Rejected
from .protocol import next_tokens
from .server_kinds import _OWNERS, KINDS, Kind

Send = Callable[[str, str, "dict[str, Any] | None"], Awaitable["dict[str, Any]"]]
"""Method, path below base_url and body to the answer's object."""


@dataclass(frozen=True, slots=True)
class Server:
    """What is known once it has been asked."""

    kind: Kind
    model: str
    chat: bool
    score: str
    """``echo``, ``top``, ``first`` or ``none``; see :mod:`scoring`."""
    models: tuple[str, ...] = ()
    """Those it lists."""


async def find_out(
    send: Send,
    model: str | None,
    kind: str | None,
    chat: bool | None,
    score: str,
) -> Server:
    """Ask the server what the options leave open; nothing is sent where they leave nothing. Raises BackendError."""
    models: tuple[str, ...] = ()
    if model is None or kind is None:
        models, owner = await _models(send)
        kind = kind or _OWNERS.get(owner, "hosted")
        model = model or _only(models)
    found = KINDS[kind]
    tells = False
    if chat is None and found.name == "llamacpp" and await _made_up_template(send):
        chat = False
    if chat is None or (score == "auto" and chat):
        spoken, tells = await _try_chat(send, model)
        chat = spoken if chat is None else chat
    if score == "auto":
        # In a chat, completions are of use where the server tells what its template makes of a message.
        score = await _try_completions(send, model) if not chat or found.name in ("vllm", "llamacpp") else "none"
        if score == "top" and found.name != "llamacpp":
            score = "first" if not chat else "none"
        if score == "none" and chat and tells:
            score = "first"
    return Server(found, model, chat, score, models)


async def _models(send: Send) -> tuple[tuple[str, ...], str]:
    """Names, and the owner of the first. Raises BackendError, but not where there is no such list."""
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


async def _made_up_template(send: Send) -> bool:
    """Whether a llama.cpp server answers chats with ChatML for want of a template of the model's own."""
    try:
        shown = await send("POST", "/apply-template", {"messages": [{"role": "user", "content": "Hi"}]})
        marker = await send("POST", "/tokenize", {"content": _CHATML, "add_special": False, "parse_special": True})
    except Rejected:  # an older server
        return False
    return _CHATML in str(shown.get("prompt")) and len(marker.get("tokens") or ()) > 1


async def _try_chat(send: Send, model: str) -> tuple[bool, bool]:
    """Whether there is a chat, and whether it tells the likeliest tokens; a server that is busy or down raises."""
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    short = {**asked, "max_tokens": 1}
    told = {"logprobs": True, "top_logprobs": 2}
    for body in ({**short, **told}, short, {**asked, "max_completion_tokens": _ROOM}):
        try:
            answer = await send("POST", "chat/completions", body)
        except Rejected as error:
            if error.status in (401, 403):
                raise
            continue
        return True, next_tokens(answer) is not None
    return False, False


async def _try_completions(send: Send, model: str) -> str:
    """``echo`` where completions tell the prompt's log-probabilities, ``top`` where they tell the next token's."""
    asked = {"model": model, "prompt": "one two three", "max_tokens": 1, "logprobs": 2}
    for more in ({"echo": True}, {}):
        try:
            answer = await send("POST", "completions", {**asked, **more})
        except Rejected as error:
            if error.status in (401, 403):
                raise
            continue
        told = (answer.get("choices") or [{}])[0].get("logprobs")
        if isinstance(told, dict) and len(told.get("token_logprobs") or ()) > 2:
            return "echo"
        if next_tokens(answer) is not None:
            return "top"
    return "none"


def unknown_model(error: BackendError, server: Server) -> BackendError:
    """The error, with the names that the server does have where it says that it has not this one."""
    if isinstance(error, Rejected) and error.status == 404 and server.models and server.model not in server.models:
        return ModelError(f"{error}.{did_you_mean(server.model, server.models)}")
    return error


_CHATML = "<|im_start|>"
"""One token of every model that was made for ChatML."""
_SHOWN = 10
_ROOM = 16
"""Tokens for models that reason before they answer."""
