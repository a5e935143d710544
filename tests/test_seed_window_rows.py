"""What layers with windows keep: the plain model's numbers whatever is given back, and no more than texts still see."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from device import DEVICE
from draft_trees import Trees
from seed_tools import MIX, SHAPE, Naive, ask, clean, save_model, scheduler, scored, told
from state_families import Pair
from test_seed_sliding import WINDOW, long_requests, network
from test_seed_states import random_forest

from treeagent.backends.local import model_thread as worker
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import attention_tiles, forward_batch, shared_runs, tree_attention
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.tile_attention import attend_tiles
from treeagent.backends.seed.executor.tree_attention import AttentionContext
from treeagent.backends.seed.kv_cache.page_table import PageTable
from treeagent.backends.seed.kv_cache.window_rows import WindowRows
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling, ScoreRequest

MIXED = ("Mistral", "Gemma 3", "GPT-OSS", "Gemma 4")
"""Windows in all layers and in some, with sinks, and head sizes and shared keys by layer."""


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model of each family."""
    where = tmp_path_factory.mktemp("models")
    return {family: network(family, where) for family in MIXED}


@pytest.fixture(scope="module")
def pairs(folders: dict[str, str]) -> dict[str, Pair]:
    """The tiny models, loaded."""
    return {family: Pair(folder, whole=True) for family, folder in folders.items()}


class Forgetful(ModelRunner):
    """Loses snapshots now and then, as where memory is short: between passes, and when one was planned."""

    chance = random.Random(3)

    def sweep(self, branches: Iterable[PageTable]) -> None:
        """See :class:`ModelRunner`."""
        super().sweep(branches)
        self._forget()

    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """See :class:`ModelRunner`."""
        self._forget()
        return super().forward(spans)

    def _forget(self) -> None:
        assert self.forest.pool.windows is not None
        self.forest.pool.windows.drop_snapshots(self.chance.choice((0, 0, 3, 7, 40)))


def forest_error(pair: Pair, seed: int) -> float:
    """Of a random forest three to twelve windows long."""

    def run() -> float:
        return random_forest(Forgetful(pair.weights, 1 << 22, rows=True), random.Random(seed), pair)

    return worker.run(run)


@pytest.mark.parametrize("family", MIXED)
def test_a_random_forest_has_the_plain_logits(family: str, pairs: dict[str, Pair]) -> None:
    """Texts that begin in the middle of cached ones, fork and go on, while windows of others are dropped."""
    assert max(forest_error(pairs[family], seed) for seed in range(2)) < 1e-4


