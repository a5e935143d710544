"""Drafts of several exits: each token's logits are those of its exit, and what is skipped is caught up."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from exit_drafts import EXITS, at_exits, load, paths_of
from exit_drafts import folder as folder  # noqa: PLC0414  the fixture
from exit_drafts import naive as naive  # noqa: PLC0414  the fixture
from seed_tools import Naive
from test_seed_attention import pass_over, texts

from treeagent.backends.local import model_thread as worker
from treeagent.backends.seed.executor import profiler as timing
from treeagent.backends.seed.executor.early_exit import confidence
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.training.early_exit_loss import exit_logits


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
