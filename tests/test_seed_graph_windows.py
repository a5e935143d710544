"""Graphs of models with sliding windows: rows are given back, their table is filled before a replay, texts stay."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from graph_recorder import GraphRecorder, StaleGraph
from seed_tools import MIX, Naive, ask, clean, scheduler, told
from test_seed_graphs import SIZES, TRIAL, opened, quiet, runner
from test_seed_sliding import WINDOW, long_requests, network

from treeagent.backends.seed.executor import graph_setup
from treeagent.backends.seed.executor.forward_batch import ForwardBatch
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.pass_memory import PassMemory
from treeagent.backends.seed.executor.trial_pass import TrialPass, trial_segments
from treeagent.backends.seed.kernels.attention_table import AttentionTiles
from treeagent.backends.seed.kv_cache.fixed_shares import LEAST, MOST, fixed_shares
from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling

FAMILIES = ("Mistral", "Qwen2")
"""Windows in all layers, and in two of three."""
LONG = Request("4 5 6 = 24\nSteps:\n" * 8, Key(7, "propose", "9"), Sampling(max_tokens=2 * WINDOW, temperature=0.9))
ASKED = [long_requests()[3], LONG, MIX[1]]


pytestmark = pytest.mark.usefixtures("short_tiles")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model of each family."""
    where = tmp_path_factory.mktemp("models")
    return {family: network(family, where) for family in FAMILIES}


@pytest.fixture(scope="module")
def naive(folders: dict[str, str]) -> dict[str, Naive]:
    """Plain decoding of each."""
    return {family: Naive(folder, "float64") for family, folder in folders.items()}


def sliding(where: str) -> ModelRunner:
    """A target in float64, whose layers with windows have rows."""
    own = runner(where)
    return ModelRunner(own.weights, 10**6, rows=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{"drafter": "none"}, {"drafter": "ngram", "draft_tokens": 3}], ids=str)
def test_texts_of_many_windows_are_those_of_plain_decoding(
    folders: dict[str, str],
    naive: dict[str, Naive],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    options: dict[str, Any],
) -> None:
    """By replays over memory that stays where it is, slots and rows alike; rows outside of windows are given back."""
    backend, recorders = opened((folders[family], ""), monkeypatch, chunk=WINDOW, **options)
    pool = scheduler(backend).runner.forest.pool
    assert pool.windows is not None
    before = [entries.data_ptr() for entries in (*pool.entries, *pool.windows.entries)]
    assert told(ask(backend, *ASKED)) == naive[family].expected(ASKED)
    clean(backend)
    backend.reset()
    assert (pool.used, pool.windows.used) == (0, 0)
    assert told(ask(backend, LONG)) == naive[family].expected([LONG])
    assert pool.peak > 6 * WINDOW
    assert pool.windows.peak < 4 * WINDOW
    assert [entries.data_ptr() for entries in (*pool.entries, *pool.windows.entries)] == before
    assert all(recorder.replayed > 20 for recorder in recorders)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 12))])
def test_texts_in_little_fixed_memory_are_those_of_plain_decoding(
    folders: dict[str, str], naive: dict[str, Naive], monkeypatch: pytest.MonkeyPatch, family: str, seed: int
) -> None:
    """Twice the same, preempted and read again where either kind of memory is short, or refused in one line."""
    monkeypatch.setattr(graph_setup, "TRIAL", TrialPass(2, private=8, nodes=1, shared=8))
    chance = random.Random(seed)
    tokens = chance.choice((44, 60, 75))
    asked = chance.sample([*ASKED, *MIX, *long_requests()], 6)
    memory = tokens * runner(folders[family]).forest.pool.slot_bytes
    backend, _ = opened(
        (folders[family], ""), monkeypatch, drafter="ngram", kv_memory=memory / 1e6, chunk=chance.choice((3, 7, 64))
    )
    pool = scheduler(backend).runner.forest.pool
    assert pool.fixed
    for _ in range(2):
        for reply, right in zip(ask(backend, *asked, errors=True), naive[family].expected(asked), strict=True):
            if isinstance(reply, BackendError):
                assert "memory is too small" in str(reply)
            else:
                assert told([reply]) == [right]
        clean(backend)
    if seed == 0:  # what others ask for may be refused, or fit
        assert scheduler(backend).counters.preempted > 0


