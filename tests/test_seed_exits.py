"""Drafts of several exits: each token's logits are those of its exit, what is skipped is caught up, texts stay."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from device import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from seed_tools import MIX, SHAPE, Naive, ask, clean, fixed_costs, save_model, told
from test_seed_attention import pass_over, texts

from treeagent.backends.local import model_thread as worker
from treeagent.backends.models.loader import load_model
from treeagent.backends.sampling.gumbel_top_k import softmax_rows, warp_rows
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import profiler as timing
from treeagent.backends.seed.executor.early_exit import EarlyExitRunner, ExitSpec, confidence
from treeagent.backends.seed.executor.exit_policy import TRIAL, ExitPolicy
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.records import SequenceState
from treeagent.backends.training.early_exit_loss import exit_logits
from treeagent.errors import ConfigError, ModelError

EXITS = (1, 2, 4)
Load = Callable[..., EarlyExitRunner]


def sorted_config(exits: tuple[int, ...] | None = EXITS) -> transformers.LlamaConfig:
    """Of a tiny model of four layers."""
    config = transformers.LlamaConfig(**{**SHAPE, "num_hidden_layers": 4}, num_key_value_heads=2)
    if exits is not None:
        config.exits = list(exits)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny draft of three exits."""
    return save_model(tmp_path_factory.mktemp("sorted") / "sorted-draft", sorted_config())


@pytest.fixture(scope="module")
def naive(folder: str) -> Naive:
    """Its plain forward."""
    return Naive(folder, "float64")


def load(folder: str, layers: int | None = None) -> EarlyExitRunner:
    model = load_model(Path(folder), "float64", torch.device("cpu"))
    return worker.run(lambda: EarlyExitRunner(Weights(model, folder), 1 << 24, layers))


def at_exits(naive: Naive, path: list[int]) -> list[torch.Tensor]:
    """Logits (V,) after the path's last token, at every exit."""
    picked = torch.zeros(1, len(path), dtype=torch.bool)
    picked[0, -1] = True
    inputs = {"input_ids": torch.tensor([path])}

    def forward() -> list[torch.Tensor]:
        with torch.inference_mode():  # in float64 throughout
            inner = naive.model.network.model
            out = inner(**inputs, output_hidden_states=True)
            states = [inner.norm(out.hidden_states[layers][picked]) for layers in EXITS[:-1]]
            states.append(out.last_hidden_state[picked])
            return [naive.model.network.lm_head(state)[0] for state in states]

    return worker.run(forward)


def paths_of(prompt: list[int], tokens: list[int], parents: list[int]) -> list[list[int]]:
    """The whole text up to every node of a tree that begins with the prompt's last token."""
    paths: list[list[int]] = []
    for token, parent in zip(tokens, parents, strict=True):
        paths.append([*(paths[parent] if parent >= 0 else prompt[:-1]), token])
    return paths


def test_every_token_has_the_logits_of_the_first_exit_that_is_sure(folder: str, naive: Naive) -> None:
    """Random trees after prompts with common beginnings, whatever the tokens before them were sure of."""
    runner = load(folder)
    seen: set[int] = set()
    for seed, limit in enumerate((1000, 7, 33)):
        threshold = (0.15, 0.3, 0.5)[seed]
        runner.reset_cache()
        runner.exit_early(threshold)
        before = list(runner.exit_counts)
        prompts = texts(seed)
        verified = worker.run(lambda: pass_over(runner, prompts, random.Random(seed), limit))  # noqa: B023  # run now
        expected = [0] * len(EXITS)
        for prompt, (span, first) in zip(prompts, verified, strict=True):
            assert span.parents is not None
            for node, path in enumerate(paths_of(prompt, list(span.tokens), list(span.parents))):
                exits = at_exits(naive, path)
                sure = [bool(confidence(logits[None])[0] > threshold) for logits in exits[:-1]]
                leaves = sure.index(True) if True in sure else len(EXITS) - 1
                expected[leaves] += 1
                seen.add(leaves)
                assert float((runner.logits[first + node] - exits[leaves]).abs().max()) < 1e-10  # type: ignore[attr-defined]
        assert [now - then for now, then in zip(runner.exit_counts, before, strict=True)] == expected
    assert seen == {0, 1, 2}  # the trial means something


