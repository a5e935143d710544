"""Two models in one search: one writes thoughts, another judges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from cli_tools import call
from device import DEVICE
from helpers import Oracle
from seed_tools import MIX, SHAPE, Naive, ask, clean, fixed_costs, idle, save_model, told

from treeagent import Agent, Budget
from treeagent.backend import Backend
from treeagent.backends.seed.backend import SeedBackend
from treeagent.errors import BackendError, ConfigError, ModelError
from treeagent.reply import Reply, Scores
from treeagent.request import Key, Request, ScoreRequest
from treeagent.runtime.budget import Ledger


class Told(Oracle):
    """Knows the game of 24, notes the roles it is asked for, and has a price."""

    name = "told"

    def __init__(self, price: tuple[float, float] | None = None) -> None:
        super().__init__(None, None)
        self.roles: list[str] = []
        self.price = price

    async def generate(self, request: Request) -> Reply:
        """Noted."""
        self.roles.append(request.key.role)
        return await super().generate(request)

    async def score(self, request: ScoreRequest) -> Scores:
        """Noted."""
        self.roles.append("score")
        return await super().score(request)

    def meter(self) -> Any:
        """How many requests there were."""
        return lambda: {"asked": len(self.roles)}


@pytest.mark.parametrize("evaluator", ["value", "choice"])
def test_judgements_are_asked_of_the_evaluators_backend(evaluator: str) -> None:
    """All requests of an evaluator and no others use it; the figures of both models are separate."""
    writer, judge = Told(), Told()
    agent = Agent("game24", "bfs", backend=writer, evaluator_model=judge, evaluator=evaluator)
    result = agent.solve("4 5 6 10")
    assert judge.roles
    assert set(judge.roles) <= {"value", "score"}
    assert writer.roles
    assert not set(writer.roles) & {"value", "score"}
    assert result.engine == {"asked": len(writer.roles), "evaluator": {"asked": len(judge.roles)}}
    assert result.usage.calls == len(writer.roles) + len(judge.roles)


def test_each_backend_is_paid_at_its_own_price() -> None:
    """Dollars are the sum over both, and unknown as soon as one price is."""
    writer, judge = Told((0.0, 1.0)), Told((1.0, 0.0))
    result = Agent("game24", "bfs", backend=writer, evaluator_model=judge).solve("4 5 6 10")
    plain = Agent("game24", "bfs", backend=Told((1.0, 1.0))).solve("4 5 6 10")
    assert result.usage.dollars is not None
    assert plain.usage.dollars is not None
    assert 0 < result.usage.dollars < plain.usage.dollars == plain.usage.tokens
    unknown = Agent("game24", "bfs", backend=writer, evaluator_model=Told()).solve("4 5 6 10")
    assert unknown.usage.dollars is None
    with pytest.raises(ConfigError, match="price"):
        Ledger(Budget(dollars=1.0), (1.0, 1.0), None)


def test_a_budget_of_dollars_counts_what_both_cost() -> None:
    """The worst case is reserved at the price of the backend that is asked, and no limit is passed."""
    writer, judge = Told((1e-3, 2e-3)), Told((5e-3, 1e-2))
    agent = Agent("game24", "bfs", backend=writer, evaluator_model=judge, budget=Budget(dollars=2.0))
    result = agent.solve("4 5 6 10")
    assert result.ended == "dollars"
    assert result.usage.dollars is not None
    assert 0 < result.usage.dollars <= 2.0


def test_a_search_without_an_evaluator_takes_no_model_for_one() -> None:
    """It would never be asked."""
    with pytest.raises(ConfigError, match="uses no evaluator"):
        Agent("game24", "cot", backend=Told(), evaluator_model=Told())


def test_a_journalled_run_names_both_models(tmp_path: Path) -> None:
    """And can be resumed with them."""
    journal = tmp_path / "run.jsonl"
    agent = Agent("game24", "bfs", backend="helpers:Oracle", evaluator_model="wrong", budget=Budget(calls=30))
    result = agent.solve("4 5 6 10", journal=journal)
    assert result.solved is False  # its judge is wrong, and its generator is not
    again, text = Agent.from_journal(journal, allow_code=True)
    assert (again.backend.model, again.judging.model) == (None, "wrong")
    assert again.run(text, journal=journal, resume=True) is not None
    given = Agent("game24", "bfs", backend="helpers:Oracle", evaluator_model=Oracle("wrong", {"at": "9"}))
    given.solve("4 5 6 10", journal=tmp_path / "other.jsonl")
    opened, _ = Agent.from_journal(tmp_path / "other.jsonl", allow_code=True)
    assert isinstance(opened.judging, Oracle)
    assert (opened.judging.model, opened.judging.options) == ("wrong", {"at": "9"})


def test_the_evaluators_backend_is_named_with_options_and_journalled(tmp_path: Path) -> None:
    """A journal opens it again, and the bill of the judge is apart."""
    journal = tmp_path / "run.jsonl"
    agent = Agent("game24", "bfs", backend="helpers:Oracle", evaluator_backend="helpers:Oracle",
                  evaluator_model="wrong", options={"evaluator_backend.at": "9"}, budget=Budget(calls=30))  # fmt: skip
    assert isinstance(agent.judging, Oracle)
    assert agent.judging is not agent.backend
    result = agent.solve("4 5 6 10", journal=journal)
    assert result.solved is False  # its judge is wrong, and its generator is not
    assert 0 < result.judging.calls < result.usage.calls
    assert result.to_json()["judging"]["calls"] == result.judging.calls
    again, text = Agent.from_journal(journal, allow_code=True)
    assert isinstance(again.judging, Oracle)
    assert (again.backend.model, again.judging.model, again.judging.options) == (None, "wrong", {"at": "9"})
    resumed = again.solve(text)
    assert [thought.text for thought in resumed.tree] == [thought.text for thought in result.tree]


def test_the_bill_of_the_judge_has_its_own_price() -> None:
    """Dollars of the two parts add up."""
    writer, judge = Told((0.0, 1.0)), Told((1.0, 0.0))
    result = Agent("game24", "bfs", backend=writer, evaluator_backend=judge).solve("4 5 6 10")
    assert result.judging.dollars == result.judging.prompt_tokens
    assert result.usage.dollars is not None
    assert result.judging.dollars is not None
    assert 0 < result.judging.dollars < result.usage.dollars
    assert Agent("game24", "cot", backend=Told()).solve("4 5 6 10").judging.calls == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"search": "cot", "evaluator_backend": "scripted"}, "uses no evaluator, but a backend for one is given"),
        ({"options": {"evaluator_backend.at": "9"}}, "no backend for the evaluator"),
        ({"evaluator_backend": "helpers:Oracle", "evaluator_model": Told()}, "leave evaluator_backend out"),
        ({"evaluator_backend": "sed"}, "sed"),
    ],
)
def test_a_wrong_backend_for_the_evaluator_is_refused(how: dict[str, Any], message: str) -> None:
    """Before the first request, in one line."""
    with pytest.raises(ConfigError, match=message):
        Agent("game24", **{"search": "bfs", "backend": Told(), **how})


def test_the_command_line_names_the_judge(tmp_path: Path) -> None:
    """In solve, eval and compare; the summary has its bill, and resume continues with it."""
    judge = ["--evaluator-backend", "helpers:Oracle", "--evaluator-model", "wrong"]
    words = ["--task", "game24", "--search", "greedy", "--max-calls", "20"]
    one = [*words, "--input", "4 5 6 10", "--backend", "helpers:Oracle", *judge]
    done = call("solve", *one, "--journal", str(tmp_path / "run.jsonl"))
    assert "evaluator's backend helpers:Oracle, model wrong" in done.stdout
    assert "of these for judging: " in done.stdout
    again = call("resume", str(tmp_path / "run.jsonl"), "--allow-code", "--json")
    assert json.loads(again.stdout)["settings"]["evaluator_model"]["model"] == "wrong"
    done = call("eval", *words, "--limit", "1", "--backend", "helpers:Oracle", *judge, "--json")
    assert json.loads(done.stdout)["settings"]["evaluator_model"]["name"] == "helpers:Oracle"
    both = ["--backends", "helpers:Oracle,helpers:Oracle", "--input", "4 5 6 10"]
    assert call("compare", *words, *both, *judge).exit_code == 0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two targets of different sizes and a draft of three exits, which all have one vocabulary."""
    folder = tmp_path_factory.mktemp("family")

    def config(layers: int, exits: list[int] | None = None) -> transformers.LlamaConfig:
        made = transformers.LlamaConfig(**{**SHAPE, "num_hidden_layers": layers}, num_key_value_heads=2)
        if exits:
            made.exits = exits
        return made

    return {
        "large": save_model(folder / "large", config(4)),
        "small": save_model(folder / "small", config(3), seed=1),
        "draft": save_model(folder / "sorted-draft", config(3, [1, 2, 3]), noise=0.1),
        "big-draft": save_model(folder / "big-draft", config(4), noise=0.1),
    }


