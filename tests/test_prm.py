"""Process reward models: what is read for a step, and what is said of other models."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from device import DEVICE
from helpers import Oracle
from reward_models import _FOLDERS, QUESTION, SHAPES, STEPS, backend, change, expected, head, ids, llama, request, told
from reward_models import models as models  # noqa: PLC0414  the fixture
from seed_tools import clean, save_model

from treeagent import Agent, BackendError, ConfigError, Evaluator, ModelError, Scores
from treeagent.backend import Backend
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.strategies.prm import PRM


@pytest.mark.parametrize("kind", ["transformers", "seed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rewards_are_those_of_the_shapes_own_rule(shape: str, kind: str, models: dict[str, str]) -> None:
    """Read at the marks, in one request with all steps or in one for each path, beside other requests."""
    judge = backend(kind, models[shape])
    paths = [request(shape, STEPS[: number + 1]) for number in range(3)]
    answers = told(judge, request(shape), *paths, request(shape, STEPS[1:]))
    rewards = expected(shape, models[shape])
    assert answers[0].logprobs == pytest.approx(rewards, abs=1e-9)
    assert [answer.logprobs[-1] for answer in answers[1:4]] == pytest.approx(rewards, abs=1e-9)
    assert answers[4].logprobs != pytest.approx(rewards[1:], abs=1e-6)  # another text
    _FOLDERS[:] = [models[shape]]
    assert answers[0].lengths == tuple(len(ids(step)) + 1 for step in STEPS)
    assert answers[0].usage.prompt_tokens == len(ids(QUESTION, *STEPS))
    if isinstance(judge, SeedBackend):
        clean(judge)


@pytest.mark.parametrize("shape", SHAPES)
def test_judging_a_child_reads_the_childs_tokens_alone(shape: str, models: dict[str, str]) -> None:
    """One token for each of the new step's, its mark included; nothing for a path that is known."""
    engine = backend("seed", models[shape])
    _FOLDERS[:] = [models[shape]]
    told(engine, request(shape, STEPS[:1]))
    for steps in (STEPS[:2], STEPS, (STEPS[0], "6 + 5 = 11 (left: 6 11)"), (*STEPS, "the end")):
        read = engine.meter()
        told(engine, request(shape, steps))
        figures = read()
        assert figures["judgements"] == 1
        assert figures["tokens_per_judgement"] == len(ids(steps[-1])) + 1
    read = engine.meter()
    told(engine, request(shape, STEPS))
    assert read()["judgements"] == 0
    assert isinstance(engine, SeedBackend)
    engine.reset()
    told(engine, request(shape, STEPS[:1]))
    assert read()["judgements"] == 1
    clean(engine)


def test_a_level_of_children_costs_each_its_own_tokens(models: dict[str, str]) -> None:
    """Judged together, before their parent was."""
    engine = backend("seed", models["classifier"])
    _FOLDERS[:] = [models["classifier"]]
    children = [f"{number} + 6 = {number + 6} (left: 6)" for number in range(6)]
    read = engine.meter()
    told(engine, *(request("classifier", (STEPS[0], child)) for child in children))
    figures = read()
    shared = len(ids(QUESTION, STEPS[0])) - 1  # the parent's mark is a part of each pass
    own = [len(ids(child)) + 1 for child in children]
    computed = figures["tokens_per_judgement"] * figures["judgements"]
    assert figures["judgements"] == 6
    assert sum(own) + shared <= computed <= shared + sum(own) + sum(own)


def oracle_run(evaluator: Evaluator, judge: str | Backend, **how: Any) -> Any:
    """A search by a generator that knows the game, judged by a model."""
    agent = Agent("game24", "greedy", backend=Oracle(None, None), evaluator=evaluator, **how)
    return agent.solve("4 5 6 10")


@pytest.mark.parametrize("over", ["last", "min", "product", "mean"])
def test_a_paths_value_is_made_of_its_steps_rewards(over: Any, models: dict[str, str]) -> None:
    """By the judge on a backend of its own; the journal's values are those rewards."""
    judge = backend("transformers", models["classifier"])
    result = oracle_run(PRM(over=over), judge, evaluator_backend=judge)
    for thought in result.tree:
        if thought.parent is None:
            continue
        steps = tuple(result.tree.steps(thought))
        [scores] = told(judge, request("classifier", steps, "4 5 6 10\n"))
        rewards = [math.exp(value) for value in scores.logprobs]
        rule = {
            "last": rewards[-1],
            "min": min(rewards),
            "product": math.prod(rewards),
            "mean": sum(rewards) / len(rewards),
        }
        assert thought.value == pytest.approx(rule[over])