# What must be noticed


def elsewhere(memory: PassMemory) -> None:
    """Let tables of rows never arrive."""
    fill, begin = memory.fill, memory._wide + memory._table  # the second table is that of rows

    def written(plan: ForwardBatch) -> ForwardBatch:
        kept = memory._block[begin:].clone()
        done = fill(plan)
        memory._block[begin:] = kept
        return done

    memory.fill = written  # type: ignore[method-assign]


def difference(own: ModelRunner, trial: TrialPass = TRIAL) -> float:
    """How far logits by graphs are from plain ones, where keys and values are random."""
    with trial_segments(own, trial) as segments:
        pool, chance = own.forest.pool, torch.Generator().manual_seed(0)
        assert pool.windows is not None
        for entries in (*pool.entries, *pool.windows.entries):
            entries[1:].normal_(generator=chance)
        fixed, graphs = own.forward(segments)[0], own.graphs
        own.graphs = None
        plain = own.forward(segments)[0]
    own.graphs = graphs
    return float((fixed - plain).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_of_rows_that_is_not_filled_gives_other_logits(folders: dict[str, str], family: str) -> None:
    """That of an earlier pass is read; with the table of its own a pass is right."""
    own = sliding(folders[family])
    assert graph_setup.set_up_graphs(own, GraphRecorder(), quiet, SIZES) is None
    assert own.graphs is not None
    assert difference(own) < 1e-9
    for memory in own.graphs._memories.values():
        with torch.inference_mode():
            elsewhere(memory)
    assert difference(own, TrialPass(3, private=5, nodes=2, shared=20)) > 1e-3


def test_numbers_of_slots_in_place_of_rows_are_noticed_at_load(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the trial pass: all passes stay plain then, over rows that grow again."""
    own = sliding(folders["Qwen2"])
    monkeypatch.setattr(AttentionTiles, "over", lambda tiles, keys: tiles)
    why = graph_setup.set_up_graphs(own, GraphRecorder(), quiet, SIZES)
    assert why is not None
    assert "differ from plain ones" in why
    assert own.forest.pool.windows is not None
    assert not own.forest.pool.fixed


def moved_rows(own: ModelRunner) -> None:
    """Keys and values in other memory than when it was recorded."""
    assert own.forest.pool.windows is not None
    memory = own.forest.pool.windows._memory
    memory.limit += 100
    memory._grow(memory.capacity + 100)


def other_memory(own: ModelRunner) -> None:
    """Rows of new tokens, and tables of them, that are put into other tensors than the recorded ones."""
    assert own.graphs is not None
    with torch.inference_mode():
        own.graphs._memories = {size: own.graphs._memory(size) for size in own.graphs._memories}


@pytest.mark.parametrize("fault", [moved_rows, other_memory], ids=lambda fault: fault.__name__)
def test_memory_of_rows_that_does_not_stay_is_noticed(folders: dict[str, str], fault: Any) -> None:
    """The twin without the fault runs; with it a replay is refused."""
    own = sliding(folders["Qwen2"])
    assert graph_setup.set_up_graphs(own, GraphRecorder(), quiet, SIZES) is None
    with trial_segments(own, TRIAL) as segments:
        own.forward(segments)
        fault(own)
        with pytest.raises(StaleGraph, match=r"freed|moved"):
            own.forward(segments)


def test_shares_fill_the_memory_and_no_more() -> None:
    """Rows are for two thirds of the tokens at least, for all where layers without windows take nothing."""
    chance = random.Random(0)
    for _ in range(200):
        count, slot, row = chance.randint(1, 10**6), chance.choice((0, 8, 512, 4096)), chance.choice((8, 512, 4096))
        window, context = chance.randint(1, 5000), chance.randint(1, 10**5)
        slots, rows = fixed_shares(count, slot, row, window, context)
        assert slots * slot + rows * row <= count * (slot + row)
        assert slots >= rows >= int(LEAST * count)
        assert slots <= MOST * rows
        assert slot or rows == count
