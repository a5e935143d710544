"""Log-likelihoods of continuations, by the three methods that servers offer.

``echo``: the server reports the log-probability of every token of a prompt (vLLM, SGLang). Exact.
``top``: the server reports any number of most likely next tokens and exposes its tokenizer (llama.cpp). Each token of a
continuation is looked up after its prefix. Exact.
``first``: the server reports about twenty most likely first tokens of a reply (hosted models). Labels have one token.
A label that is not among them gets an upper bound: it is at most as likely as the least likely reported token, and as
all unreported tokens together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from treeagent import aio
from treeagent.backend import ScoreRequest, Scores, Usage
from treeagent.errors import BackendError

from .client import Rejected
from .probe import Server
from .protocol import echoed, next_ids, next_tokens, prompt_fields, usage

Token = TypeVar("Token", int, str)
Ask = Callable[[str, "dict[str, Any]"], Coroutine[Any, Any, "dict[str, Any]"]]
"""Sends a body to an endpoint, or to a path from the root of the server (``/tokenize``), and returns the reply."""

LONGEST = 64
"""Most tokens of a continuation that ``top`` looks up, with one request for each."""
PLAIN = {"temperature": 1.0, "top_p": 1.0}
"""No warping: servers differ in whether log-probabilities are those before or after it."""


async def score(
    request: ScoreRequest, server: Server, tops: int, ask: Ask, known: dict[str, list[int]]
) -> tuple[Scores, int]:
    """Scores and the number of upper bounds among them; ``known`` caches token ids. Raises BackendError."""
    # A chat template ends with a line break, after which words begin without a space.
    words = [word.lstrip(" ") for word in request.continuations] if server.chat else list(request.continuations)
    if not words:
        return Scores((), (), Usage(1, 0, 0)), 0
    if server.score == "first":
        return await _first(request.prompt, words, server, tops, ask)
    if server.score == "top":
        return await _top(await _ids(request.prompt, words, server, ask, known), words, server, tops, ask)
    if server.kind.name != "vllm":
        return await _echo_texts(request.prompt, words, server, ask), 0
    try:
        ids = await _ids(request.prompt, words, server, ask, known)
    except Rejected as error:
        if error.status != 404 or server.chat:  # some gateways do not forward the tokenizer
            raise
        return await _echo_texts(request.prompt, words, server, ask), 0
    return await _echo_ids(*ids, ask), 0


Ids = tuple[list[int], list[list[int]]]
"""Token ids of the prompt, templated in a chat, and of each continuation, tokenised separately."""


async def _ids(prompt: str, words: Sequence[str], server: Server, ask: Ask, known: dict[str, list[int]]) -> Ids:
    """Tokenise; the tokens of continuations are cached because labels repeat."""
    messages = [{"role": "user", "content": prompt}]
    new = [word for word in dict.fromkeys(words) if word not in known]
    if server.kind.name == "vllm":
        head: dict[str, Any] = {"messages": messages} if server.chat else {"prompt": prompt}
        tails = [{"prompt": word, "add_special_tokens": False} for word in new]
    elif server.kind.name == "llamacpp":
        if server.chat:
            prompt = str((await ask("/apply-template", {"messages": messages})).get("prompt", ""))
        head = {"content": prompt, "add_special": True, "parse_special": True}
        tails = [{"content": word, "add_special": False} for word in new]
    else:
        raise BackendError(
            f"score={server.score} needs a server that exposes its tokenizer (vllm, llamacpp), not one of kind "
            f"{server.kind.name!r}; labels of one token can use score=first"
        )
    answers = await aio.gather(ask("/tokenize", body) for body in [head, *tails])
    id_lists: list[list[int]] = []
    for answer, text in zip(answers, [prompt[-60:], *new], strict=True):
        ids = answer.get("tokens")
        if not isinstance(ids, list) or not ids:
            raise BackendError(f"the server's tokenizer returns no tokens for {text!r}")
        id_lists.append(ids)
    ids_of = {**known, **dict(zip(new, id_lists[1:], strict=True))}
    if len(known) < _KEPT:
        known.update({word: ids_of[word] for word in new})
    return id_lists[0], [ids_of[word] for word in words]


async def _echo_ids(prompt: list[int], tails: list[list[int]], ask: Ask) -> Scores:
    rows = [prompt + tail for tail in tails]
    answer = await ask("completions", {"prompt": rows, "echo": True, "logprobs": 1, "max_tokens": 1, **PLAIN})
    values = [
        row[len(prompt) : len(prompt) + len(tail)] for row, tail in zip(echoed(answer, len(rows)), tails, strict=True)
    ]
    return _scores(map(_sum, values), map(len, tails), usage(answer))


async def _echo_texts(prompt: str, words: Sequence[str], server: Server, ask: Ask) -> Scores:
    """Score by one request that also contains the prompt alone, whose tokens do not count."""
    if server.chat:
        raise BackendError("score=echo in a chat needs a server of kind vllm; set chat=false or score=first")
    rows = [prompt, *(prompt + word for word in words)]
    answer = await ask("completions", {"prompt": rows, "echo": True, "logprobs": 1, "max_tokens": 1, **PLAIN})
    prompt_row, *continued = echoed(answer, len(rows))
    # A first token that merges with the last one of the prompt leaves the number of tokens unchanged.
    lengths = [max(1, len(row) - len(prompt_row)) for row in continued]
    return _scores(
        (_sum(row[-length:]) for row, length in zip(continued, lengths, strict=True)), lengths, usage(answer)
    )


async def _top(ids: Ids, words: Sequence[str], server: Server, tops: int, ask: Ask) -> tuple[Scores, int]:
    prompt, tails = ids
    if max(map(len, tails)) > LONGEST:
        raise BackendError(
            f"a continuation has {max(map(len, tails))} tokens ({max(words, key=len)!r:.60}), and each of them "
            f"needs a request; the limit is {LONGEST} here, and none on vLLM and SGLang"
        )

    async def look_up(places: set[tuple[int, ...]], number: int) -> dict[tuple[int, ...], dict[int, float]]:
        ordered = sorted(places)
        bodies = [{"prompt": [*prompt, *place], "max_tokens": 1, "logprobs": number, **PLAIN} for place in ordered]
        answers = await aio.gather(ask("completions", body) for body in bodies)
        return {place: _required(next_ids(answer)) for place, answer in zip(ordered, answers, strict=True)}

    wanted = {(tuple(tail[:place]), tail[place]) for tail in tails for place in range(len(tail))}
    reported = await look_up({place for place, _ in wanted}, tops)
    unreported = {place for place, token in wanted if token not in reported[place]}
    if unreported and server.kind.max_top_logprobs is not None:
        reported |= await look_up(unreported, server.kind.max_top_logprobs)
    missing = {place for place, token in wanted if token not in reported[place]}
    values = [
        math.fsum(reported[before].get(token, _bound(reported[before].values())) for before, token in _steps(tail))
        for tail in tails
    ]
    # llama.cpp caches prompts, so the look-ups cost one prompt and its continuations.
    return _scores(values, map(len, tails), Usage(1, len(prompt) + sum(map(len, tails)), 0)), len(missing)


def _steps(tail: Sequence[int]) -> list[tuple[tuple[int, ...], int]]:
    """Each token with its prefix."""
    return [(tuple(tail[:place]), token) for place, token in enumerate(tail)]


async def _first(prompt: str, words: Sequence[str], server: Server, tops: int, ask: Ask) -> tuple[Scores, int]:
    endpoint, body = prompt_fields(prompt, chat=server.chat)
    more = {"logprobs": True, "top_logprobs": tops} if server.chat else {"logprobs": min(tops, _COMPLETIONS_TOPS)}
    answer = await ask(endpoint, {**body, "max_tokens": 1, **more, **PLAIN})
    reported = _required(next_tokens(answer))
    values, missing = [], 0
    for word in words:
        same = [value for token, value in reported.items() if token == word or (server.chat and token.strip() == word)]
        begun = [token for token in reported if token.strip() and word.startswith(token)]
        if same:
            values.append(math.log(math.fsum(map(math.exp, same))))
        elif begun:
            raise BackendError(
                f"the label {word!r} is more than one token ({begun[0]!r} begins it), and this server reports "
                "the first token only; use labels of one token, or --evaluator value"
            )
        else:
            values.append(_bound(reported.values()))
            missing += 1
    if missing == len(words):
        raise BackendError(
            f"none of {', '.join(map(repr, words))} is among the {len(reported)} most likely first tokens "
            f"({', '.join(map(repr, list(reported)[:5]))} ...); use --evaluator value, or a prompt that asks for "
            "the label alone"
        )
    return _scores(values, [1] * len(words), usage(answer)), missing


def _required(logprobs: dict[Token, float] | None) -> dict[Token, float]:
    if logprobs is None:
        raise BackendError("the server returned none of the requested log-probabilities; use --evaluator value")
    return logprobs


def _bound(reported: Iterable[float]) -> float:
    """An upper bound of the log-probability of a token that the server did not report."""
    values = list(reported)
    left = 1.0 - math.fsum(map(math.exp, values))
    return min(*values, math.log(left)) if left > 0 else min(values)


def _scores(values: Iterable[float], lengths: Iterable[int], spent: Usage) -> Scores:
    cost = Usage(1, spent.prompt_tokens, spent.completion_tokens)
    return Scores(tuple(min(0.0, value) for value in values), tuple(lengths), cost)


def _sum(values: Sequence[float | None]) -> float:
    return math.fsum(value for value in values if value is not None)


_KEPT = 1000
"""Continuations whose tokens are cached."""
_COMPLETIONS_TOPS = 5
"""Most log-probabilities per token that OpenAI's own completions report."""