def test_the_text_of_an_attempt_is_cut_into_steps() -> None:
    """At the separator; blanks around a step do not count, and the mark may end with a line break."""
    asked: list[tuple[Any, ...]] = []

    class Context:
        def steps(self, thought: Any) -> list[str]:
            return ["one\n\n two \n\n\n\nthree"]

        async def reward(self, thought: Any, *how: Any) -> Scores:
            asked.append(how)
            return Scores((-0.5, -0.7, -0.1), (1, 1, 1), None)  # type: ignore[arg-type]

    context: Any = Context()
    [judgement] = asyncio.run(PRM(mark=r"ки\n", good="+", bad="-", over="min").judge([None], context))  # type: ignore[list-item]
    assert asked == [(["one", "two", "three"], "ки\n", "+", "-")]
    assert judgement.value == pytest.approx(math.exp(-0.7))


def test_a_journalled_run_is_resumed_without_asking_the_model_again(models: dict[str, str], tmp_path: Path) -> None:
    """Rewards are in the journal like other scores; the same tree grows from it."""
    path = tmp_path / "run.jsonl"
    judge = {"evaluator": "prm", "evaluator_backend": "transformers", "evaluator_model": models["classifier"]}
    options = {"evaluator.over": "min", "evaluator_backend.device": str(DEVICE)}
    agent = Agent("game24", "greedy", backend="helpers:Oracle", options=options, **judge)  # type: ignore[arg-type]
    first = agent.solve("4 5 6 10", journal=path)
    assert first.judging.prompt_tokens
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))  # without its end
    again, text = Agent.from_journal(path, allow_code=True)
    assert again.judging.describe() == agent.judging.describe()

    async def refuse(request: Any) -> Any:
        raise AssertionError("asked again")

    again.judging.score = again.judging.generate = again.backend.generate = refuse  # type: ignore[method-assign]

    async def resumed() -> Any:
        return await again.run(text, journal=path, resume=True).result()

    assert asyncio.run(resumed()).tree.to_json() == first.tree.to_json()


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        ("shepherd", {}, "no process reward model with a reward head"),
        ("classifier", {"good": "+", "bad": "-"}, "leave the options good and bad out"),
        ("classifier", {"mark": "behind"}, r"the mark 'behind' is \d+ tokens of the model, expected one"),
        ("shepherd", {"good": "good step", "bad": "-"}, "the token of a right step 'good step' is"),
    ],
)
@pytest.mark.parametrize("kind", ["transformers", "seed"])
def test_a_model_without_head_or_mark_is_one_line(
    kind: str, shape: str, how: dict[str, str], message: str, models: dict[str, str]
) -> None:
    """What was wrong and what to do; the tree so far is kept."""
    with pytest.raises(BackendError, match=message) as caught:
        oracle_run(PRM(**how), backend(kind, models[shape]), evaluator_backend=backend(kind, models[shape]))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert caught.value.result is not None
    assert len(caught.value.result.tree) > 1


@pytest.mark.parametrize("how", [{"mark": ""}, {"good": "+"}, {"bad": "-"}])
def test_options_that_make_no_sense_are_refused_at_once(how: dict[str, str], models: dict[str, str]) -> None:
    """Before a model is loaded."""
    with pytest.raises(ConfigError, match="the evaluator 'prm' needs"):
        Agent("game24", "bfs", backend=Oracle(None, None), evaluator=PRM(**how), evaluator_backend="transformers")


def test_a_reward_model_writes_no_text(models: dict[str, str]) -> None:
    """Named as the generator it is refused with what to do."""
    for kind in ("transformers", "seed"):
        with pytest.raises(BackendError, match="judges steps and writes no text: name it with --evaluator-model"):
            Agent("game24", "bfs", backend=backend(kind, models["skywork"])).solve("4 5 6 10")


def test_a_checkpoint_that_lacks_its_head_is_refused(tmp_path: Path) -> None:
    """Its configuration says one thing and its weights another."""
    save_model(tmp_path / "bare", llama())
    change(tmp_path / "bare", "LlamaForTokenClassification", {})
    with pytest.raises(ModelError, match=r"no process reward model .*have no reward head"):
        TransformersBackend(str(tmp_path / "bare"), device=DEVICE).load()
    save_model(tmp_path / "wide", llama())
    change(tmp_path / "wide", "LlamaForTokenClassification", {"score.weight": head((9, 32))[0]})
    with pytest.raises(ModelError, match="head of 9 classes"):
        TransformersBackend(str(tmp_path / "wide"), device=DEVICE).load()


def test_a_backend_without_rewards_is_refused_before_the_first_request() -> None:
    """By its capabilities."""
    from treeagent import CapabilityError

    with pytest.raises(CapabilityError, match="'prm' needs rewards"):
        Agent("game24", "bfs", backend=Oracle(None, None), evaluator="prm")
