"""Rewards of steps from a server, and what is said of one that gives none."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from helpers import Oracle
from openai_server import Answer, Asked, Model, Server, error

from treeagent import Agent, BackendError, CapabilityError, RewardRequest
from treeagent.backends.openai.backend import OpenAIBackend

STEPS = ("4 + 5 = 9", "9 * 2 = 18")


class Pooling:
    """A vLLM that serves a process reward model, whose rows are given for so many marks."""

    def __init__(self, row: Any = (0.25, 0.75), marks: int | None = None) -> None:
        self.row, self.marks = row, marks

    def __call__(self, asked: Asked) -> Answer:
        if asked.path != "/pooling":
            return Model(chat=False, completions=False)(asked)
        text = asked.body["messages"][1]["content"] if "messages" in asked.body else asked.body["input"]
        count = text.count("<extra_0>") if self.marks is None else self.marks
        pooled = {"index": 0, "data": [list(self.row) if isinstance(self.row, tuple) else self.row] * count}
        return Answer({"data": [pooled], "usage": {"prompt_tokens": 30, "completion_tokens": 0, "total_tokens": 30}})


def told(handler: Any, request: RewardRequest, **options: Any) -> tuple[Any, Any]:
    """The scores, and the body that the server got last."""
    with Server(handler).listening() as server:
        scores = asyncio.run(OpenAIBackend(base_url=server.url, **options).score(request))
        return scores, server.asked[-1].body


@pytest.mark.parametrize(
    ("row", "tokens", "reward"),
    [((0.25, 0.75), (), 0.75), ((0.25, 0.75), ("+", "-"), 0.25), (0.6, (), 0.6), ((0.0,), (), 0.0)],
)
def test_rewards_are_read_from_rows_of_one_or_two_probabilities(row: Any, tokens: Any, reward: float) -> None:
    """The right class is the last one, of two tokens the first; a reward of 0 is minus infinity."""
    good, bad = tokens or (None, None)
    scores, body = told(Pooling(row), RewardRequest("Numbers: 4 5\n", STEPS, good=good, bad=bad))
    assert scores.logprobs == pytest.approx([math.log(reward) if reward else -math.inf] * 2)
    assert scores.usage.prompt_tokens == 30
    assert body["messages"] == [
        {"role": "user", "content": "Numbers: 4 5"},
        {"role": "assistant", "content": "4 + 5 = 9<extra_0>9 * 2 = 18<extra_0>"},
    ]


def test_without_a_chat_problem_and_steps_are_one_text() -> None:
    """As the prompt ends."""
    _, body = told(Pooling(), RewardRequest("Numbers: 4 5\n", STEPS), chat=False)
    assert body["input"] == "Numbers: 4 5\n4 + 5 = 9<extra_0>9 * 2 = 18<extra_0>"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Pooling(marks=40), r"expected 2 rewards, one for each mark '<extra_0>', got 40"),
        (Pooling(row=(3.5, -1.0)), r"expected the probability .* got \[3.5, -1.0\]"),
        (Pooling(row="good"), r"malformed at data"),
        (lambda asked: error(404, "not served") if asked.path == "/pooling" else Pooling()(asked), "not served"),
    ],
)
def test_what_is_no_reward_is_one_line(handler: Any, message: str) -> None:
    """It names the address and what was expected."""
    with pytest.raises(BackendError, match=message) as caught:
        told(handler, RewardRequest("Numbers: 4 5\n", STEPS))
    assert "\n" not in str(caught.value)


def test_a_search_is_judged_by_the_server() -> None:
    """The judge is on the server, the generator elsewhere; a server of another kind is refused when it is known."""
    with Server(Pooling()).listening() as server:
        how: dict[str, Any] = {"evaluator": "prm", "evaluator_backend": "openai",
                               "options": {"evaluator_backend.base_url": server.url}}  # fmt: skip
        result = Agent("game24", "greedy", backend=Oracle(None, None), **how).solve("4 5 6 10")
    assert {thought.value for thought in result.tree if thought.parent is not None} == {math.exp(math.log(0.75))}
    assert result.judging.prompt_tokens == 30 * result.judging.calls
    with Server(Model("sglang")).listening() as server:
        how["options"] = {"evaluator_backend.base_url": server.url}
        with pytest.raises(CapabilityError, match="needs rewards"):
            Agent("game24", "greedy", backend=Oracle(None, None), **how).solve("4 5 6 10")
