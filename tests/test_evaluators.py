"""The six evaluators."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import TASK, CheckedTask, TreeBackend, solve, task

from treeagent import (
    Agent,
    CapabilityError,
    Checker,
    ConfigError,
    Judgement,
    PluginError,
    Request,
    Result,
    ScoreRequest,
    Scores,
    Usage,
    YamlTask,
)
from treeagent.backends.scripted import ScriptedBackend
from treeagent.strategies.bfs import BFS
from treeagent.strategies.evaluators import Choice, Likelihood, Reward, TaskVerifier, Value, Vote

TREE = [1, 2, 3]


def judgements(result: Result) -> list[Judgement | None]:
    return [thought.judgement for thought in result.tree if thought.parent is not None]


# value


@settings(deadline=None, max_examples=30)
@given(st.lists(st.none() | st.integers(0, 30), min_size=1, max_size=6))
def test_value_is_the_mean_of_what_parsed(samples: list[int | None]) -> None:
    """Each sample counts once; unparsed ones are counted apart, and nothing parsed is None, not 0."""

    class Dealt(TreeBackend):
        def _text(self, request: Request, sample: int) -> str:
            if request.prompt.startswith("value"):
                return "hm" if (value := samples[sample]) is None else f"v{value}"
            return super()._text(request, sample)

    [judgement] = judgements(solve(Dealt([1]), BFS(), Value(samples=len(samples))))
    known = [sample for sample in samples if sample is not None]
    assert judgement is not None
    assert judgement.value == (sum(known) / len(known) if known else None)
    assert judgement.labels == tuple(f"v{sample}" for sample in known)
    assert judgement.unparsed == len(samples) - len(known)


# choice


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-2000, 0), min_size=31, max_size=31), st.integers(-(10**4), 10**4))
def test_choice_is_the_expected_score(logprobs: list[int], shift: int) -> None:
    """Probabilities are normalised over the labels, far below the range of floats too; it always parses."""

    class Scored(TreeBackend):
        add = 0

        async def score(self, request: ScoreRequest) -> Scores:
            assert request.continuations == tuple(f" v{value}" for value in range(31))
            return Scores(tuple(each + self.add for each in logprobs), (1,) * 31, Usage(1, 1, 0))

    [judgement] = judgements(solve(Scored([1]), BFS(), Choice()))
    best = max(logprobs)
    weights = [math.exp(each - best) for each in logprobs]
    assert judgement is not None
    assert judgement.value == pytest.approx(sum(i * w for i, w in enumerate(weights)) / sum(weights))
    assert judgement.labels == (f"v{logprobs.index(best)}",)
    assert judgement.unparsed == 0
    Scored.add = shift
    [moved] = judgements(solve(Scored([1]), BFS(), Choice()))
    assert moved is not None
    assert moved.value == pytest.approx(judgement.value, abs=1e-6)


def test_choice_makes_one_request_a_thought() -> None:
    """One forward pass, and no generation for judging."""
    backend = TreeBackend(TREE)
    result = solve(backend, BFS(), Choice())
    assert sum(isinstance(request, ScoreRequest) for request in backend.requests) == 3
    assert not [r for r in backend.requests if isinstance(r, Request) and r.prompt.startswith("value")]
    values = [judgement.value for judgement in judgements(result) if judgement]
    assert values == sorted(values)


# vote


@pytest.mark.parametrize(
    ("votes", "shares", "unparsed"),
    [
        (["2", "choice 2", "3"], [0.0, 2 / 3, 1 / 3], 0),
        (["I like 1 but 3", "The best choice is 3"], [0.0, 0.0, 1.0], 1),
        (["0", "4", "none", "1"], [1.0, 0.0, 0.0], 3),
        (["none", "17"], [None, None, None], 2),
        (["1" * 5000, "2"], [0.0, 1.0, 0.0], 1),
    ],
)
def test_a_vote_gives_shares(votes: list[str], shares: list[float | None], unparsed: int) -> None:
    """The choice that is stated counts; numbers of no choice are unparsed, booked once; no vote at all is unknown."""

    class Voting(TreeBackend):
        def _text(self, request: Request, sample: int) -> str:
            return votes[sample] if request.prompt.startswith("best") else super()._text(request, sample)

    backend = Voting(TREE)
    result = solve(backend, BFS(), Vote(samples=len(votes)))
    assert backend.prompts("best") == ["best of ra rb rc "]
    assert [judgement.value for judgement in judgements(result) if judgement] == shares
    assert result.counts.judgements_unparsed == unparsed


# likelihood


def test_likelihood_is_the_mean_token_probability_of_the_step() -> None:
    """The step is scored after its parent's ``sample`` prompt; the value is the geometric mean over its tokens."""

    class Scored(TreeBackend):
        async def score(self, request: ScoreRequest) -> Scores:
            self.requests.append(request)
            return Scores((math.log(0.25),), (2,), Usage(1, 1, 0))

    backend = Scored([[5]])
    result = solve(backend, BFS(), Likelihood())
    assert [judgement.value for judgement in judgements(result) if judgement] == [pytest.approx(0.5)] * 2
    asked = [request for request in backend.requests if isinstance(request, ScoreRequest)]
    assert [request.continuations for request in asked] == [("ra",), ("raa end",)]
    assert asked[1].prompt == "a child of ra after ra\n"


