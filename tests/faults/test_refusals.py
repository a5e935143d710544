"""A refused request ends its branch and not the search; what replies lack is counted and said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ORACLE, call
from faulty import cut
from helpers import Oracle
from synthetic import TreeBackend, essence, solve

from treeagent import Agent, BackendError, Completion, Reply, Request, RequestRefusedError, Result, Usage
from treeagent.backends.replay import ReplayBackend
from treeagent.cli.session import report
from treeagent.runtime.journal import read
from treeagent.strategies.bfs import BFS

TREE = [[1, 2], [3, 4], [5, 6]]
Answer = Callable[[Request, Reply], Reply]


class Filtered(TreeBackend):
    """Refuses requests whose prompt holds one of the texts; ``change`` makes another reply of a reply."""

    def __init__(self, *refused: str, change: Answer = lambda request, reply: reply, tree: Any = TREE) -> None:
        super().__init__(tree)
        self.refused, self.change = refused, change

    async def generate(self, request: Request) -> Reply:
        """The reply, or the refusal."""
        reply = await super().generate(request)
        if any(text in request.prompt for text in self.refused):
            raise RequestRefusedError("the content filter refuses the prompt")
        return self.change(request, reply)


def only(role: str, change: Callable[[Reply], Reply]) -> Answer:
    """A change of the replies of one role."""
    return lambda request, reply: change(reply) if request.key.role == role else reply


def texts(result: Result) -> list[str]:
    """Of the thoughts."""
    return [thought.text for thought in result.tree if thought.parent is not None]


def test_a_refused_branch_is_closed_and_the_others_go_on(tmp_path: Path) -> None:
    """The best leaf of the other branches is the answer; the refusal is counted, in the bill and in the journal."""
    path = tmp_path / "run.jsonl"
    result = solve(Filtered("children of rc"), BFS(), journal=path)
    assert result.ended == "finished"
    assert not [text for text in texts(result) if text.startswith("rc") and len(text.split()[0]) > 2]
    assert result.answer == "rbb"
    assert result.counts.refused == 1
    assert "1 request or completion was refused" in report("tree", result)
    [refused] = [event for event in read(path) if event.type == "refused"]
    assert refused.data["role"] == "propose"
    assert refused.data["error"] == "the content filter refuses the prompt"


def test_a_resumed_and_a_replayed_run_have_the_same_refusals(tmp_path: Path) -> None:
    """Nothing is sent again, and the results are equal."""
    path = tmp_path / "run.jsonl"
    words = [*ORACLE, "--set", "backend.refuse_at=3", "--journal", str(path), "--json"]
    first = json.loads(call("solve", *words).stdout)
    assert first["counts"]["refused"] == 1
    again = json.loads(call("resume", str(path), "--allow-code", "--json").stdout)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    replayed = asyncio.run(Agent("game24", "bfs", backend=ReplayBackend(path)).asolve("4 9 10 13"))
    assert replayed.counts.refused == 1
    assert replayed.answer == first["answer"]


def test_what_concerns_all_requests_ends_the_run() -> None:
    """A BackendError of another class is no refusal."""

    class Down(Filtered):
        async def generate(self, request: Request) -> Reply:
            if "rc" in request.prompt:
                raise BackendError("the key is wrong")
            return await super().generate(request)

    with pytest.raises(BackendError, match="the key is wrong"):
        solve(Down(), BFS())


def test_a_result_says_that_every_request_was_refused(tmp_path: Path) -> None:
    """No answer, and the reason."""
    result = solve(Filtered(""), BFS())
    assert (result.ended, result.answer) == ("refused", None)
    assert "Stopped early: the backend refused every request." in report("tree", result)
    assert "the content filter refuses the prompt" in report("tree", result)


def test_a_refused_judgement_is_unknown() -> None:
    """Its thought stays in the tree, without a value."""
    result = solve(Filtered("value of ra", "value ra"), BFS())
    values = {thought.text: thought.value for thought in result.tree if thought.depth == 1}
    refused = [text for text, value in values.items() if value is None]
    assert refused == ["ra"]
    assert result.counts.refused >= 1


@pytest.mark.parametrize("role", ["propose", "value", "answer"])
def test_replies_without_completions_are_missing_and_crash_nothing(role: str) -> None:
    """An empty list of choices for every role, and for the judge its value is unknown."""
    result = solve(Filtered(change=only(role, lambda reply: Reply((), Usage(1, 1, 0)))), BFS())
    assert result.counts.missing > 0
    assert result.answer is None or role == "value"
    assert "asked for and did not come" in report("tree", result)


def test_fewer_completions_than_wanted_are_counted_and_the_rest_is_used() -> None:
    """One label of three makes a value."""
    short = Filtered(change=only("value", lambda reply: replace(reply, completions=reply.completions[:1])))
    result = solve(short, BFS(), Values3())
    assert result.counts.missing == 2 * result.counts.judged
    assert result.answer == "rcb"


def Values3() -> Any:  # noqa: N802  an evaluator, as its class would be
    """The evaluator ``value`` with three samples."""
    from treeagent.strategies.evaluators import Value

    return Value(samples=3)


def test_completions_cut_off_before_any_text_are_said_with_their_role() -> None:
    """As of a model that thinks: which limit to raise; an empty proposal is unparsed, too."""
    thinking = Filtered(change=only("propose", lambda reply: cut("", finish="length", reasoning="hm")))
    result = solve(thinking, BFS())
    assert (result.counts.truncated, result.counts.empty, result.counts.unparsed) == (1, 1, 1)
    expected = "1 completion was cut off at max_tokens before any text (1 of them while thinking)"
    assert f"{expected}; raise sampling.propose.max_tokens" in report("tree", result)
    assert result.to_json()["cut_off"] == {"propose": {"truncated": 1, "empty": 1, "thinking": 1}}


def test_the_judges_completions_are_counted_as_well() -> None:
    """Those cut off within a text are told apart from those without."""
    result = solve(Filtered(change=only("value", lambda reply: cut("it is", finish="length"))), BFS())
    assert result.counts.truncated == result.counts.judged
    assert result.counts.empty == 0
    judged = result.counts.judged
    assert f"{judged} completions were cut off at max_tokens; raise sampling.value.max_tokens" in report("t", result)


def test_a_refused_completion_is_no_step_and_no_label() -> None:
    """What stands before the filter cut in is not read."""
    half = Reply((Completion("rz", finish="refused"),), Usage(1, 1, 1))
    result = solve(Filtered(change=only("propose", lambda reply: half)), BFS())
    assert (texts(result), result.counts.refused, result.ended) == ([], 1, "refused")
    label = Reply((Completion("it is v9", finish="refused"),), Usage(1, 1, 1))
    result = solve(Filtered(change=only("value", lambda reply: label)), BFS())
    assert {thought.value for thought in result.tree} == {None}


def test_an_answer_cut_off_is_told_as_that() -> None:
    """``cot`` that ends at max_tokens is no plain "no answer"."""

    class Cut(Oracle):
        async def generate(self, request: Request) -> Reply:
            return cut("First I think", finish="length")

    result = Agent("game24", "cot", backend=Cut()).solve("4 9 10 13")
    assert result.answer is None
    assert "1 completion was cut off at max_tokens; raise sampling.cot.max_tokens" in report("game24", result)


def test_the_order_of_replies_does_not_change_what_is_counted() -> None:
    """Counts and tree are equal whatever comes first."""

    def run(order: int | None) -> dict[str, Any]:
        backend = Filtered("children of rb", "value ra")
        backend._order = TreeBackend(TREE, order=order)._order
        return essence(solve(backend, BFS()))

    assert run(None) == run(1) == run(2)
