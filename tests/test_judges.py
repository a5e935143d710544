"""The evaluators that think first, that compare pairs, and that judge finished answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from treeagent import Agent, Completion, ConfigError, Evaluator, Judgement, Reply, Request, Scores, Thought, Usage
from treeagent.backend import Backend
from treeagent.request import ScoreRequest
from treeagent.strategies.generative import Generative
from treeagent.strategies.outcome import OutcomeScorer
from treeagent.strategies.pairwise import Pairwise
from treeagent.taskfile.yaml_task import YamlTask

TASK = """
name: letters
description: Choose a letter.
metadata: {version: 1}
input: {description: letters, examples: ["abcdefgh"]}
depth: 2
thought: {state: "{{ text }}", terminal: "text != 'open'"}
evaluate: {labels: {good: 1.0, bad: 0.0}}
prompts:
  propose: "letters of {{ input }}"
  vote: "{% for choice in choices %}{{ choice.state }}{% endfor %}"
  critique: "check {{ state }}"
  outcome: "is {{ answer }} right for {{ input }}? steps {{ steps | join(' ') }}"
  io: "one of {{ input }}"
"""


class Judge(Backend):
    """Prefers a later letter, or with ``favourite`` whatever is shown first; it keeps what it is asked."""

    name = "judge"
    capabilities = frozenset({"generate", "score", "seed"})

    def __init__(self, letters: str = "abcdefgh", *, favourite: bool = False, reply: str | None = None) -> None:
        self.letters, self.favourite, self.reply = letters, favourite, reply
        self.asked: list[Request | ScoreRequest] = []

    async def generate(self, request: Request) -> Reply:
        """The letters, a vote, a critique or a label."""
        self.asked.append(request)
        text = {
            "propose": "\n".join(self.letters),
            "critique": f"I thought of {request.prompt[-1]}.\n",
            "outcome": "good" if "is h right" in request.prompt else "bad",
            "io": "h",
        }.get(request.key.role)
        if request.key.role == "vote":
            text = "1" if self.favourite or request.prompt[0] > request.prompt[1] else "2"
            text = self.reply or text
        return Reply(tuple(Completion(text or "") for _ in range(request.n)), Usage(1, 1, 1))

    async def score(self, request: ScoreRequest) -> Scores:
        """The later the letter, the likelier is the label ``good``."""
        self.asked.append(request)
        letter = request.prompt.removeprefix("check ")[0] if request.prompt.startswith("check") else request.prompt[-1]
        chance = (ord(letter) - ord("a") + 1) / 10
        logprobs = (math.log(chance), math.log(1 - chance))
        return Scores(logprobs, (1, 1), Usage(1, 1, 0))


def judged(judge: Judge, evaluator: Evaluator, **how: Any) -> dict[str, Judgement]:
    """The judgements of all letters."""
    result = Agent(YamlTask(TASK), "bfs", backend=judge, evaluator=evaluator, **how).solve("abcdefgh")
    return {thought.text: thought.judgement for thought in result.tree if thought.judgement is not None}


def test_a_generative_verifier_reads_the_odds_of_the_verdict_behind_its_critique() -> None:
    """The critique and the lead stand before each label; the value is the expected one over all critiques."""
    judge = Judge("bg")
    judgements = judged(judge, Generative(samples=2))
    assert judgements["g"].value == pytest.approx(0.7)
    assert judgements["g"].labels == ("good", "good")
    assert judgements["b"].value == pytest.approx(0.2)
    scored = [request for request in judge.asked if isinstance(request, ScoreRequest)]
    assert len(scored) == 4
    assert scored[0].prompt == "check bI thought of b.\nVerdict:"
    assert scored[0].continuations == (" good", " bad")


def test_a_verdict_without_a_likelihood_is_unparsed() -> None:
    """Of two critiques; the value is unknown, and not 0."""

    class Blind(Judge):
        async def score(self, request: ScoreRequest) -> Scores:
            return Scores((math.nan, -1.0), (1, 1), Usage(1, 1, 0))

    assert judged(Blind("b"), Generative(samples=2))["b"] == Judgement(None, (), 2)


def test_a_knock_out_finds_the_best_with_few_pairs() -> None:
    """Seven pairs in both orders for eight thoughts; who came further is worth more, and votes are in the labels."""
    judge = Judge("hacbedgf")
    judgements = judged(judge, Pairwise(samples=1))
    votes = [request for request in judge.asked if isinstance(request, Request) and request.key.role == "vote"]
    assert len(votes) == 14
    assert {request.prompt for request in votes} == {request.prompt[::-1] for request in votes}
    assert judgements["h"].value == 1.0
    assert max((each.value or 0.0, text) for text, each in judgements.items() if text != "h")[1] == "g"
    assert judgements["a"] == Judgement(0.0, ("under 1", "under 1"))
    assert judgements["h"].labels == ("over 2",) * 2 + ("over 3",) * 2 + ("over 7",) * 2


def test_a_round_robin_ranks_all() -> None:
    """All pairs; a value is the mean share of the votes."""
    judgements = judged(Judge("badc"), Pairwise("round-robin", samples=1))
    assert {text: each.value for text, each in judgements.items()} == {
        "a": 0.0, "b": pytest.approx(1 / 3), "c": pytest.approx(2 / 3), "d": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("tournament", ["knock-out", "round-robin"])
def test_a_preference_for_a_place_favours_nobody(tournament: Any) -> None:
    """A judge that always names the first one gives every pair a draw."""
    judgements = judged(Judge("abc", favourite=True), Pairwise(tournament, samples=1))
    assert all(sorted(vote.split()[0] for vote in each.labels).count("over") * 2 == len(each.labels)
               for each in judgements.values())  # fmt: skip
    if tournament == "round-robin":
        assert {each.value for each in judgements.values()} == {0.5}


def test_votes_that_cannot_be_read_are_counted_once() -> None:
    """Without any vote all values are unknown; an only thought has won without a request."""
    judgements = judged(Judge("abc", reply="%%%"), Pairwise(samples=1))
    assert [each.value for each in judgements.values()] == [None] * 3
    assert sum(each.unparsed for each in judgements.values()) == 4
    alone = Judge("a")
    assert judged(alone, Pairwise())["a"] == Judgement(1.0)
    assert len(alone.asked) == 1


@pytest.mark.parametrize("by", ["samples", "likelihood"])
def test_an_outcome_scorer_judges_finished_answers_alone(by: Any) -> None:
    """It sees the answer; the value of an unfinished thought is unknown, and no request is made for it."""
    judge = Judge("h")
    judge.letters = ["h", "open", "a"]  # type: ignore[assignment]
    judgements = judged(judge, OutcomeScorer(by, samples=None if by == "likelihood" else 1))
    assert judgements["open"] == Judgement(None)
    asked = [request.prompt for request in judge.asked if "right" in request.prompt]
    assert sorted(asked) == [f"is {x} right for abcdefgh? steps {x}" for x in "ah"]
    if by == "samples":
        assert (judgements["h"], judgements["a"]) == (Judgement(1.0, ("good",)), Judgement(0.0, ("bad",)))
    else:
        assert judgements["h"].labels == ("good",) or judgements["h"].labels == ("bad",)


def test_an_outcome_scorer_sees_the_answer_that_was_read() -> None:
    """Attempts carry their answers; a search may have them judged to choose among them."""
    from treeagent.search import Explorer, Search

    class Attempts(Search):
        async def run(self, explorer: Explorer) -> Thought | None:
            return (await explorer.evaluate(await explorer.attempt("io", 1)))[0]

    result = Agent(YamlTask(TASK), Attempts(), backend=Judge(), evaluator=OutcomeScorer()).solve("abcdefgh")
    assert result.thought is not None
    assert result.thought.judgement == Judgement(1.0, ("good",) * 3)


@pytest.mark.parametrize(
    ("evaluator", "role"), [("generative", "critique"), ("pairwise", "vote"), ("outcome", "outcome")]
)
def test_a_task_without_the_prompt_is_refused_at_once(evaluator: str, role: str) -> None:
    """In one line that names the prompt."""
    lines = "\n".join(line for line in TASK.splitlines() if not line.startswith(f"  {role}:"))
    with pytest.raises(
        ConfigError, match=rf"the evaluator '{evaluator}' needs a prompt; .* no prompt 'prompts\.{role}'"
    ):
        Agent(YamlTask(lines), "bfs", backend=Judge(), evaluator=evaluator)


@pytest.mark.parametrize("evaluator", ["generative", "pairwise", "outcome"])
def test_a_run_resumes_from_its_journal_without_asking_again(evaluator: str, tmp_path: Path) -> None:
    """The judgements are the same, from the answers that the journal holds."""
    path = tmp_path / "run.jsonl"
    first = Agent(YamlTask(TASK), "bfs", backend=Judge("cab"), evaluator=evaluator).solve("abcdefgh", journal=path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))  # without its end
    silent = Judge("cab")
    agent = Agent(YamlTask(TASK), "bfs", backend=silent, evaluator=evaluator)

    async def resumed() -> Any:
        return await agent.run("abcdefgh", journal=path, resume=True).result()

    import asyncio

    again = asyncio.run(resumed())
    assert not silent.asked
    assert again.tree.to_json() == first.tree.to_json()
