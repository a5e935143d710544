"""Reflection on failed ends (``reflect`` of mcts)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from treeagent import Agent, Budget, Checker, ConfigError, Request, RequestRefusedError, Result, YamlTask
from treeagent.backends.replay import ReplayBackend
from treeagent.backends.scripted import ScriptedBackend
from treeagent.runtime.journal import read
from treeagent.strategies.bg_mcts import BudgetGuidedMCTS
from treeagent.strategies.mcts import MCTS

TASK = """
name: guesses
description: Guess a word.
metadata: {version: 1}
input: {description: the word start, examples: [start]}
depth: 2
thought: {pattern: 'say (?P<word>.+)'}
answer: {template: "{{ steps | last | default('') }}"}
evaluate:
  labels: {good: 1.0, bad: 0.0}
sampling:
  value: {n: 1}
prompts:
  propose: "next of {{ steps | join('/') }}{% for reflection in reflections %} [{{ reflection }}]{% endfor %}\\n"
  value: "value of {{ steps | join('/') }}{% for reflection in reflections %} [{{ reflection }}]{% endfor %}\\n"
  reflect: "why not {{ steps | join('/') }}\\n"
"""


class Right(Checker):
    """One path is right."""

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        return list(steps[-1:]) == ["say right"]


class Guesses(YamlTask):
    """With a checker or without one."""

    def __init__(self, *, verifies: bool, text: str = TASK) -> None:
        super().__init__(text)
        if verifies:
            self.checker = Right()


def backend(*, learns: bool = True) -> ScriptedBackend:
    """Proposes wrong words until two reflections are shown."""

    def answer(request: Request) -> str:
        role, prompt = request.key.role, request.prompt
        if role == "reflect":
            return f"\n {prompt.split()[-1]} is wrong\n"
        if role == "value":
            return "bad" if "/" in prompt else "good"
        if "/" not in prompt and "say" in prompt and learns and prompt.count("[") >= 2:
            return "say right"
        return "say one\nsay two\nsay three\nsay four"

    return ScriptedBackend(answer)


def run(search: MCTS, task: YamlTask | None = None, model: Any = None, **more: Any) -> tuple[Result, ScriptedBackend]:
    model = model or backend()
    how = {name: more.pop(name) for name in ("journal",) if name in more}
    return Agent(task or Guesses(verifies=True), search, backend=model, **more).solve("start", **how), model


def roles(model: ScriptedBackend) -> list[str]:
    return [request.key.role for request in model.requests if isinstance(request, Request)]


def prompts(model: ScriptedBackend, start: str) -> list[str]:
    return [request.prompt for request in model.requests if request.prompt.startswith(start)]


@pytest.mark.parametrize("search", [MCTS(reflect=True, parallel=1), BudgetGuidedMCTS(reflect=True, parallel=1)])
def test_prompts_after_a_failed_end_show_what_went_wrong(search: MCTS) -> None:
    """The reflections solve the puzzle here; without them the search ends without an answer."""
    result, model = run(search)
    assert result.solved
    assert roles(model).count("reflect") >= 2
    ends = [prompt.endswith(" [one is wrong] [one is wrong]") for prompt in prompts(model, "next of")]
    assert ends == [False, False, False, True]  # the root, and three of its children
    assert prompts(model, "value of")[-1].endswith(" [one is wrong] [one is wrong]")
    plain, model = run(MCTS(simulations=search.simulations, parallel=1))
    assert not plain.solved
    assert "reflect" not in roles(model)
    assert not any("[" in request.prompt for request in model.requests)


def test_at_most_three_failed_ends_are_reflected_on() -> None:
    """Each makes the later prompts longer; of the ends below one thought there is one."""
    _, model = run(MCTS(reflect=True, parallel=1), model=backend(learns=False))
    assert roles(model).count("reflect") == 3
    assert max(request.prompt.count("[") for request in model.requests) == 3
    places = [
        request.key.place
        for request in model.requests
        if isinstance(request, Request) and request.key.role == "reflect"
    ]
    assert len({place.partition(".")[0] for place in places}) == 3


def test_without_a_check_a_judgement_of_the_lowest_label_is_a_failure() -> None:
    """An end that is judged better is none."""
    _, model = run(MCTS(reflect=True), Guesses(verifies=False))
    assert roles(model).count("reflect") == 3
    text = TASK.replace("{good: 1.0, bad: 0.0}", "{good: 1.0, bad: 0.5, awful: 0.0}")
    _, model = run(MCTS(reflect=True), Guesses(verifies=False, text=text))
    assert "reflect" not in roles(model)


def test_a_refused_reflection_leaves_none() -> None:
    """And the search goes on."""
    plain = backend()

    def answer(request: Request) -> str:
        if request.key.role == "reflect":
            raise RequestRefusedError("no")
        answered = plain._answers
        return str(answered(request)) if callable(answered) else ""

    result, _ = run(MCTS(reflect=True, parallel=1), model=ScriptedBackend(answer))
    assert result.ended == "finished"
    assert result.counts.refused >= 3
    assert not result.solved


def test_a_run_with_reflections_resumes_and_replays_as_it_was(tmp_path: Path) -> None:
    """From any line, and with a budget that ends it at a reflection."""
    path, search = tmp_path / "run.jsonl", MCTS(reflect=True, parallel=1)
    whole, _ = run(search, journal=path)
    replayed, _ = run(search, model=ReplayBackend(path))
    assert replayed.tree.to_json() == whole.tree.to_json()
    lines = path.read_text().splitlines(keepends=True)
    for count in range(1, len(lines), 3):
        path.write_text("".join(lines[:count]))
        answered = sum(event.type == "completion" for event in read(path))
        model = backend()
        agent = Agent(Guesses(verifies=True), search, backend=model)
        result = asyncio.run(agent.run("start", journal=path, resume=True).result())
        assert result.tree.to_json() == whole.tree.to_json()
        assert len(model.requests) == whole.usage.calls - answered
    calls = next(i for i, role in enumerate(roles(run(search)[1])) if role == "reflect")
    short, _ = run(search, budget=Budget(calls=calls))
    assert short.ended == "calls"
    assert short.counts.thoughts


def test_a_task_without_the_prompt_is_refused() -> None:
    """Before the first request, and by the name of the key."""
    text = TASK.replace("  reflect: \"why not {{ steps | join('/') }}\\n\"\n", "")
    text = text.replace("{% for reflection in reflections %} [{{ reflection }}]{% endfor %}", "")
    with pytest.raises(ConfigError, match=r"the option 'reflect' .* needs a prompt; .*prompts\.reflect"):
        run(MCTS(reflect=True), Guesses(verifies=True, text=text))


def test_the_field_reflections_needs_the_prompt_that_writes_them() -> None:
    """A file of before may have a variable of that name."""
    text = TASK.replace("  reflect: \"why not {{ steps | join('/') }}\\n\"\n", "")
    with pytest.raises(ConfigError, match="reflections"):
        YamlTask(text)
    assert YamlTask(text + "variables: {reflections: []}".replace("[]", '"x"')).variables == {"reflections": "x"}