def test_likelihood_of_an_empty_step_is_no_crash() -> None:
    """No tokens: certain."""

    class Scored(TreeBackend):
        async def score(self, request: ScoreRequest) -> Scores:
            return Scores((0.0,), (0,), Usage(1, 1, 0))

    [judgement] = judgements(solve(Scored([1]), BFS(), Likelihood()))
    assert judgement == Judgement(1.0)


# reward


@pytest.mark.parametrize(("alpha", "value"), [(0.0, 25.0), (0.5, math.sqrt(0.5 * 25)), (1.0, 0.5)])
def test_reward_is_the_product_of_likelihood_and_self_evaluation(alpha: float, value: float) -> None:
    """Powers ``alpha`` and 1 - ``alpha``; at the ends it is ``likelihood`` or ``choice`` alone."""

    class Scored(TreeBackend):
        async def score(self, request: ScoreRequest) -> Scores:
            if request.prompt.startswith("a child"):
                return Scores((math.log(0.25),), (2,), Usage(1, 1, 0))
            even = [0.0 if text in (" v20", " v30") else -1e3 for text in request.continuations]
            return Scores(tuple(even), tuple(1 for _ in even), Usage(1, 1, 0))

    [judgement] = judgements(solve(Scored([1]), BFS(), Reward(alpha)))
    assert judgement is not None
    assert (judgement.value, judgement.labels) == (pytest.approx(value), ("v20",))


def test_reward_refuses_labels_below_zero_and_wrong_powers() -> None:
    """A power of something negative is no reward."""
    with pytest.raises(ConfigError, match=r"'reward'.*evaluate\.labels"):
        Agent(task(**{"v1: 1,": "v1: -1,"}), "rap", backend=TreeBackend(TREE), evaluator="reward")
    with pytest.raises(ConfigError, match="'alpha'"):
        Agent(task(), "rap", backend=TreeBackend(TREE), evaluator="reward", options={"evaluator.alpha": 1.5})


# verifier


class Knows(Checker):
    """Verifies ``rb`` by its steps or its answer."""

    def verify(self, input: str, steps: Any, answer: str | None) -> bool:
        """Whether it is the one that is right."""
        return (answer or steps[-1].split()[0]) == "rb"


def test_the_verifier_judges_finished_thoughts_only() -> None:
    """1 and 0 for finished thoughts, unknown for the rest, and not one request."""
    checked = CheckedTask(Knows())
    backend = TreeBackend([[4], 2, 3])
    result = solve(backend, BFS(), TaskVerifier(), task=checked)
    values = {thought.state: thought.value for thought in result.tree if thought.parent is not None}
    assert values == {"ra": None, "rb": 1.0, "rc": 0.0}
    assert (result.answer, result.solved) == ("rb", True)
    assert not backend.prompts("value")


def test_the_verifier_is_refused_for_a_task_that_cannot_verify() -> None:
    """Before the first request, with the task's name."""
    backend = TreeBackend(TREE)
    with pytest.raises(ConfigError, match=r"'verifier'.*'synthetic'"):
        Agent(task(), "bfs", backend=backend, evaluator="verifier")
    assert not backend.requests


# What each needs


@pytest.mark.parametrize(
    ("evaluator", "role"),
    [
        ("value", "value"),
        ("choice", "value"),
        ("vote", "vote"),
        ("likelihood", "sample"),
        ("reward", "sample"),
        ("reward", "value"),
    ],
)
def test_a_missing_prompt_is_refused_at_once(evaluator: str, role: str) -> None:
    """The error names the evaluator and the prompt."""
    less = YamlTask(re.sub(rf"(?m)^  {role}: .*of.*\n", "", TASK))
    assert not less.has(role)
    with pytest.raises(ConfigError, match=rf"'{evaluator}'.*prompts.{role}"):
        Agent(less, "bfs", backend=TreeBackend(TREE), evaluator=evaluator)


@pytest.mark.parametrize("evaluator", ["choice", "likelihood", "reward"])
def test_scoring_evaluators_need_a_backend_that_scores(evaluator: str) -> None:
    """The error says what the backend does offer."""
    with pytest.raises(CapabilityError, match=rf"'{evaluator}'.*score.*'scripted'.*generate"):
        Agent(task(), "bfs", backend=ScriptedBackend([]), evaluator=evaluator)


def test_a_reply_with_too_few_judgements_is_a_bug_not_a_silence() -> None:
    """An evaluator of a third party that forgets a thought fails loudly."""

    class Lazy(Value):
        async def judge(self, thoughts: Any, context: Any) -> list[Judgement]:
            return []

    with pytest.raises(PluginError, match=r"Lazy.*0 judgements for 1 thoughts"):
        solve(TreeBackend(TREE), BFS(), Lazy())
