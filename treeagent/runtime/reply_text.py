"""A backend's answers as a search may use them: of the right types, with their texts cleaned."""

from __future__ import annotations

from dataclasses import replace

from .. import text
from ..reply import Completion, Reply, Scores, Usage
from .guarded_task import of_type


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


def checked_reply(reply: object) -> Reply:
    """The reply itself. Raises TypeError for one that breaks the contract of a backend."""
    reply = of_type(reply, Reply, "generate")
    of_type(reply.usage, Usage, "generate")
    for completion in reply.completions:
        of_type(of_type(completion, Completion, "generate").text, str, "generate")
        for token in completion.tokens or ():
            of_type(token, int, "generate")
    return reply


def checked_scores(scores: object, count: int) -> Scores:
    """The scores themselves. Raises TypeError or ValueError for scores that break the contract of a backend."""
    scores = of_type(scores, Scores, "score")
    of_type(scores.usage, Usage, "score")
    for logprob in scores.logprobs:
        if not isinstance(logprob, (float, int)):
            raise TypeError(f"score returned a log-probability of type {type(logprob).__name__}, expected float")
    if not len(scores.logprobs) == len(scores.lengths) == count:
        raise ValueError(f"score returned {len(scores.logprobs)} log-probabilities for {count} continuations")
    return scores