@pytest.mark.sampled(4)
@pytest.mark.parametrize("seed", range(4))
def test_exits_may_be_skipped_and_evaluated_later(folder: str, naive: Naive, seed: int) -> None:
    """Each pass evaluates other exits, chosen by their times: every token has the logits of the first of those whose
    confidence suffices, whatever the depth of earlier passes, and the tokens before it are at least as deep.
    """
    runner = load(folder)
    threshold, limit = 0.3, (1000, 7, 33, 12)[seed]
    chance = random.Random(seed)
    turns = [(0, 1, 2), chance.choice([(2,), (1, 2)]), (0, 2), (2,), chance.choice([(0, 1, 2), (1, 2)])]
    runner.exit_early(threshold)
    seen: set[tuple[tuple[int, ...], int]] = set()
    for turn, looked in enumerate(turns):
        runner._policy.active_exits = looked
        prompts = texts(seed)
        verified = worker.run(lambda: pass_over(runner, prompts, random.Random(turn), limit))  # noqa: B023  # run now
        for prompt, (span, first) in zip(prompts, verified, strict=True):
            assert span.parents is not None
            for node, path in enumerate(paths_of(prompt, list(span.tokens), list(span.parents))):
                exits = at_exits(naive, path)
                sure = (at for at in looked[:-1] if bool(confidence(exits[at][None])[0] > threshold))
                leaves = next(sure, len(EXITS) - 1)
                seen.add((looked, leaves))
                assert float((runner.logits[first + node] - exits[leaves]).abs().max()) < 1e-10  # type: ignore[attr-defined]
            for token in range(len(span.tokens)):
                depths = runner._depth[np.concatenate((span.context, span.slots[span.visible()[token]]))].tolist()
                assert min(depths) >= depths[-1] > looked[0]
    assert len(seen) > 2  # the trial means something


def test_what_was_read_to_the_first_exit_is_caught_up_when_that_is_passed_by(folder: str, naive: Naive) -> None:
    """A token after it is not read deeper than it, until both are."""
    runner, prompt = load(folder), texts(3)[4]
    runner.exit_early(0.0)  # whatever it says is sure enough
    node, _ = runner.forest.match_prefix(prompt[:-1])
    nothing = np.zeros(0, dtype=np.int64)
    reading = Segment(prompt[:-1], node.slots, nothing, runner.forest.root, wanted=[len(prompt) - 2])
    worker.run(lambda: runner.forward([reading]))
    assert set(runner._depth[node.slots].tolist()) == {1}
    node.computed = len(node.tokens)
    runner._policy.active_exits = (2,)
    last = runner.forest.allocate(1)
    logits, _ = worker.run(lambda: runner.forward([Segment(prompt[-1:], last, node.slots, node, wanted=[0])]))
    assert float((logits[0] - at_exits(naive, prompt)[2]).abs().max()) < 1e-10
    assert set(runner._depth[np.concatenate((node.slots, last))].tolist()) == {3}


def test_a_pass_can_be_made_to_end_at_an_exit(folder: str) -> None:
    """To be timed, no matter what tokens were sure of; afterwards everything is as it was."""
    runner = load(folder)
    runner.exit_early(0.3)
    for number, layers in enumerate(EXITS):
        with runner.ending(number):
            assert runner.layers == layers
            worker.run(lambda: pass_over(runner, texts(1), random.Random(1), 1000))
        runner.reset_cache()
    assert runner.exits == EXITS
    runner.memory = 1  # less than the passes that are timed take
    runner.reset_cache()
    first, whole = worker.run(lambda: timing.profile_exits(runner))
    assert min(first, whole) > 0
    assert runner.forest.pool.limit == 0
    assert runner.exit_counts == [0, 0, 0]
    assert runner.passes == 0


