"""Tokens of a prompt and of its continuations, by the tokenizer that vLLM and llama.cpp expose.

A continuation is tokenised together with its prompt: many tokenizers write a text alone in other tokens than after
another one. Its tokens are those of the whole text after those of the prompt. Where the last token of the prompt and
the first of the continuation merge, they are the tokens after the last one that both texts share.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from treeagent import aio
from treeagent.errors import BackendError
from treeagent.request import ScoreRequest

from .answers import Rejected
from .probe import Server
from .protocol import Answer, message_fields
from .replies import DetokenizerReply, TokenizerReply, read_reply

Ask = Callable[[str, "dict[str, Any]"], Coroutine[Any, Any, Answer]]
"""Sends a body to an endpoint, or to a path from the root of the server (``/tokenize``), and returns the reply."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A continuation in its prompt."""

    tokens: tuple[int, ...]
    merged: int
    """Number of the prompt's last tokens that :attr:`tokens` replace; 0 unless the border merges."""

    def after(self, prompt: Sequence[int]) -> list[int]:
        """The tokens of the prompt that stand before it."""
        return list(prompt[: len(prompt) - self.merged])


Ids = tuple[list[int], list[Continuation]]
"""Token ids of the prompt, templated in a chat, and each continuation."""


@dataclass(frozen=True, slots=True)
class TokenCache:
    """Tokens of continuations by the last line of their prompt, which decides how they are written."""

    known: dict[tuple[str, str], Continuation] = field(default_factory=dict)

    @staticmethod
    def context(prompt: str) -> str | None:
        """The last line with text; None where it is too long to be kept."""
        line = prompt[prompt.rstrip("\n").rfind("\n") + 1 :]
        return line if len(line) <= _LINE else None

    def add(self, context: str | None, word: str, tokens: Continuation) -> None:
        """Keep the tokens, while there is room."""
        if context is not None and len(self.known) < _KEPT:
            self.known[context, word] = tokens


async def token_ids(request: ScoreRequest, words: Sequence[str], server: Server, ask: Ask, cache: TokenCache) -> Ids:
    """Tokenise a prompt and each continuation in it. Raises BackendError."""
    prompt, messages = request.prompt, message_fields(request.prompt, request.chat, server.kind)
    if server.kind.name not in ("vllm", "llamacpp"):
        raise BackendError(
            f"score={server.score} needs a server that exposes its tokenizer (vllm, llamacpp), not one of kind "
            f"{server.kind.name!r}; labels of one token can use score=first"
        )
    if server.kind.name == "llamacpp":
        if server.chat:
            answer = await ask("/apply-template", messages)
            prompt = read_reply(DetokenizerReply, answer.data, answer.where).prompt
        head = await _tokenized(_llamacpp_body(prompt), ask)
        return head, await _tails(prompt, head, words, ask, cache, _llamacpp_body)
    if not server.chat:
        head = await _tokenized(_vllm_body(prompt), ask)
        return head, await _tails(prompt, head, words, ask, cache, _vllm_body)
    head = await _tokenized(messages, ask)
    try:
        answer = await ask("/detokenize", {"tokens": head})
    except Rejected as error:
        if error.status not in (404, 405):
            raise
        return head, await _tails("", [], words, ask, cache, _templated_body)  # the templated text stays unknown
    text = read_reply(DetokenizerReply, answer.data, answer.where).prompt
    return head, await _tails(text, None, words, ask, cache, _templated_body)


async def _tails(
    prompt: str, head: list[int] | None, words: Sequence[str], ask: Ask, cache: TokenCache,
    body: Callable[[str], dict[str, Any]],
) -> list[Continuation]:  # fmt: skip
    """The tokens of each continuation; ``head`` are those of the prompt, None where they are to be asked for."""
    context = cache.context(prompt)
    known = {
        word: cache.known[context, word] for word in words if context is not None and (context, word) in cache.known
    }
    new = [word for word in dict.fromkeys(words) if word not in known]
    if new and head is None:
        head = await _tokenized(body(prompt), ask)
    wholes = await aio.gather(_tokenized(body(prompt + word), ask) for word in new)
    for word, whole in zip(new, wholes, strict=True):
        shared = _shared(head or [], whole)
        known[word] = Continuation(tuple(whole[shared:]), len(head or []) - shared)
        if not known[word].tokens:
            raise BackendError(f"the server's tokenizer returns no tokens for {word!r} after the prompt")
        cache.add(context, word, known[word])
    return [known[word] for word in words]


def _shared(head: Sequence[int], whole: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    same = (place for place, (one, other) in enumerate(zip(head, whole, strict=False)) if one != other)
    return next(same, min(len(head), len(whole)))


async def _tokenized(body: dict[str, Any], ask: Ask) -> list[int]:
    answer = await ask("/tokenize", body)
    return read_reply(TokenizerReply, answer.data, answer.where).tokens


def _llamacpp_body(text: str) -> dict[str, Any]:
    return {"content": text, "add_special": True, "parse_special": True}


def _vllm_body(text: str) -> dict[str, Any]:
    return {"prompt": text}


def _templated_body(text: str) -> dict[str, Any]:
    """For a text that begins with the special tokens that its template wrote."""
    return {"prompt": text, "add_special_tokens": False}


_KEPT = 1000
"""Continuations whose tokens are cached."""
_LINE = 200
"""Characters of the longest line that is part of a cache key."""
