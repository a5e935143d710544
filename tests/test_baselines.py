"""Baselines of single attempts: direct answer, chain of thought and self-consistency."""

from __future__ import annotations

from typing import Any

import pytest
from search_cases import Marked, chains
from synthetic import CheckedTask, TreeBackend, solve, task

from treeagent import Budget, Search
from treeagent.strategies.baselines import IO, CoT, CoTSC


@pytest.mark.parametrize(("search", "role"), [(IO(), "io"), (CoT(), "cot")])
def test_one_attempt_is_one_request(search: Search, role: str) -> None:
    """Direct answer and chain of thought: one request, no evaluator, the last answer in the text."""
    backend = TreeBackend([1], answer=lambda request: "answer early\nanswer late")
    result = solve(backend, search, task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.usage.calls) == ("late", 1)
    assert backend.prompts("") == [f"{role} of r\n"]


@pytest.mark.parametrize(
    ("answers", "winner", "unparsed"),
    [
        (("a", "b", "b"), "b", 0),
        (("b", "a", "a", "b"), "b", 0),
        ((None, "c", None, None), "c", 3),
        (("d", None, "e", "e", "d"), "d", 1),
        ((None, None), None, 2),
    ],
)
def test_self_consistency_is_the_earliest_majority(answers: Any, winner: str | None, unparsed: int) -> None:
    """Most votes win, of equals the earliest; attempts without an answer are counted and never vote."""
    backend = TreeBackend([1], answer=chains(*answers))
    result = solve(backend, CoTSC(k=len(answers)), task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.counts.unparsed, len(backend.requests)) == (winner, unparsed, len(answers))
    assert len({request.id for request in backend.requests}) == len(answers)


def test_self_consistency_may_vote_over_direct_answers_and_verify_candidates() -> None:
    """``by=io`` votes over direct answers; with more candidates a verified minority answer is returned."""
    answers = chains("x", "x", "y")
    loose = {"'^answer": "'(?m)^answer"}
    plain = solve(TreeBackend([1], answer=answers), CoTSC(k=3, by="io"), task=task(**loose))
    checked = CheckedTask(Marked(frozenset("y")), **loose)
    verified = solve(TreeBackend([1], answer=answers), CoTSC(k=3, by="io", candidates=2), task=checked)
    assert (plain.answer, verified.answer, verified.solved) == ("x", "y", True)


def test_self_consistency_counts_answers_that_the_task_calls_the_same() -> None:
    """Votes are counted by ``answer.same``."""
    same = task(**{"'^answer": "'(?m)^answer", "\\S+)$'}": "\\S+)$', same: '{{ answer | lower }}'}"})
    result = solve(TreeBackend([1], answer=chains("B", "a", "A")), CoTSC(k=3), task=same)
    assert result.answer == "a"


def test_an_answer_that_same_cannot_read_is_its_own() -> None:
    """A fault of the template ``answer.same`` on a model's text is no crash."""
    same = task(**{"'^answer": "'(?m)^answer", "\\S+)$'}": "\\S+)$', same: '{{ answer.split(\":\")[1] }}'}"})
    result = solve(TreeBackend([1], answer=chains("p", "1:q", "2:q")), CoTSC(k=3), task=same)
    assert result.answer == "1:q"


def test_self_consistency_cut_by_the_budget_keeps_what_was_paid_for_and_says_so() -> None:
    """Three paid attempts vote; the result names the limit that stopped the others."""
    backend = TreeBackend([1], answer=chains("a", "b", "b", "a", "a"))
    result = solve(backend, CoTSC(k=5), budget=Budget(calls=3), task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.ended, result.usage.calls, len(backend.requests)) == ("b", "calls", 3, 3)


def test_attempts_beyond_the_limit_of_nodes_are_not_paid_for() -> None:
    """An attempt is a node: two are allowed, so two are asked for, and the result says what stopped the rest."""
    backend = TreeBackend([1], answer=chains("a", "b", "b"))
    result = solve(backend, CoTSC(k=3), budget=Budget(nodes=2), task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.ended, len(backend.requests)) == ("a", "nodes", 2)