def test_exits_are_evaluated_where_that_takes_less_time() -> None:
    """Evaluating an exit costs one output head; a token that stops there saves the layers and the heads that follow."""
    cheap = ExitPolicy((1, 2, 4), (1.0, 4.0))  # layers alone
    assert cheap.active_exits == (0, 1, 2)
    assert cheap.relative_cost == pytest.approx((1 + 1 / 2 + 2 / 4) / 4)
    dear = ExitPolicy((1, 2, 4), (11.0, 14.0))  # a look takes ten layers
    assert dear.active_exits == (2,)
    assert dear.relative_cost == 1
    unknown = ExitPolicy((1, 2, 4))
    assert unknown.active_exits == (0, 1, 2)
    assert not unknown.weighs


@settings(deadline=None)
@given(
    layers=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    layer=st.floats(0.1, 10),
    look=st.floats(0, 50),
    shares=st.lists(st.integers(0, 100), min_size=5, max_size=5),
)
def test_the_choice_of_exits_is_the_best_of_all(
    layers: list[int], layer: float, look: float, shares: list[int]
) -> None:
    """Against every subset, whatever shares have left."""
    exits = list(itertools.accumulate(layers))
    policy = ExitPolicy(exits, (look + layer * exits[0], look + layer * exits[-1]))
    for number in range(len(exits) - 1):
        policy.learn(number, shares[number], 100)
    policy.end_pass()

    def way(looked: Sequence[int]) -> float:
        seconds, reach, before = 0.0, 1.0, -1
        for number in looked:
            seconds += reach * policy._stage(before, number)
            reach, before = reach * (1 - policy._exit_rate(number)), number
        return seconds

    last = len(exits) - 1
    every = [(*some, last) for count in range(last + 1) for some in itertools.combinations(range(last), count)]
    assert way(policy.active_exits) == pytest.approx(min(map(way, every)))
    assert policy.relative_cost == pytest.approx(way(policy.active_exits) / way((last,)))


def test_an_exit_that_was_given_up_is_tried_again() -> None:
    """Its evidence loses weight, and with the share that is assumed at first it saves time."""
    policy = ExitPolicy((1, 4), (2.0, 5.0))
    assert policy.active_exits == (0, 1)
    policy.learn(0, 0, 1000)
    policy.end_pass()
    assert policy.active_exits == (1,)
    for _ in range(1000):
        policy.end_pass()
    assert policy.active_exits == (0, 1)


def test_all_exits_are_evaluated_from_time_to_time() -> None:
    """So that one is found that pays, though its share was thought too small."""
    policy = ExitPolicy((1, 4), (9.0, 12.0))  # pays above a share of three quarters
    looks = []
    for _ in range(12 * TRIAL):
        looks.append(policy.active_exits)
        if policy.active_exits == (0, 1):
            policy.learn(0, 50, 50)
        policy.end_pass()
    assert looks[:TRIAL] == [(1,)] * TRIAL
    assert looks[TRIAL] == (0, 1)
    assert looks[-TRIAL:].count((0, 1)) == TRIAL


def test_no_token_is_deeper_than_those_before_it(folder: str) -> None:
    """Where every token is computed once, depths fall along every path, so what waits is a path's end: keys and values
    held and states that wait make up the text.
    """
    runner = load(folder)
    runner.exit_early(0.3)
    prompts = texts(5)
    verified = worker.run(lambda: pass_over(runner, prompts, random.Random(5), 50))
    waiting = 0
    for span, _ in verified:
        assert span.parents is not None
        for token in range(len(span.tokens)):
            path = np.concatenate((span.context, span.slots[span.visible()[token]]))
            depths = runner._depth[path].tolist()
            assert depths == sorted(depths, reverse=True)
            assert min(depths) >= 1  # at the first exit everything is read
            waiting += depths.count(1)
    assert waiting


