"""A search over several models: which one is asked, by what key, and what of it is on record."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from synthetic import TreeBackend, solve, task
from typer.testing import CliRunner

from treeagent import Agent, ConfigError, Request, RequestRefusedError, Search
from treeagent.cli import app
from treeagent.reply import Reply
from treeagent.request import Key
from treeagent.runtime.journal import read
from treeagent.runtime.journal_tree import rebuild
from treeagent.runtime.result import Result
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.testing.search import SearchContract

TREE = [[[[(5 * a + 3 * b + 7 * c + d) % 30 for d in range(2)] for c in range(4)] for b in range(5)] for a in range(5)]
"""Large enough that a sample of a good model mostly is a new step."""


class TestTheSearchContract(SearchContract):
    """AB-MCTS over two models keeps the contract of searches: order, budgets, early requests, resume."""

    trees = SearchContract.trees[:3]

    def search(self) -> Search:
        return ABMCTS(simulations=16)

    def _run(self, tree: Any, *, search: Search | None = None, **more: Any) -> Result:
        own = {name: more[name] for name in ("order", "answer") if name in more}
        more["backend_of"] = {"b": TreeBackend(tree, **own)}
        return super()._run(tree, search=search, **more)

    def _resumed(self, tree: Any, path: Path) -> Result:
        others = {"b": TreeBackend(tree)}
        agent = Agent(task(), self.search(), backend=TreeBackend(tree), evaluator=self.evaluator, backend_of=others)
        return asyncio.run(agent.run("r", journal=path, resume=True).result())


class Asked(TreeBackend):
    """Notes the keys of its requests; a bad one writes no step."""

    def __init__(self, *, bad: bool = False) -> None:
        super().__init__(TREE, **({"answer": lambda request: "nothing!"} if bad else {}))
        self.keys: list[Key] = []

    async def generate(self, request: Request) -> Reply:
        self.keys.append(request.key)
        return await super().generate(request)


def test_each_model_has_noise_of_its_own() -> None:
    """The first model's keys and ids are those of a search over one model; another's differ."""
    plain, named = Key(0, "sample", "0.1", 2), Key(0, "sample", "0.1", 2, "b")
    assert plain.stream(0) != named.stream(0)
    assert Request("p", plain).id != Request("p", named).id
    assert Request("p", plain).id == "8cfe5f0e9ecc5c4de16b2fa9"
    first, second = Asked(), Asked()
    result = solve(first, ABMCTS(simulations=24), backend_of={"b": second})
    assert {key.model for key in first.keys} == {""}
    assert {key.model for key in second.keys} == {"b"}
    assert {key.role for key in second.keys} <= {"propose", "sample"}  # judgements and answers are the first model's
    assert set(Counter(thought.model for thought in result.tree if thought.parent is not None)) == {"main", "b"}
    alone = solve(Asked(), ABMCTS(simulations=24))
    assert {thought.model for thought in alone.tree} == {None}
    assert alone.models == {}


@pytest.mark.parametrize(("good", "bad"), [("main", "b"), ("b", "main")])
def test_the_model_whose_samples_are_worth_more_is_asked_more(good: str, bad: str) -> None:
    """A model that brings nothing new loses its turns to the one that does, whichever is the first."""
    backends = {good: Asked(), bad: Asked(bad=True)}
    for seed in range(3):
        others = {"backend_of": {"b": backends["b"]}, "evaluator_model": TreeBackend(TREE)}
        solve(backends["main"], ABMCTS(simulations=40, k=5), seed=seed, **others)
    asked = {name: sum(key.role in ("propose", "sample") for key in each.keys) for name, each in backends.items()}
    assert asked[good] > 2 * asked[bad] > 0


def test_journals_and_results_say_which_model_wrote_what(tmp_path: Path) -> None:
    """Lines of thoughts and replies name it, an exported tree has it, and the bill adds up."""
    path = tmp_path / "run.jsonl"
    result = solve(Asked(), ABMCTS(simulations=24), backend_of={"b": Asked()}, journal=path)
    events = read(path)
    by = {event.data["id"]: event.data.get("model") for event in events if event.type == "completion"}
    thoughts = [event.data for event in events if event.type == "thought"]
    assert {line["model"] for line in thoughts} == {"main", "b"}
    assert all((by[line["request"]] or "main") == line["model"] for line in thoughts)
    assert [thought.model for thought in rebuild(events).tree] == [thought.model for thought in result.tree]
    assert list(events[0].data["settings"]["models"]) == ["b"]
    report = result.to_json()
    assert sum(part["calls"] for part in report["models"].values()) + result.judging.calls == result.usage.calls
    assert sum(part["thoughts"] for part in report["models"].values()) == len(result.tree) - 1


def test_figures_of_a_model_replace_no_others(tmp_path: Path) -> None:
    """A model may be called like a figure, or like the evaluator's."""
    names = ("requests", "evaluator")
    how = [word for name in names for word in ("--backend-of", f"{name}=metered:Metered")]
    done = CliRunner().invoke(
        app, ["solve", "--task", "game24", "--search", "ab-mcts", "--set", "simulations=4", "--input", "4 5 6 10",
              "--backend", "metered:Metered", "--evaluator-backend", "metered:Metered", *how, "--json"]
    )  # fmt: skip
    engine = json.loads(done.stdout)["engine"]
    parts = [engine, engine["evaluator"], *engine["models"].values()]
    assert list(engine["models"]) == ["requests", "evaluator"]
    assert sum(part["requests"] for part in parts) == json.loads(done.stdout)["usage"]["calls"]


