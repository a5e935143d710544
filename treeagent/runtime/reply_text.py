"""The texts of a backend's reply as a search may use them."""

from __future__ import annotations

from dataclasses import replace

from .. import text
from ..reply import Completion, Reply


def received(reply: Reply, max_tokens: int) -> Reply:
    """The reply with its texts cleaned and cut to what ``max_tokens`` tokens can hold.

    Whatever the backend: a server may ignore ``max_tokens``. A text that is cut ends for ``length``, so it is counted
    as truncated, and its tokens, which no longer fit it, are unknown.
    """
    completions = tuple(_received(completion, text.character_limit(max_tokens)) for completion in reply.completions)
    same = all(new is old for new, old in zip(completions, reply.completions, strict=True))
    return reply if same else replace(reply, completions=completions)


def _received(completion: Completion, limit: int) -> Completion:
    content = text.clean(completion.text[:limit])
    reasoning = None if completion.reasoning is None else text.clean(completion.reasoning[:limit])
    if len(completion.text) > limit:
        finish = "refused" if completion.finish == "refused" else "length"
        return Completion(content, finish=finish, reasoning=reasoning)
    if content == completion.text and reasoning == completion.reasoning:
        return completion
    if len(content) != len(completion.text):  # two surrogates have become one character
        return replace(completion, text=content, reasoning=reasoning, ends=None)
    return replace(completion, text=content, reasoning=reasoning)
