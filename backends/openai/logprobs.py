"""Log-likelihoods of continuations, in the three ways that servers allow.

``echo``: the server tells the log-probability of every token of a prompt (vLLM, SGLang); exact.
``top``: it tells the likeliest next tokens of a prompt, as many as one likes, and shows its tokenizer (llama.cpp): each
token of a continuation is looked up after those before it; exact.
``first``: it tells some twenty of the likeliest first tokens of an answer (hosted models); labels of one token only.
One that is not among them gets an upper bound: it cannot be likelier than the least likely token that was told, nor
than all those together that were not.
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
from .protocol import echoed, next_ids, next_tokens, question, usage

Token = TypeVar("Token", int, str)
Ask = Callable[[str, "dict[str, Any]"], Coroutine[Any, Any, "dict[str, Any]"]]
"""Endpoint and body, or a path from the server's root on (``/tokenize``), to the answer's object."""

LONGEST = 64
"""Tokens of a continuation that ``top`` looks up; each is a request."""
PLAIN = {"temperature": 1.0, "top_p": 1.0}
"""Servers differ in whether log-probabilities are those before or after warping; so there is none."""


async def score(
    request: ScoreRequest, server: Server, tops: int, ask: Ask, known: dict[str, list[int]]
) -> tuple[Scores, int]:
    """Scores, and how many of them are upper bounds; ``known`` keeps tokens of continuations. Raises BackendError."""
    # A chat template ends with a fresh line, where a model's words begin without a space.
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
        if error.status != 404 or server.chat:  # some gateways pass on the API alone, without the tokenizer
            raise
        return await _echo_texts(request.prompt, words, server, ask), 0
    return await _echo_ids(*ids, ask), 0


Ids = tuple[list[int], list[list[int]]]
"""Of the prompt, templated where there is a chat, and of each continuation, tokenised apart."""


async def _ids(prompt: str, words: Sequence[str], server: Server, ask: Ask, known: dict[str, list[int]]) -> Ids:
    """Labels are the same every time: their tokens are asked for once."""
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
            f"score={server.score} needs a server that shows its tokenizer (vllm, llamacpp), not one of kind "
            f"{server.kind.name!r}; with labels of one token score=first will do"
        )
    answers = await aio.gather(ask("/tokenize", body) for body in [head, *tails])
    found: list[list[int]] = []
    for answer, text in zip(answers, [prompt[-60:], *new], strict=True):
        ids = answer.get("tokens")
        if not isinstance(ids, list) or not ids:
            raise BackendError(f"the server's tokenizer makes nothing of {text!r}")
        found.append(ids)
    here = {**known, **dict(zip(new, found[1:], strict=True))}
    if len(known) < _KEPT:
        known.update({word: here[word] for word in new})
    return found[0], [here[word] for word in words]


async def _echo_ids(prompt: list[int], tails: list[list[int]], ask: Ask) -> Scores:
    rows = [prompt + tail for tail in tails]
    answer = await ask("completions", {"prompt": rows, "echo": True, "logprobs": 1, "max_tokens": 1, **PLAIN})
    told = [
        row[len(prompt) : len(prompt) + len(tail)] for row, tail in zip(echoed(answer, len(rows)), tails, strict=True)
    ]
    return _scores(map(_sum, told), map(len, tails), usage(answer))


async def _echo_texts(prompt: str, words: Sequence[str], server: Server, ask: Ask) -> Scores:
    """All in one request, and the prompt alone as well: its tokens are not the continuation's."""
    if server.chat:
        raise BackendError("score=echo in a chat needs a server of kind vllm; say chat=false, or score=first")
    rows = [prompt, *(prompt + word for word in words)]
    answer = await ask("completions", {"prompt": rows, "echo": True, "logprobs": 1, "max_tokens": 1, **PLAIN})
    alone, *told = echoed(answer, len(rows))
    # Where the continuation's first token takes the prompt's last in, both have the same number of tokens.
    lengths = [max(1, len(row) - len(alone)) for row in told]
    return _scores((_sum(row[-length:]) for row, length in zip(told, lengths, strict=True)), lengths, usage(answer))