def test_a_refusal_says_which_model_refused(tmp_path: Path) -> None:
    """As a reply does; the first model is not named."""

    class Refusing(Asked):
        async def generate(self, request: Request) -> Reply:
            if request.key.role != "value":
                raise RequestRefusedError("no")
            return await super().generate(request)

    def refusers(first: Asked, other: Asked, path: Path) -> set[str | None]:
        solve(first, ABMCTS(simulations=12), backend_of={"b": other}, evaluator_model=TreeBackend(TREE), journal=path)
        return {event.data.get("model") for event in read(path) if event.type == "refused"}

    assert refusers(Asked(), Refusing(), tmp_path / "other.jsonl") == {"b"}
    assert refusers(Refusing(), Asked(), tmp_path / "first.jsonl") == {None}


def test_the_command_line_names_further_models(tmp_path: Path) -> None:
    """With a backend of their own or like the first one, with options; eval takes them, and resume opens them again."""
    run = str(tmp_path / "run.jsonl")
    how = ["--task", "game24", "--search", "ab-mcts", "--set", "simulations=12", "--set", "by=propose",
           "--backend", "helpers:Oracle", "--backend-of", "far=helpers:Oracle", "--set", "backend_of.far.at=9",
           "--model-of", "near=any"]  # fmt: skip
    first = CliRunner().invoke(app, ["solve", *how, "--input", "4 5 6 10", "--max-calls", "12", "--journal", run])
    assert first.exit_code in (0, 1), first.output
    assert "model far: backend helpers:Oracle" in first.stdout
    assert "model near: backend helpers:Oracle, model any" in first.stdout
    assert re.search(r"^model far: \d+ thoughts, \d+ calls, \d+ tokens$", first.stdout, re.M)
    agent, _ = Agent.from_journal(run, allow_code=True)
    assert {name: (each.model, getattr(each, "options", None)) for name, each in agent.others.items()} == {
        "far": (None, {"at": "9"}),
        "near": ("any", {}),
    }
    done = CliRunner().invoke(app, ["resume", run, "--allow-code", "--json", "--max-calls", "200"])
    assert set(json.loads(done.stdout)["models"]) == {"main", "far", "near"}
    both = CliRunner().invoke(app, ["eval", *how, "--limit", "1", "--json", "--quiet"])
    assert set(json.loads(both.stdout)["settings"]["models"]) == {"far", "near"}


@pytest.mark.parametrize(
    ("search", "arguments", "message"),
    [
        ("bfs", {"model_of": {"b": "any"}}, "'bfs' asks one model, but others are given: b"),
        ("ab-mcts", {"model_of": {"main": "any"}}, "is not 'main'"),
        ("ab-mcts", {"model_of": {"a b": "any"}}, "got 'a b'"),
        ("ab-mcts", {"backend_of": {"b": "helpers:Orakel"}}, "Orakel"),
        ("ab-mcts", {"backend_of": {"b": Oracle()}, "model_of": {"b": "any"}}, "belong to the object"),
        ("ab-mcts", {"options": {"backend_of.b.at": "9"}}, "of no backend"),
        ("ab-mcts", {"backend_of": {"b": Oracle()}, "options": {"backend_of.c.at": "9"}}, "of no backend"),
    ],
)
def test_wrong_models_are_refused_at_once(search: str, arguments: dict[str, Any], message: str) -> None:
    """In one line, before any request."""
    with pytest.raises(ConfigError, match=message):
        Agent("game24", search, backend=Oracle(), **arguments)


def test_the_address_of_a_further_model_is_repeated_by_hand(tmp_path: Path) -> None:
    """A journal may come from elsewhere: its address is not used before the user gives it again."""
    there = {"backend_of.far.base_url": "http://127.0.0.1:9/v1"}
    agent = Agent("game24", "ab-mcts", backend=Oracle(), backend_of={"far": "openai"}, model_of={"far": "any"},
                  options=there)  # fmt: skip
    line = {
        "type": "run",
        "t": 0,
        "format": 1,
        "input": "4 5 6 10",
        "seed": 0,
        "budget": {},
        "settings": agent.settings,
    }
    (tmp_path / "run.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match=r"backend_of\.far\.base_url"):
        Agent.from_journal(tmp_path / "run.jsonl", allow_code=True)
    again, _ = Agent.from_journal(tmp_path / "run.jsonl", allow_code=True, trusted=there)
    assert again.others["far"].name == "openai"
    with pytest.raises(ConfigError, match=r"backend_of\.near\.base_url cannot be changed"):
        Agent.from_journal(
            tmp_path / "run.jsonl", allow_code=True, trusted={**there, "backend_of.near.base_url": "http://127.0.0.1:9"}
        )