@pytest.fixture
def pair(models: dict[str, str]) -> tuple[SeedBackend, SeedBackend]:
    """An engine and one beside it."""
    with fixed_costs():
        first = SeedBackend(models["large"], draft=models["draft"], draft_tokens=4, device=DEVICE, dtype="float64")
        second = first.with_model(models["small"])
        first.load()
        second.load()
    return first, second


def test_two_targets_share_one_draft_and_write_their_own_texts(
    models: dict[str, str], pair: tuple[SeedBackend, SeedBackend]
) -> None:
    """Asked at once, each gives what naive decoding of its model gives; the draft model is in memory once."""
    first, second = pair
    assert first.core.parts is not None
    assert second.core.parts is not None
    assert first.core.parts.draft_runner is second.core.parts.draft_runner is not None
    assert (
        first.core.parts.scheduler.speculator is not second.core.parts.scheduler.speculator
    )  # acceptance is told apart

    class Both(Nameless):
        async def generate(self, request: Request) -> Reply:
            return await (first if request.key.visit == 0 else second).generate(request)

    def of_second(asked: Request) -> Request:
        key = Key(asked.key.seed, asked.key.role, asked.key.place, 1)
        return Request(asked.prompt, key, asked.sampling, asked.n)

    others = [of_second(asked) for asked in MIX]
    replies = told(ask(Both(), *(each for two in zip(MIX, others, strict=True) for each in two)))
    assert replies[::2] == Naive(models["large"], "float64").expected(MIX)
    assert replies[1::2] == Naive(models["small"], "float64").expected(others)
    for engine in pair:
        idle(engine)
        assert engine.meter() is not None
    clean(first)
    clean(second)


