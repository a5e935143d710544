"""An agent inside another program: what its constructor leaves undone, what it releases, its limits by call."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from serve_tools import SlowTree, agent

from treeagent import Agent, Budget, CapabilityError, ConfigError, PluginError, Result
from treeagent.backends.local import base
from treeagent.backends.models import catalog
from treeagent.backends.seed.backend import SeedBackend
from treeagent.runtime.journal import recorded_run
from treeagent.runtime.release import close_all


@pytest.mark.parametrize("search", ["bfs", "mcts", "io"])
@pytest.mark.parametrize("backend", [None, "seed", "transformers", "openai"])
def test_a_constructor_loads_nothing_and_asks_nobody(
    backend: str | None, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket is opened, no model is looked up, no tokenizer is read, also where the task needs a chat template."""

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise AssertionError("this is for load")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(catalog, "resolve", refuse)
    monkeypatch.setattr(base, "load_tokenizer", refuse)
    thinking = {"sampling.value.thinking": False} if search == "bfs" else {}
    made = Agent("game24", search, backend=backend, model="owner/name", options=thinking)
    assert made.settings["backend"]["model"] == "owner/name"


def test_what_a_model_lacks_is_said_by_load() -> None:
    """The bundled model has no chat template."""
    made = Agent("game24", "bfs", backend="seed", options={"sampling.value.thinking": False})
    for load in (made.load, lambda: asyncio.run(made.aload()), lambda: made.solve("4 9 10 13")):
        with pytest.raises(CapabilityError, match=r"sampling\.value\.thinking .* needs chat"):
            load()


class Counted(SlowTree):
    """Counts how often it is loaded and closed."""

    loads = closes = 0

    def load(self) -> None:
        """Count."""
        self.loads += 1

    async def aclose(self) -> None:
        """Count; nothing may be running."""
        assert not self.running
        self.closes += 1

    @classmethod
    def open(cls, model: str | None, options: Any) -> Counted:
        """By name."""
        return cls()


def test_a_context_releases_what_the_agent_has_opened() -> None:
    """Entering loads nothing; a backend that was given stays its owner's; the agent goes on afterwards."""

    async def work(backend: Any) -> Agent:
        async with agent(backend) as made:
            assert made.backend.loads == 0
            await made.aload()
            assert made.backend.loads == 1
            first = await made.asolve("r")
        assert (await made.asolve("r")).answer == first.answer
        return made

    assert asyncio.run(work(Counted())).backend.closes == 0
    assert asyncio.run(work(f"{__name__}:Counted")).backend.closes == 1


class CountedOracle(Oracle):
    """As Counted; a journal opens it by its name."""

    name = f"{__name__}:CountedOracle"
    loads = closes = 0

    def load(self) -> None:
        """Count."""
        self.loads += 1

    async def aclose(self) -> None:
        """Count."""
        self.closes += 1

    def with_model(self, model: str) -> CountedOracle:
        """One of its own."""
        return CountedOracle(model)


def test_an_agent_of_a_journal_releases_all_that_the_journal_has_opened(tmp_path: Path) -> None:
    """The evaluator's backend and those of further models too; one that is given in their place is its owner's."""
    journal, name = tmp_path / "run.jsonl", CountedOracle.name
    how: dict[str, Any] = {"backend_of": {"far": name}, "model_of": {"near": "any"}, "allow_code": True}
    made = Agent("game24", "ab-mcts", backend=name, evaluator_backend=name, options={"simulations": 1}, **how)
    made.solve("4 5 6 10", journal=journal)

    async def closes(**changes: Any) -> list[int]:
        async with Agent.from_journal(journal, allow_code=True, **changes)[0] as again:
            await again.aload()
        return [each.closes for each in again.backends]  # type: ignore[attr-defined]

    assert asyncio.run(closes()) == [1, 1, 1, 1]
    assert asyncio.run(closes(evaluator_model=CountedOracle())) == [1, 0, 1, 1]


def test_a_backend_that_fails_to_close_leaves_no_other_open() -> None:
    """The first failure is raised when all are closed."""

    class Stuck(Counted):
        async def aclose(self) -> None:
            await super().aclose()
            raise OSError("no answer")

    backends = [Counted(), Stuck(), Counted()]
    with pytest.raises(PluginError, match="no answer"):
        asyncio.run(close_all(backends))
    assert [backend.closes for backend in backends] == [1, 1, 1]


def test_leaving_the_context_ends_what_still_runs_with_its_best_attempt() -> None:
    """Also runs of agents that differ in the seed alone, and a stream that nobody reads on."""

    async def work() -> list[Result]:
        answered = 0

        async def few() -> None:
            nonlocal answered
            answered += 1
            if answered > 20:
                await asyncio.Event().wait()

        async with agent(Counted(few)) as made:
            solving = [asyncio.ensure_future(each.asolve("r")) for each in (made, made.with_seed(3))]
            stream = made.stream("r")
            await anext(stream)
            while answered <= 20:  # noqa: ASYNC110  the condition is a plain variable
                await asyncio.sleep(0)
            await made.aclose()
            assert all(each.done() for each in solving)
            return [await each for each in solving]

    for result in asyncio.run(work()):
        assert result.ended == "interrupted"
        assert result.path


def test_seed_and_budget_of_a_call_are_those_of_an_agent_with_them() -> None:
    """In every way to run; the agent's own stay."""
    made = agent(seed=1, budget=Budget(calls=50))

    async def streamed() -> Result:
        *_, last = [item async for item in made.stream("r", seed=4, budget=Budget(calls=5))]
        assert isinstance(last, Result)
        return last

    expected = agent(seed=4, budget=Budget(calls=5)).solve("r")
    for result in (made.solve("r", seed=4, budget=Budget(calls=5)), asyncio.run(streamed())):
        assert (result.seed, result.ended, result.usage.calls) == (4, "calls", 5)
        assert (result.answer, result.path) == (expected.answer, expected.path)
    assert made.solve("r", seed=4).answer == agent(seed=4).solve("r").answer
    assert made.solve("r").answer == agent(seed=1).solve("r").answer
    with pytest.raises(ConfigError, match="price"):
        made.solve("r", budget=Budget(dollars=1.0))


def test_a_journal_has_the_seed_and_the_budget_of_its_call(tmp_path: Path) -> None:
    """So that ``resume`` goes on with them."""
    agent().solve("r", journal=tmp_path / "run.jsonl", seed=4, budget=Budget(calls=5))
    recorded = recorded_run(tmp_path / "run.jsonl")
    assert (recorded.seed, Budget(**recorded.budget.model_dump())) == (4, Budget(calls=5))


def test_an_agent_frees_its_model() -> None:
    """And loads it again for the next run."""

    async def work() -> None:
        async with Agent("game24", "io", backend="seed") as made:
            assert isinstance(made.backend, SeedBackend)
            first = await made.asolve("4 9 10 13")
            assert made.backend.core.loaded
        assert not made.backend.core.loaded
        assert (await made.asolve("4 9 10 13")).answer == first.answer

    asyncio.run(work())