def test_a_fixed_exit_runs_and_keeps_its_layers_alone(folder: str, naive: Naive) -> None:
    """The pool has as many layers as are run, and the logits are those of the exit."""
    for place, layers in enumerate(EXITS):
        runner = load(folder, layers)
        assert len(runner.forest.pool.entries) == layers
        prompts = texts(1)
        verified = worker.run(lambda: pass_over(runner, prompts, random.Random(1), 1000))  # noqa: B023
        for prompt, (span, first) in zip(prompts, verified, strict=True):
            path = [*prompt[:-1], span.tokens[0]]
            logits = runner.logits[first]  # type: ignore[attr-defined]
            assert float((logits - at_exits(naive, path)[place]).abs().max()) < 1e-10
        assert runner.relative_cost == 1  # of the passes that are run, which are timed as they are
        assert runner.mean_parameters == runner.parameters - (4 - layers) * runner.weights.layer_parameters


def test_the_sorted_loss_sees_the_same_exits(folder: str, naive: Naive) -> None:
    """What is trained is what is run: :func:`exit_logits` gives the logits of the engine's exits."""
    path = texts(2)[3]
    picked = torch.zeros(1, len(path), dtype=torch.bool)
    picked[0, -1] = True
    with torch.inference_mode():
        trained = exit_logits(naive.model.network, {"input_ids": torch.tensor([path])}, picked)
    for logits, expected in zip(trained, at_exits(naive, path), strict=True):
        assert torch.allclose(logits[0], expected.float(), atol=1e-5)


@pytest.fixture(scope="module")
def open_engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SeedBackend]:
    """An engine whose draft is a noisy relative of the target, as far as its layers go."""
    folder = tmp_path_factory.mktemp("pair")
    target = save_model(folder / "target", sorted_config(None))
    draft = save_model(folder / "sorted-draft", sorted_config(), noise=0.1)

    def opened(**options: object) -> SeedBackend:
        with fixed_costs():
            backend = SeedBackend(target, draft=draft, device=DEVICE, dtype="float64", **options)  # type: ignore[arg-type]
            backend.load()
        return backend

    return opened


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", ["adaptive:0.2", "adaptive", "1", "4"])
@pytest.mark.parametrize("drafter", ["model", "dynamic", "rsd-s:3x2"])
def test_texts_are_those_of_naive_decoding(open_engine: Callable[..., SeedBackend], drafter: str, policy: str) -> None:
    """Wherever draft tokens leave, for chains and trees, and again when prefixes are known already."""
    backend = open_engine(drafter=drafter, exit=policy, draft_tokens=5)
    expected = Naive(str(backend.model), "float64").expected(MIX)
    read = backend.meter()
    for _ in range(2):
        assert told(ask(backend, *MIX)) == expected
        clean(backend)
    figures = read()
    assert 0 < figures["accepted"] < figures["drafted"]
    shares = figures["draft_exits"]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert len(shares) == (3 if policy.startswith("adaptive") else 1)
    if policy == "adaptive:0.2":
        assert min(shares) > 0


@pytest.mark.parametrize("policy", ["fcfs", "serial"])
def test_texts_stay_under_every_policy_and_little_memory(open_engine: Callable[..., SeedBackend], policy: str) -> None:
    """Where drafts wait, and where the draft model's prefixes are evicted between rounds."""
    backend = open_engine(exit="adaptive:0.2", policy=policy, draft_tokens=3)
    parts = backend.core.parts
    assert parts is not None
    assert parts.draft_runner is not None
    for runner in (parts.scheduler.runner, parts.draft_runner):
        runner.memory = 150 * runner.forest.pool.slot_bytes
    with fixed_costs():
        backend.reset()
    assert told(ask(backend, *MIX)) == Naive(str(backend.model), "float64").expected(MIX)
    clean(backend)