def test_tiles_find_rows_too(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of a GPU's attention, by operations of torch, with keys that texts share."""
    monkeypatch.setattr(tree_attention, "_attend_tiles", attend_tiles)
    monkeypatch.setattr(attention_tiles, "KEYS", 16)
    monkeypatch.setattr(shared_runs, "LEAST", 1)
    monkeypatch.setattr(pairs["Gemma 3"].weights, "tile_queries", 3)
    assert forest_error(pairs["Gemma 3"], 5) < 1e-4


def test_shared_prefixes_find_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix that texts share is attended to once where all of them are shorter than the window."""
    shape = {**SHAPE, "num_key_value_heads": 2, "sliding_window": 120, "layer_types": ["sliding_attention"] * 2}
    folder = save_model(tmp_path / "wide", transformers.Qwen2Config(**shape, use_sliding_window=True))
    monkeypatch.setattr(forward_batch, "SHARED_LEAST", 1)
    shared: list[int] = []
    found = AttentionContext.of

    def noted(own: AttentionContext, layer: int) -> Any:
        plan, entries = found(own, layer)
        if plan is own.plan.by_row and plan.windows is not None and plan.windows.of(120) is None:
            shared.append(len(plan.shared))
        return plan, entries

    monkeypatch.setattr(AttentionContext, "of", noted)
    assert forest_error(Pair(folder, whole=True), 6) < 1e-4
    assert sum(shared) > 5


def test_one_row_too_few_is_noticed(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail: a store that takes its window for one token shorter gives other logits."""
    monkeypatch.setattr(WindowRows, "before", property(lambda own: own.window - 2))
    assert forest_error(pairs["Gemma 3"], 0) > 1e-3


class Watched(Trees):
    """Random trees around the truth; notes how many rows and slots are in use when it is asked for them."""

    def __init__(self, truth: dict[int, tuple[int, ...]]) -> None:
        super().__init__(truth, hit=0.8, over=2)
        self.backend: SeedBackend | None = None
        self.held: list[tuple[int, int, int]] = []
        """Live branches, their slots, and their rows."""

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        assert self.backend is not None
        pool = scheduler(self.backend).runner.forest.pool
        assert pool.windows is not None
        self.held.append((len(rows), pool.used, pool.windows.used))
        return super().propose(rows, floor, depth)


def watched(folder: str, requests: Sequence[Request], **options: Any) -> Watched:
    """A drafter that has watched an engine write the texts of plain decoding."""
    naive = Naive(folder, "float32")
    drafter = Watched(naive.truth(requests))
    drafter.backend = SeedBackend(
        folder, device=DEVICE, dtype="float32", drafter=lambda: drafter, draft_tokens=6, **options
    )
    assert told(ask(drafter.backend, *requests)) == naive.expected(requests)
    clean(drafter.backend)
    return drafter


def text(tokens: int, place: int = 0, prompt: str = "4 5 6", n: int = 1) -> Request:
    """A request for a long text without an end."""
    return Request(prompt, Key(7, "propose", str(place)), Sampling(max_tokens=tokens, temperature=0.9), n)


def test_a_text_holds_the_rows_of_one_window(folders: dict[str, str]) -> None:
    """Its slots grow to ten windows, and its rows not beyond one window and what is drafted and reserved."""
    held = watched(folders["Gemma 3"], [text(10 * WINDOW)]).held
    assert max(slots for _, slots, _ in held) > 10 * WINDOW
    assert max(rows for _, _, rows in held) < 3 * WINDOW
    assert held[-1][2] < 3 * WINDOW


def kept_bytes(pair: Pair, tokens: int) -> int:
    """Of so many tokens in all layers."""
    return tokens * pair.weights.new_pool(1 << 20).slot_bytes


@pytest.mark.parametrize("tokens", [84, 120])
def test_texts_that_do_not_fit_whole_are_written_in_turn(
    tokens: int, folders: dict[str, str], pairs: dict[str, Pair]
) -> None:
    """One of 160 tokens where there is memory for 84 in all layers; several preempt each other, and are read again."""
    requests = [text(10 * WINDOW), text(90, 1, n=2), *long_requests()[2:4]]
    memory = kept_bytes(pairs["Gemma 3"], tokens)
    done = watched(folders["Gemma 3"], requests, kv_memory=memory / 1e6, chunk=7)
    assert done.backend is not None
    engine = scheduler(done.backend)
    assert engine.counters.preempted > 0
    pool = engine.runner.forest.pool
    assert pool.windows is not None
    each = pool.entry_bytes, pool.windows.row_bytes
    assert all(slots * each[0] + rows * each[1] <= memory for _, slots, rows in done.held)
    assert max(slots for _, slots, _ in done.held) > tokens


def texts_in_little_memory(folder: str, pair: Pair, seed: int) -> None:
    """Twice the same random requests, the second time of cached texts, where little memory is read in small chunks."""
    chance, naive = random.Random(seed), Naive(folder, "float32")
    asked = chance.sample([*MIX, *long_requests(), text(160), text(90, 1, n=2), text(120, 2)], chance.randint(3, 7))
    drafter = Trees(naive.truth(asked), hit=0.8, over=2, seed=seed)
    options: dict[str, Any] = {
        "kv_memory": kept_bytes(pair, chance.choice((60, 75, 90, 110))) / 1e6,
        "chunk": chance.choice((3, 7, 64)),
        "policy": chance.choice(("rounds", "rounds", "fcfs", "serial")),
        "draft_tokens": chance.choice((2, 12)),
        "drafter": chance.choice((lambda: drafter, "none")),
    }
    if options["drafter"] == "none":
        del options["draft_tokens"]
    backend = SeedBackend(folder, device=DEVICE, dtype="float32", **options)
    for _ in range(2):
        for reply, right in zip(ask(backend, *asked, errors=True), naive.expected(asked), strict=True):
            if isinstance(reply, BackendError):
                assert "kv_memory is too small" in str(reply)
            else:
                assert told([reply]) == [right]
        clean(backend)


@pytest.mark.parametrize("seed", range(3))
def test_texts_in_little_memory_are_those_of_plain_decoding(
    seed: int, folders: dict[str, str], pairs: dict[str, Pair]
) -> None:
    """Preempted, read again in chunks shorter than a window, and begun where a part of a window was dropped."""
    texts_in_little_memory(folders["Gemma 3"], pairs["Gemma 3"], seed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", MIXED[:3])
def test_many_texts_in_little_memory_are_those_of_plain_decoding(
    family: str, folders: dict[str, str], pairs: dict[str, Pair]
) -> None:
    """The same for twenty-five cases."""
    for seed in range(25):
        texts_in_little_memory(folders[family], pairs[family], seed)


def test_a_text_beyond_all_memory_is_refused_in_one_line(folders: dict[str, str], pairs: dict[str, Pair]) -> None:
    """By what layers without windows need of it, and one window twice."""
    memory = kept_bytes(pairs["Gemma 3"], 60)
    backend = SeedBackend(folders["Gemma 3"], device=DEVICE, kv_memory=memory / 1e6)
    most = (memory - 2 * WINDOW * memory * 2 // 180) * 3 // (memory // 60)
    error, reply = ask(backend, text(150), text(90, 1), errors=True)
    assert isinstance(error, BackendError)
    assert f"the limit is {most} tokens" in str(error)
    assert reply.completions


def test_a_cached_text_is_read_again_from_its_last_whole_window(folders: dict[str, str]) -> None:
    """Nothing of a prompt that is asked again or goes on; in the middle of it all from where two texts part."""
    backend = SeedBackend(folders["Gemma 3"], device=DEVICE, drafter="none", dtype="float32")
    naive = Naive(folders["Gemma 3"], "float32")
    stem = "Use the numbers to make 24.\nNumbers: 4 5 6 9 10 13 and 7 8, all of them, once each, in any order."
    asked = [text(4, prompt=prompt) for prompt in (stem, stem, stem + " Go", stem[:70], stem[:70] + "!!!")]
    read: list[int] = []
    for each in asked:
        before = scheduler(backend).counters.read if read else 0
        assert told(ask(backend, each)) == naive.expected([each])
        read.append(scheduler(backend).counters.read - before)
        clean(backend)
    whole, parted = (len(naive.text.prompt(asked[place].prompt)) - 1 for place in (0, 3))
    assert whole > 3 * WINDOW
    assert read[:2] == [whole, 0]
    assert 0 < read[2] < 6
    assert read[3] == parted  # the window before it is gone: all is read again
    assert 0 < read[4] < 6


@pytest.mark.parametrize("family", MIXED)
def test_beams_and_scores_are_those_of_transformers(family: str, folders: dict[str, str]) -> None:
    """Beams fork within a window and live on beyond it; continuations are a tree after three windows."""
    plain = TransformersBackend(folders[family], device="cpu", dtype="float32")
    engine = SeedBackend(folders[family], device=DEVICE, dtype="float32")
    beams = Request("4 5 6", Key(3, "propose", "0"), Sampling(max_tokens=3 * WINDOW, num_beams=3, temperature=0.8))
    assert told(ask(engine, beams)) == told(ask(plain, beams))
    score = ScoreRequest("4 5 6 = 24\n" * 6, ("4 + 5", "4 + 9 = 13", "24"))
    for _ in range(2):
        assert scored(engine, score) == pytest.approx(scored(plain, score), abs=1e-3)


def test_draft_models_have_no_rows(pairs: dict[str, Pair]) -> None:
    """Targets have."""
    weights = pairs["Gemma 3"].weights
    assert ModelRunner(weights, 1 << 20).forest.pool.windows is None
    assert ModelRunner(weights, 1 << 20, rows=True).forest.pool.windows is not None
