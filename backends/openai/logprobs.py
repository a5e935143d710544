"""Log-likelihoods of continuations, by the three methods that servers offer.

``echo``: the server reports the log-probability of every token of a prompt (vLLM, SGLang). Exact.
``top``: the server reports any number of most likely next tokens and exposes its tokenizer (llama.cpp). Each token of a
continuation is looked up after its prefix. Exact.
``first``: the server reports about twenty most likely first tokens of a reply (hosted models). Labels have one token.
A label that is not among them gets an upper bound: it is at most as likely as the least likely reported token, and as
all unreported tokens together.

``echo`` and ``top`` tokenise a continuation together with its prompt; see :mod:`.tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from treeagent import aio
from treeagent.errors import BackendError
from treeagent.reply import Scores, Usage
from treeagent.request import ScoreRequest

from .answers import Rejected
from .probe import Server
from .protocol import Answer, echoed, next_ids, next_tokens, prompt_fields, usage
from .tokens import Ask, Continuation, Ids, TokenCache, token_ids

Token = TypeVar("Token", int, str)

LONGEST = 64
"""Most tokens of a continuation that ``top`` looks up, with one request for each."""
PLAIN = {"temperature": 1.0, "top_p": 1.0}
"""No warping: servers differ in whether log-probabilities are those before or after it."""


async def score(request: ScoreRequest, server: Server, tops: int, ask: Ask, known: TokenCache) -> tuple[Scores, int]:
    """Scores and the number of upper bounds among them; ``known`` keeps token ids. Raises BackendError."""
    # A chat template ends with a line break, after which words begin without a space.
    words = [word.lstrip(" ") for word in request.continuations] if server.chat else list(request.continuations)
    if not server.chat:
        prompt_fields(request.prompt, request.chat, server.kind, in_chat=server.chat)  # refuses what needs a chat
    if not words:
        return Scores((), (), Usage(1, 0, 0)), 0
    if server.score == "first":
        return await _first(request, words, server, tops, ask)
    if server.score == "top":
        return await _top(await token_ids(request, words, server, ask, known), words, server, tops, ask)
    if server.kind.name != "vllm":
        return await _echo_texts(request.prompt, words, server, ask), 0
    try:
        ids = await token_ids(request, words, server, ask, known)
    except Rejected as error:
        if error.status != 404 or server.chat:  # some gateways do not forward the tokenizer
            raise
        return await _echo_texts(request.prompt, words, server, ask), 0
    return await _echo_ids(*ids, ask), 0


async def _echo_ids(prompt: list[int], tails: list[Continuation], ask: Ask) -> Scores:
    starts = [tail.after(prompt) for tail in tails]
    rows = [[*start, *tail.tokens] for start, tail in zip(starts, tails, strict=True)]
    answer = await ask("completions", {"prompt": rows, "echo": True, "logprobs": 1, "max_tokens": 1, **PLAIN})
    values = []
    for row, start, ids in zip(echoed(answer, len(rows)), starts, rows, strict=True):
        if len(row) != len(ids):
            raise answer.fault(f"the server was asked to echo {len(ids)} tokens and answered with {len(row)}")
        values.append(_sum(row[max(1, len(start)) :], answer))  # the first token of a row has no log-probability
    return _scores(values, (len(tail.tokens) for tail in tails), usage(answer))


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
        (_sum(row[-length:], answer) for row, length in zip(continued, lengths, strict=True)), lengths, usage(answer)
    )


async def _top(ids: Ids, words: Sequence[str], server: Server, tops: int, ask: Ask) -> tuple[Scores, int]:
    prompt, tails = ids
    longest = max(len(tail.tokens) for tail in tails)
    if longest > LONGEST:
        raise BackendError(
            f"a continuation has {longest} tokens ({max(words, key=len)!r:.60}), and each of them "
            f"needs a request; the limit is {LONGEST} here, and none on vLLM and SGLang"
        )

    async def look_up(places: set[Place], number: int) -> dict[Place, dict[int, float]]:
        ordered = sorted(places)
        bodies = [
            {"prompt": [*prompt[: len(prompt) - merged], *before], "max_tokens": 1, "logprobs": number, **PLAIN}
            for merged, before in ordered
        ]
        answers = await aio.gather(ask("completions", body) for body in bodies)
        return {place: _required(next_ids(answer)) for place, answer in zip(ordered, answers, strict=True)}

    wanted = {step for tail in tails for step in _steps(tail)}
    reported = await look_up({place for place, _ in wanted}, tops)
    unreported = {place for place, token in wanted if token not in reported[place]}
    if unreported and server.kind.max_top_logprobs is not None:
        reported |= await look_up(unreported, server.kind.max_top_logprobs)
    missing = {place for place, token in wanted if token not in reported[place]}
    values = [
        math.fsum(reported[place].get(token, _bound(reported[place].values())) for place, token in _steps(tail))
        for tail in tails
    ]
    lengths = [len(tail.tokens) for tail in tails]
    # llama.cpp caches prompts, so the look-ups cost one prompt and its continuations.
    return _scores(values, lengths, Usage(1, len(prompt) + sum(lengths), 0)), len(missing)


Place = tuple[int, tuple[int, ...]]
"""Number of the prompt's last tokens that are replaced, and the tokens that stand in their place."""


def _steps(tail: Continuation) -> list[tuple[Place, int]]:
    """Each token with its place."""
    return [((tail.merged, tail.tokens[:place]), token) for place, token in enumerate(tail.tokens)]


async def _first(
    request: ScoreRequest, words: Sequence[str], server: Server, tops: int, ask: Ask
) -> tuple[Scores, int]:
    endpoint, body = prompt_fields(request.prompt, request.chat, server.kind, in_chat=server.chat)
    more = {"logprobs": True, "top_logprobs": tops} if server.chat else {"logprobs": min(tops, _COMPLETIONS_TOPS)}
    answer = await ask(endpoint, {**body, "max_tokens": 1, **more, **PLAIN})
    reported = _required(next_tokens(answer))
    values, missing = [], 0
    for word in words:
        same = [value for token, value in reported.items() if token == word or (server.chat and token.strip() == word)]
        begun = [token for token in reported if token.strip() and word.startswith(token)]
        if same:
            most = max(same)
            values.append(most + math.log(math.fsum(math.exp(value - most) for value in same)))
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


def _sum(values: Sequence[float | None], answer: Answer) -> float:
    """The sum over a continuation. Raises BackendError where a value is missing."""
    if None in values:
        raise answer.fault("the reply lacks the log-probability of a token of a continuation")
    return math.fsum(value for value in values if value is not None)


_COMPLETIONS_TOPS = 5
"""Most log-probabilities per token that OpenAI's own completions report."""