def test_the_law_of_a_draft_is_that_of_its_exit(open_engine: Callable[..., SeedBackend], naive: Naive) -> None:
    """Under rejection every token's law is the softmax of the logits it left with, whichever exit that was."""
    backend = open_engine(exit="adaptive:0.2", verify="recursive", drafter="rsd-s:3x3")
    parts = backend.core.parts
    assert parts is not None
    drafter, runner = parts.scheduler.speculator.drafter, parts.draft_runner
    assert drafter is not None
    assert runner is not None
    plain = Naive(str(backend.config.draft), "float64")
    prompt = texts(3)[2]
    row = SequenceState(list(prompt), len(prompt), MIX[2].sampling, 5, 10)
    [draft] = worker.run(lambda: drafter.propose([row], 0.0, 3))
    assert draft.law is not None
    laws = 0
    for node, parent in enumerate(draft.parents):
        path, above = list(prompt), parent
        while above >= 0:
            path.insert(len(prompt), draft.tokens[above])
            above = draft.parents[above]
        candidates = [warped(logits, row) for logits in at_exits(plain, path)]
        assert any(np.allclose(draft.law[node], law, atol=1e-9) for law in candidates)
        laws += sum(np.allclose(draft.law[node], law, atol=1e-9) for law in candidates[:-1])
    assert laws  # some left early


def warped(logits: torch.Tensor, row: SequenceState) -> np.ndarray:
    """The law (V,) that the row's settings make of logits."""
    law: np.ndarray = softmax_rows(warp_rows(logits.numpy()[None], [row.sampling]))[0]
    return law


@pytest.mark.parametrize("text", ["adaptiv", "adaptive:", "adaptive:2", "adaptive:x", "0", "-1", "2:0.5", ""])
def test_an_exit_option_that_cannot_be_read_is_refused(text: str) -> None:
    """One line that names the valid forms."""
    with pytest.raises(ConfigError, match=r"adaptive:0\.7"):
        ExitSpec.parse(text)


def test_an_exit_needs_a_draft_that_has_it(open_engine: Callable[..., SeedBackend], tmp_path: Path) -> None:
    """Without a draft, for a draft of one exit, and for layers after which there is none."""
    with pytest.raises(ConfigError, match="needs a draft model"):
        SeedBackend("mini", exit="adaptive")
    with pytest.raises(ModelError, match="exits after: 1, 2, 4"):
        open_engine(exit="3")
    with pytest.raises(ModelError, match="one exit only"):
        SeedBackend("mini", draft="mini-draft", exit="adaptive", device=DEVICE).load()


def test_a_token_that_another_has_computed_less_deep_is_caught_up(folder: str, naive: Naive) -> None:
    """The forest may hold a shallow computation of a token before deep ones, as two branches drafted the same."""
    runner = load(folder)
    path = max(texts(4), key=len)[:9]
    assert len(path) == 9

    def read(tokens: list[int], context: np.ndarray, confidence: float) -> tuple[np.ndarray, torch.Tensor]:
        slots = runner.forest.allocate(len(tokens))
        runner.exit_early(confidence)
        logits, _ = runner.forward([Segment(tokens, slots, context, runner.forest.root, wanted=[len(tokens) - 1])])
        return slots, logits[0]

    def run() -> torch.Tensor:
        nothing = np.zeros(0, dtype=np.int64)
        deep, _ = read(path[:8], nothing, 1.1)  # nothing leaves early
        shallow, _ = read([path[4]], deep[:4], -1.0)  # everything does
        assert runner._depth[shallow[0]] == 1
        mixed = np.concatenate((deep[:4], shallow, deep[5:]))
        _, logits = read([path[8]], mixed, 1.1)
        assert runner._depth[mixed].min() == 3
        return logits

    assert float((worker.run(run) - at_exits(naive, path)[-1]).abs().max()) < 1e-10
