"""Values that are not finite are unknown: never ranked, never in a file, counted as unparsed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from treeagent import Agent, EvaluationContext, Evaluator, Judgement, Result, Thought, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.jsonl import strict
from treeagent.reply import Scores, Usage
from treeagent.request import Request, ScoreRequest
from treeagent.strategies.evaluators import Choice, Likelihood, Reward

LETTERS = """
name: letters
description: Some letters.
metadata: {{version: 1}}
input: {{description: anything, examples: ["go"]}}
depth: {depth}
evaluate: {{labels: {{sure: 1.0, impossible: 0.0}}}}
thought: {{state: "{{{{ steps | join }}}}{{{{ text }}}}"}}
prompts: {{propose: "P {{{{ state }}}}", sample: "S {{{{ state }}}}", value: "V {{{{ state }}}}"}}
"""
SAMPLING = ("ab-mcts", "chain-in-tree", "particle-filter")
"""Searches that ask for lists only where they are told to."""
SEARCHES = ("bfs", "greedy", "beam", "best-first", "dfs", "mcts", "bg-mcts", "dvts", "rebase", "rap", *SAMPLING)
NO_NUMBERS = (math.nan, math.inf, -math.inf)


@dataclass(frozen=True)
class Odd(Evaluator):
    """Values by the last letter; ``b`` has the odd one."""

    odd: float = math.nan
    values: dict[str, float] = field(default_factory=lambda: {"a": 0.1, "c": 0.9})

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        return [Judgement(self.values.get(thought.text, self.odd)) for thought in thoughts]


def letters(search: str, evaluator: Evaluator, depth: int, journal: Path | None = None) -> Result:
    task = YamlTask(LETTERS.format(depth=depth))
    options = {"by": "propose"} if search in SAMPLING else {}
    agent = Agent(task, search, backend=ScriptedBackend(lambda _: "a\nb\nc"), evaluator=evaluator, options=options)
    return agent.solve("go", journal=journal)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("odd", [*NO_NUMBERS, 1e308, -1e308])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_value_that_is_no_number_is_never_preferred(search: str, depth: int, odd: float, tmp_path: Path) -> None:
    """The best of the known values wins, the odd ones are counted, and the journal is strict JSON."""
    journal = tmp_path / "run.jsonl"
    result = letters(search, Odd(odd), depth, journal)
    assert result.path[-1:] == ("c",)
    assert result.counts.judgements_unparsed == sum(thought.text == "b" for thought in result.tree)
    assert all(thought.value is None for thought in result.tree if thought.text == "b")
    for line in journal.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=pytest.fail)
    json.loads(strict(result.to_json()), parse_constant=pytest.fail)


@pytest.mark.parametrize("search", SEARCHES)
def test_searches_end_where_nothing_is_known(search: str) -> None:
    """A tree without any known value is searched in the order of its steps."""
    result = letters(search, Odd(values={}), 2)
    assert result.ended == "finished"
    assert all(thought.value is None for thought in result.tree)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1e200, 10**400])
def test_a_judgement_holds_no_such_value(value: float) -> None:
    """Not finite, or so large that sums are not, is unknown and unparsed; other values stay as they are."""
    judgement = Judgement(value, ("sure",), 2)
    assert (judgement.value, judgement.labels, judgement.unparsed) == (None, ("sure",), 3)
    assert Judgement(-3.5).value == -3.5
    assert Judgement(None).unparsed == 0


class Scored(ScriptedBackend):
    """Gives the same log-likelihood for every continuation but the first."""

    def __init__(self, first: float, others: float) -> None:
        super().__init__(lambda _: "a\nb\nc")
        self.capabilities = frozenset({"score"})
        self.first, self.others = first, others

    async def score(self, request: ScoreRequest) -> Scores:
        count = len(request.continuations)
        return Scores((self.first, *[self.others] * (count - 1)), (1,) * count, Usage(1, 1, 0))


@pytest.mark.parametrize(
    ("evaluator", "first", "others", "value"),
    [
        (Choice(), -math.inf, -math.inf, None),
        (Choice(), math.nan, -1.0, None),
        (Choice(), -1.0, math.nan, None),
        (Choice(), math.inf, -1.0, None),
        (Choice(), -1.0, -math.inf, 1.0),
        (Likelihood(), -math.inf, 0.0, 0.0),
        (Likelihood(), math.nan, 0.0, None),
        (Likelihood(), math.inf, 0.0, None),
        (Likelihood(), 0.0, 0.0, 1.0),
        (Reward(), math.nan, -1.0, None),
        (Reward(), -math.inf, -math.inf, None),
    ],
)
def test_scores_without_a_probability_are_unparsed(
    evaluator: Evaluator, first: float, others: float, value: float | None
) -> None:
    """Where no label has a likelihood, or a number is none, the value is unknown and counted."""
    agent = Agent(YamlTask(LETTERS.format(depth=1)), "bfs", backend=Scored(first, others), evaluator=evaluator)
    result = agent.solve("go")
    judgements = [thought.judgement for thought in result.tree if thought.judgement is not None]
    assert [judgement.value for judgement in judgements] == [value] * 3
    assert (result.counts.judgements_unparsed > 0) == (value is None)


MARKS = """
name: marks
description: A judge with marks from 0 to 10.
metadata: {version: 1}
input: {description: anything, examples: ["go"]}
depth: 1
evaluate:
  labels: {"0": 0, "1": 0.1, "2": 0.2, "3": 0.3, "4": 0.4, "5": 0.5, "6": 0.6, "7": 0.7, "8": 0.8, "9": 0.9, "10": 1.0}
prompts: {propose: "P {{ input }}", value: "V {{ state }}"}
"""


@pytest.mark.parametrize(("mark", "value", "unparsed"), [("2/10", 0.2, 0), ("8.5", None, 1), ("-3", None, 1)])
def test_the_search_is_not_steered_by_a_misread_mark(mark: str, value: float | None, unparsed: int) -> None:
    """``2/10`` is 2, and what is no mark is unknown: the plan with a 9 is the answer."""

    def reply(request: Request) -> str:
        prompt = request.prompt
        if prompt.startswith("P"):
            return "bad plan\ngood plan"
        return mark if "bad plan" in prompt else "9"

    result = Agent(YamlTask(MARKS), backend=ScriptedBackend(reply)).solve("go")
    assert result.answer == "good plan"
    assert [thought.value for thought in result.tree if thought.text == "bad plan"] == [value and pytest.approx(value)]
    [judgement] = [thought.judgement for thought in result.tree if thought.text == "bad plan"]
    assert judgement is not None
    assert (judgement.unparsed > 0) == bool(unparsed)
    assert result.counts.judgements_unparsed == judgement.unparsed