async def _top(ids: Ids, words: Sequence[str], server: Server, tops: int, ask: Ask) -> tuple[Scores, int]:
    prompt, tails = ids
    if max(map(len, tails)) > LONGEST:
        raise BackendError(
            f"a continuation has {max(map(len, tails))} tokens ({max(words, key=len)!r:.60}), and each of them "
            f"would be a request; at most {LONGEST} can be scored here, any number on vLLM and SGLang"
        )

    async def ask_next(places: set[tuple[int, ...]], number: int) -> dict[tuple[int, ...], dict[int, float]]:
        ordered = sorted(places)
        bodies = [{"prompt": [*prompt, *place], "max_tokens": 1, "logprobs": number, **PLAIN} for place in ordered]
        answers = await aio.gather(ask("completions", body) for body in bodies)
        return {place: _told(next_ids(answer)) for place, answer in zip(ordered, answers, strict=True)}

    wanted = {(tuple(tail[:place]), tail[place]) for tail in tails for place in range(len(tail))}
    told = await ask_next({place for place, _ in wanted}, tops)
    beyond = {place for place, token in wanted if token not in told[place]}
    if beyond and server.kind.widest is not None:
        told |= await ask_next(beyond, server.kind.widest)
    missing = {place for place, token in wanted if token not in told[place]}
    values = [
        math.fsum(told[before].get(token, _bound(told[before].values())) for before, token in _steps(tail))
        for tail in tails
    ]
    # llama.cpp keeps what it has read: to it the look-ups are one prompt and its continuations.
    return _scores(values, map(len, tails), Usage(1, len(prompt) + sum(map(len, tails)), 0)), len(missing)


def _steps(tail: Sequence[int]) -> list[tuple[tuple[int, ...], int]]:
    """Each token, with those before it."""
    return [(tuple(tail[:place]), token) for place, token in enumerate(tail)]


async def _first(prompt: str, words: Sequence[str], server: Server, tops: int, ask: Ask) -> tuple[Scores, int]:
    endpoint, body = question(prompt, chat=server.chat)
    more = {"logprobs": True, "top_logprobs": tops} if server.chat else {"logprobs": min(tops, _COMPLETIONS_TOPS)}
    answer = await ask(endpoint, {**body, "max_tokens": 1, **more, **PLAIN})
    told = _told(next_tokens(answer))
    values, missing = [], 0
    for word in words:
        same = [value for token, value in told.items() if token == word or (server.chat and token.strip() == word)]
        begun = [token for token in told if token.strip() and word.startswith(token)]
        if same:
            values.append(math.log(math.fsum(map(math.exp, same))))
        elif begun:
            raise BackendError(
                f"the label {word!r} is more than one token ({begun[0]!r} begins it), and this server tells the first "
                "token only; use labels of one token, or --evaluator value"
            )
        else:
            values.append(_bound(told.values()))
            missing += 1
    if missing == len(words):
        raise BackendError(
            f"none of {', '.join(map(repr, words))} is among the {len(told)} likeliest first tokens "
            f"({', '.join(map(repr, list(told)[:5]))} ...); use --evaluator value, or a prompt that asks for "
            "the label alone"
        )
    return _scores(values, [1] * len(words), usage(answer)), missing


def _told(found: dict[Token, float] | None) -> dict[Token, float]:
    if found is None:
        raise BackendError("the server was asked for log-probabilities and told none; use --evaluator value")
    return found


def _bound(told: Iterable[float]) -> float:
    """No token that is not told is likelier than this."""
    values = list(told)
    left = 1.0 - math.fsum(map(math.exp, values))
    return min(*values, math.log(left)) if left > 0 else min(values)


def _scores(values: Iterable[float], lengths: Iterable[int], spent: Usage) -> Scores:
    cost = Usage(1, spent.prompt_tokens, spent.completion_tokens)
    return Scores(tuple(min(0.0, value) for value in values), tuple(lengths), cost)


def _sum(values: Sequence[float | None]) -> float:
    return math.fsum(value for value in values if value is not None)


_KEPT = 1000
"""Continuations whose tokens are kept."""
_COMPLETIONS_TOPS = 5
"""What OpenAI's own completions tell at most."""