def test_one_of_two_engines_can_be_closed(models: dict[str, str], pair: tuple[SeedBackend, SeedBackend]) -> None:
    """The other goes on with the draft model, which is freed with the last of them."""
    import asyncio

    first, second = pair
    asked = MIX[0]
    asyncio.run(first.aclose())
    assert told(ask(second, asked)) == Naive(models["small"], "float64").expected([asked])
    idle(second)
    assert second.builder.draft.runner is not None
    asyncio.run(second.aclose())
    assert second.builder.draft.runner is None


def test_neither_engine_is_reset_while_one_of_them_runs(pair: tuple[SeedBackend, SeedBackend]) -> None:
    """The draft model's prefixes are those of both."""
    first, second = pair
    second.core._working = True
    with pytest.raises(BackendError, match="reset"):
        first.reset()
    second.core._working = False
    first.reset()


def test_a_draft_that_is_too_big_for_the_evaluators_model_is_refused(models: dict[str, str]) -> None:
    """With both names and sizes."""
    with fixed_costs():
        first = SeedBackend(models["large"], draft=models["big-draft"], device=DEVICE)
        first.load()
        with pytest.raises(ModelError, match="bigger than the target"):
            first.with_model(models["small"]).load()


def test_the_transformers_backend_opens_another_model_with_the_same_options() -> None:
    """Beside a backend stands one of the same kind."""
    from treeagent.backends.transformers.backend import TransformersBackend

    first = TransformersBackend("mini", max_batch=3, device=DEVICE)
    second = first.with_model("mini-draft")
    assert isinstance(second, TransformersBackend)
    assert (second.model, second.max_batch) == ("mini-draft", 3)
    with pytest.raises(ConfigError, match="cannot be opened"):
        Nameless().with_model("mini")


class Nameless(Backend):
    """Of an app, and no other's."""

    name = "nameless"

    async def generate(self, request: Request) -> Reply:
        """Never asked."""
        raise AssertionError("asked")
