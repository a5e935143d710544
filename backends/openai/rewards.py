"""Rewards of steps from a server that serves a process reward model: vLLM's ``/pooling``.

A server with the pooling type ``STEP`` answers with one row for each mark of the text: the probabilities of a wrong and
a right step (a classifier such as Qwen2.5-Math-PRM), of the two tokens that the server was told (Math-Shepherd, the
right one first), or that of a right step alone.
"""

from __future__ import annotations

import math

from treeagent.errors import BackendError
from treeagent.reply import Scores, Usage
from treeagent.request import RewardRequest

from .protocol import Answer
from .replies import ReplyRecord, ReplyUsage, read_reply
from .tokens import Ask

PATH = "/pooling"


class PooledText(ReplyRecord):
    """What the server says of one text."""

    data: list[list[float] | float]


class PoolingReply(ReplyRecord):
    """What is read of the reply."""

    data: list[PooledText]
    usage: ReplyUsage = ReplyUsage()


async def rewards(request: RewardRequest, ask: Ask, *, chat: bool) -> Scores:
    """The log-rewards of the steps, which a ``chat`` has as the assistant's message. Raises BackendError."""
    steps = "".join(f"{step}{request.mark}" for step in request.continuations)
    question = {"role": "user", "content": request.prompt.rstrip("\n")}
    body = (
        {"messages": [question, {"role": "assistant", "content": steps}], "add_generation_prompt": False}
        if chat
        else {"input": request.prompt + steps}
    )
    answer = await ask(PATH, body)
    reply = read_reply(PoolingReply, answer.data, answer.where)
    texts = reply.data
    rows = texts[0].data if len(texts) == 1 else []
    if len(rows) != len(request.continuations):
        raise answer.fault(
            f"expected {len(request.continuations)} rewards, one for each mark {request.mark!r}, got {len(rows)}. The "
            "server must read rewards at that mark alone (vLLM: pooling type STEP with step_tag_id, see docs/openai.md)"
        )
    logprobs = tuple(_logarithm(row, request, answer) for row in rows)
    return Scores(logprobs, tuple(1 for _ in logprobs), Usage(1, reply.usage.prompt_tokens, 0))


def _logarithm(row: list[float] | float, request: RewardRequest, answer: Answer) -> float:
    """Of the probability that the step is right. Raises BackendError for what is none."""
    values = row if isinstance(row, list) else [row]
    if len(values) not in (1, 2) or not all(0 <= value <= 1 for value in values):
        raise _no_probabilities(values, answer)
    chance = values[-1] if request.good is None else values[0]
    return math.log(chance) if chance > 0 else -math.inf


def _no_probabilities(values: list[float], answer: Answer) -> BackendError:
    return answer.fault(
        f"expected the probability of a right step, or of a wrong and a right one, got {str(values)[:60]}; the server "
        "must apply softmax or sigmoid itself"
    )
