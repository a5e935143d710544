"""Probe a server: its kind, its model, whether it has a chat and log-probabilities, and whether its model thinks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from treeagent.errors import ModelError, did_you_mean
from treeagent.reasoning import Thinking

from .answers import Rejected
from .protocol import Answer, TextRules, completions, echoes_prompt, next_tokens
from .server_kinds import KINDS, OWNERS, ServerKind

Send = Callable[[str, str, "dict[str, Any] | None"], Awaitable[Answer]]
"""Method, path below base_url and body to the answer."""


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
    thinking: Thinking | None = None
    """Marks of thinking; None: nothing is separated."""
    thinks: bool = False
    """Whether the model began its reply to the probe with thinking."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the user's options say of a server; None: to be found out."""

    model: str | None
    kind: str | None
    chat: bool | None
    score: str
    thinking: Thinking | None
    lists_models: bool = True
    """Whether the server's list has the names that requests use; on Azure these are the names of deployments."""


async def probe_server(send: Send, declared: Declared) -> Server:
    """Ask the server for what the options leave open, if anything. Raises BackendError."""
    models: tuple[str, ...] = ()
    model, kind, chat, score = declared.model, declared.kind, declared.chat, declared.score
    if model is None or kind in (None, "llamacpp"):  # llama.cpp answers under any name, with the model that it has
        models, owner, known, where = await _models(send)
        kind = kind or OWNERS.get(owner, "hosted")
        model = model or _only(models)
        if declared.lists_models:
            _check_model(model, models, known, where)
    server_kind = KINDS[kind or "hosted"]
    thinking, has_logprobs, thinks = declared.thinking, False, False
    if server_kind.name == "llamacpp" and chat is not False and (chat is None or thinking is not None):
        template = await _template(send)
        if template is not None:
            if chat is None and await _is_default_template(send, template):
                chat = False
            elif thinking is not None:
                thinking = thinking.after(template)
                thinks = thinking.opened
    if chat is None or (score == "auto" and chat):
        has_chat, has_logprobs, shows = await _probe_chat(send, model, thinking)
        chat, thinks = has_chat if chat is None else chat, thinks or shows
    if score == "auto":
        # In a chat, completions help only where the server shows the templated prompt.
        score = (
            await _probe_completions(send, model) if not chat or server_kind.name in ("vllm", "llamacpp") else "none"
        )
        if score == "top" and server_kind.name != "llamacpp":
            score = "first" if not chat else "none"
        if score == "none" and chat and has_logprobs:
            score = "first"
    return Server(server_kind, model, chat, score, models, thinking, thinks)


async def _models(send: Send) -> tuple[tuple[str, ...], str, frozenset[str], str]:
    """Ids of the models, the owner of the first, every name that a model has, and the address of the list.

    All are empty where there is no list.

    Raises BackendError.
    """
    try:
        answer = await send("GET", "models", None)
    except Rejected as error:
        if error.status not in (404, 405):
            raise
        return (), "", frozenset(), ""
    listed = answer.data.get("data")
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    ids = tuple(item["id"] for item in items if isinstance(item.get("id"), str))
    others: list[Any] = [item.get(field) for item in items for field in ("root", "name", "model")]
    for item in items:
        aliases = item.get("aliases")
        others += aliases if isinstance(aliases, list) else []
    owner = items[0].get("owned_by") if items else None
    return ids, str(owner), frozenset((*ids, *(name for name in others if isinstance(name, str)))), answer.where


def _only(models: tuple[str, ...]) -> str:
    if len(models) == 1:
        return models[0]
    if not models:
        raise ModelError("the server lists no model; say which one with --model")
    shown = ", ".join(models[:_SHOWN]) + (", ..." if len(models) > _SHOWN else "")
    raise ModelError(f"the server has {len(models)} models; say which one with --model: {shown}")


def _check_model(model: str, models: tuple[str, ...], known: frozenset[str], where: str) -> None:
    """Raise ModelError for a model that the server does not list; one without a list may have any.

    Ollama leaves out the tag ``latest``; routers add a variant after a colon and list patterns such as ``openai/*``.
    """
    names = {model, f"{model}:latest", model.partition(":")[0]}
    if not known or names & known or any("*" in name and fnmatchcase(model, name) for name in known):
        return
    raise ModelError(f"{where}: the server has no model {model!r}.{did_you_mean(model, models)}")


async def _template(send: Send) -> str | None:
    """The prompt that llama.cpp makes of a short message; None where it does not show it."""
    try:
        shown = await send("POST", "/apply-template", {"messages": [{"role": "user", "content": "Hi"}]})
    except Rejected:  # an older server
        return None
    prompt = shown.data.get("prompt")
    return prompt if isinstance(prompt, str) else None


async def _is_default_template(send: Send, template: str) -> bool:
    """Whether a llama.cpp server uses ChatML because the model has no template of its own."""
    if _CHATML not in template:
        return False
    try:
        marker = await send("POST", "/tokenize", {"content": _CHATML, "add_special": False, "parse_special": True})
    except Rejected:
        return False
    tokens = marker.data.get("tokens")
    return isinstance(tokens, list) and len(tokens) > 1


async def _probe_chat(send: Send, model: str, thinking: Thinking | None) -> tuple[bool, bool, bool]:
    """Whether the server has a chat, whether that has log-probabilities, and whether the model begins with thinking.

    Raises BackendError.
    """
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
        [reply, *_] = completions(answer, TextRules((), thinking, chat=True))
        return True, next_tokens(answer) is not None, reply.reasoning is not None
    return False, False, False


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
        if echoes_prompt(answer):
            return "echo"
        if next_tokens(answer) is not None:
            return "top"
    return "none"


def with_model_names(error: Rejected, server: Server) -> Rejected | ModelError:
    """The error, with the names of the server's models where it does not have the requested one."""
    if error.status == 404 and server.models and server.model not in server.models:
        return ModelError(f"{error}.{did_you_mean(server.model, server.models)}")
    return error


_CHATML = "<|im_start|>"
"""One token in the vocabulary of every model trained with ChatML."""
_SHOWN = 10
_ROOM = 16
"""Tokens in the probe of a model that reasons before it answers."""
