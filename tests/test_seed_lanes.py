"""Lanes hold what the slots of a branch hold, whatever happened to the slots, and take the memory that is left."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from seed_tools import FAMILIES, MIX, Bench, ask, save_model, told

from treeagent.backends.local import model_thread as worker
from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.executor import lane_class
from treeagent.backends.seed.executor import lanes as lane_file
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.lane_class import stale_positions
from treeagent.backends.seed.executor.lanes import Lanes
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights

SLOTS = 400
"""So few that branches often hold slots that others held before."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    """A tiny model in float64, and a pool full of numbers."""
    folder = save_model(tmp_path_factory.mktemp("lanes"), FAMILIES["llama"])

    def open_engine() -> ModelRunner:
        engine = ModelRunner(Weights(load_model(Path(folder), "float64", torch.device("cpu")), folder), memory=1 << 24)
        engine.forest.pool.allocate(SLOTS)
        generator = torch.Generator().manual_seed(0)
        for entries in engine.forest.pool.entries:
            entries.normal_(generator=generator)
        return engine

    return worker.run(open_engine)


class Branches:
    """Branches whose slots change at random: they grow, lose their end, exchange slots, pause, end and fork."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.contexts: dict[object, list[int]] = {}

    def passes(self, engine: ModelRunner, count: int) -> Iterator[list[Segment]]:
        """The segments of ``count`` passes."""
        for _ in range(count):
            for owner in list(self.contexts):
                self._change(owner)
            while len(self.contexts) < 6 or (self.chance.random() < 0.3 and len(self.contexts) < 12):
                self.contexts[object()] = self._slots(self.chance.choice([5, 30, 70, 90]))
            taking = [owner for owner in self.contexts if self.chance.random() < 0.9]
            new = self._slots(6 * len(taking))
            spans: list[Segment] = []
            for owner in taking:
                size = self.chance.choice([1, 1, 2, 5])
                own, new = new[:size], new[size:]
                parents = [self.chance.randint(-1, node - 1) for node in range(size)]
                context = np.array(self.contexts[owner], dtype=np.int64)
                tokens = [self.chance.randrange(100) for _ in own]
                slots = np.array(own, dtype=np.int64)
                spans.append(Segment(tokens, slots, context, engine.forest.root, parents, range(size), owner))
                kept = own[: self.chance.randint(0, size)]
                if self.chance.random() < 0.3:
                    self.chance.shuffle(kept)
                self.contexts[owner] += kept
            yield spans

    def _change(self, owner: object) -> None:
        context, chance = self.contexts[owner], self.chance
        if chance.random() < 0.1:
            del self.contexts[owner]
        elif chance.random() < 0.1:
            self.contexts[object()] = list(context)  # a fork, or the same text after a preemption
        elif chance.random() < 0.2:
            del context[chance.randrange(1, len(context) + 1) :]
        elif chance.random() < 0.2:
            for place in range(len(context)):
                if chance.random() < 0.1:
                    context[place] = chance.randrange(SLOTS)

    def _slots(self, count: int) -> list[int]:
        return self.chance.sample(range(SLOTS), count)


def worst_difference(engine: ModelRunner, seed: int, rounds: int = 25) -> float:
    """Of any logit of passes with lanes from the same passes with gathered keys; at least one pass has lanes."""

    def compare() -> float:
        engine.lanes.clear()
        worst, lanes = 0.0, 0
        with torch.inference_mode():
            for spans in Branches(seed).passes(engine, rounds):
                logits, rows = engine.forward(spans)
                plan = make_forward_batch(spans, engine.dtype, engine.device)
                gathered = engine.weights.decoder(plan, engine.forest.pool)
                lanes += engine.lanes.held
                for own, other in zip(rows, plan.rows, strict=True):
                    difference = (logits[own.start : own.stop] - gathered[other.start : other.stop]).abs().max()
                    worst = max(worst, float(difference.nan_to_num(nan=1.0)))
        assert lanes
        return worst

    return worker.run(compare)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("seed", range(10))
def test_a_lane_never_yields_stale_keys(engine: ModelRunner, seed: int) -> None:
    """After random sequences of growth, rejection, preemption, forks and exchanged slots, in float64."""
    assert worst_difference(engine, seed) < 1e-10


def never(held: NDArray[np.int64], known: NDArray[np.int64], *_: object) -> NDArray[np.bool_]:
    """What was copied once stays."""
    return known < 0


def slots_only(held: NDArray[np.int64], known: NDArray[np.int64], *_: object) -> NDArray[np.bool_]:
    """What another branch wrote into the same slot is not seen."""
    return known != held


def passes_only(
    held: NDArray[np.int64], known: NDArray[np.int64], written: NDArray[np.int64], passes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Another slot is not seen."""
    return (known < 0) | (passes < written[held])


@pytest.mark.parametrize("broken", [never, slots_only, passes_only])
def test_lanes_that_check_less_are_wrong(
    engine: ModelRunner, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., NDArray[np.bool_]]
) -> None:
    """The test above finds each part of the check missing."""
    monkeypatch.setattr(lane_class, "stale_positions", broken)
    assert max(worst_difference(engine, seed) for seed in range(4)) > 1e-3


def test_a_pass_that_failed_leaves_no_lanes(engine: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was planned and not copied is not taken for valid."""

    def fail() -> None:
        [spans] = Branches(0).passes(engine, 1)
        engine.forward(spans)
        with monkeypatch.context() as context:
            context.setattr(engine.weights, "decoder", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                engine.forward(spans)
        with torch.inference_mode():
            logits, rows = engine.forward(spans)
            plan = make_forward_batch(spans, engine.dtype, engine.device)
            gathered = engine.weights.decoder(plan, engine.forest.pool)
        for own, other in zip(rows, plan.rows, strict=True):
            assert torch.allclose(logits[own.start : own.stop], gathered[other.start : other.stop], atol=1e-10)

    worker.run(fail)


def test_lanes_take_only_memory_that_is_left(engine: ModelRunner) -> None:
    """A part of ``memory``, together with the pool's; the rest is gathered, and few branches have none."""
    pool = engine.forest.pool
    spans = list(next(Branches(1).passes(engine, 1)))
    for spare in (0, 2000, 10_000):
        memory = (pool.capacity + spare) * pool.slot_bytes
        lanes = Lanes(pool, memory)
        plan = lanes.plan(spans, [0] * len(spans))
        assert lanes.peak <= min(spare * pool.slot_bytes, memory // lane_file.SHARE)
        assert (plan is None) == (spare == 0)
    assert lanes.plan(spans[:3], [0] * 3) is None
    assert lanes.held == 0


def test_texts_are_those_of_naive_decoding_with_lanes_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single branches too, with drafts, beside beams and scores."""
    monkeypatch.setattr(lane_file, "LEAST", 1)
    bench = Bench.of(tmp_path, "llama", "float64")
    backend = bench.set_up("ngram", "rounds", draft_tokens=8)
    assert told(ask(backend, *MIX)) == bench.naive.expected(MIX)
    assert bench.scheduler.runner.lanes.peak > 0


def test_a_copy_is_valid_from_the_pass_that_wrote_the_slot() -> None:
    """Not where the slot differs, and not where the slot was written later."""
    held, known = np.array([[1, 2, 3]]), np.array([[1, 2, 0]])
    written, passes = np.array([0, 5, 4, 1]), np.array([[4, 4, 4]])
    assert stale_positions(held, known, written, passes).tolist() == [[True, False, True]]
