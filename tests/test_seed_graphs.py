"""Passes of fixed sizes as graphs: the same texts, from memory that stays where it is; a reason where there are none.

Graphs are recorded by :mod:`graph_recorder`, which runs them on a CPU and refuses what would go wrong on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from graph_recorder import GraphRecorder, StaleGraph
from seed_tools import COSTS, MIX, SHAPE, Naive, ask, clean, fixed_costs, save_model, told
from state_families import DELTA
from test_seed_budget import draft_of

from treeagent.backends.models.decoder import load_decoder
from treeagent.backends.models.loader import load_model
from treeagent.backends.seed import builder, draft_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import graph_setup
from treeagent.backends.seed.executor.early_exit import EarlyExitRunner
from treeagent.backends.seed.executor.envelope import Envelope, EnvelopeSizes, standard_envelopes
from treeagent.backends.seed.executor.graphed_decoder import GraphedDecoder
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.pass_cost import PassCost
from treeagent.backends.seed.executor.rotation import Rotation
from treeagent.backends.seed.executor.trial_pass import TrialPass, trial_segments
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.speculation.goodput import select, values

SIZES = (Envelope(4, 12), Envelope(12, 24), Envelope(12, 48), Envelope(48, 80))
ASKED = MIX[:5]
TRIAL = TrialPass(3, private=8, nodes=2, shared=12)


pytestmark = pytest.mark.usefixtures("short_tiles")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A target, and a draft of two exits."""
    folder: Path = tmp_path_factory.mktemp("graphs")
    target = transformers.LlamaConfig(**{**SHAPE, "num_hidden_layers": 3}, num_key_value_heads=2)
    exits = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, exits=[1, 2])
    return save_model(folder / "target", target), save_model(folder / "exits-draft", exits, noise=0.1)


@pytest.fixture(scope="module")
def expected(folders: tuple[str, str]) -> Any:
    """The texts of plain decoding."""
    return Naive(folders[0], "float64").expected(ASKED)


def runner(where: str, kind: type[ModelRunner] = ModelRunner) -> ModelRunner:
    """A model in float64, which no compiled kernel runs."""
    return kind(Weights(load_decoder(Path(where), "float64", torch.device("cpu")), where), 10**6)


def quiet(what: str, count: int, total: int) -> None:
    """Show no progress."""


def opened(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[SeedBackend, list[Any]]:
    """An engine all of whose models have graphs, and their recorders."""
    recorders: list[GraphRecorder] = []

    def set_up(of: ModelRunner) -> str:
        recorders.append(GraphRecorder())
        why = graph_setup.set_up_graphs(of, recorders[-1], quiet, SIZES)
        assert why is None
        return ", graphs"

    for module in (builder, draft_model):
        monkeypatch.setattr(module, "set_up_cuda_graphs", set_up)
    options = {"kv_memory": 1.0, **options}
    with fixed_costs():
        backend = SeedBackend(folders[0], device="cpu", dtype="float64", **options)
        backend.load()
    return backend, recorders


def test_a_request_above_a_fixed_memory_names_what_set_it(
    folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was free at load, which a higher kv_memory does not change; or kv_memory."""
    backend, _ = opened(folders, monkeypatch)
    assert backend.core.parts is not None
    runner = backend.core.parts.scheduler.runner
    runner.forest.pool.limit = 60  # as if no more had been free
    [error] = ask(backend, MIX[0], errors=True)
    assert "the device's memory is too small: " in str(error)
    assert "kv_memory" not in str(error)
    runner.memory = 60 * runner.forest.pool.slot_bytes
    [error] = ask(backend, MIX[0], errors=True)
    assert "kv_memory is too small: " in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"drafter": "none"},
        {"drafter": "ngram", "draft_tokens": 3},
        {"drafter": "model", "exit": "adaptive:0.3"},
        {"drafter": "model", "exit": "1", "draft_tokens": 2},
    ],
    ids=str,
)
def test_texts_are_those_of_plain_decoding_and_memory_stays(
    folders: tuple[str, str], expected: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """For target, draft and each of its exits; after a reset too. Nothing is recorded or allocated after load."""
    draft = {"draft": folders[1]} if options["drafter"] == "model" else {}
    backend, recorders = opened(folders, monkeypatch, **options, **draft)
    assert backend.core.parts is not None
    parts = backend.core.parts
    runners = [each for each in (parts.scheduler.runner, parts.draft_runner) if each is not None]
    assert len(runners) == len(recorders)
    assert backend.meter()()["kernels"].endswith("graphs")
    before = [entries.data_ptr() for each in runners for entries in each.forest.pool.entries]
    counts = [recorder.captured for recorder in recorders]
    assert told(ask(backend, *ASKED)) == expected
    clean(backend)
    backend.reset()
    assert told(ask(backend, *ASKED[:2])) == expected[:2]
    assert [recorder.captured for recorder in recorders] == counts
    assert all(recorder.replayed > 20 for recorder in recorders)
    assert [entries.data_ptr() for each in runners for entries in each.forest.pool.entries] == before


def test_a_graph_is_recorded_for_every_size_and_exit(folders: tuple[str, str]) -> None:
    """Of a draft: every run of layers between exits; the head for every number of rows. Progress counts them all."""
    steps: list[tuple[int, int]] = []
    recorder = GraphRecorder()
    draft = runner(folders[1], EarlyExitRunner)
    why = graph_setup.set_up_graphs(draft, recorder, lambda _, count, total: steps.append((count, total)), SIZES)
    assert why is None
    assert draft.stages == [(0, 1), (0, 2), (1, 2)]
    assert steps == [(count, 15) for count in range(1, 16)]
    assert recorder.captured == 3 * len(SIZES) + 3


# What a recorder must notice


def moved_pool(own: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that grew after the recording."""
    pool = own.forest.pool
    pool.limit += 100
    pool._grow(pool.capacity + 100)


def rebound_input(own: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that takes the place of an input where its contents should have been copied."""
    graphs = own.graphs
    assert graphs is not None
    for key, graph in list(graphs._layers.items()):
        graphs._layers[key] = replace(graph, input=graph.input.clone())


def other_memory(own: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that are written to other memory than the graphs were recorded over, which is freed."""
    assert own.graphs is not None
    with torch.inference_mode():
        own.graphs._memories = {size: own.graphs._memory(size) for size in own.graphs._memories}


def resized_input(own: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that has another size than it had."""
    assert own.graphs is not None
    for graph in own.graphs._layers.values():
        with torch.inference_mode():
            graph.input.resize_(1, 1)


@pytest.mark.parametrize(
    "fault", [moved_pool, rebound_input, other_memory, resized_input], ids=lambda fault: fault.__name__
)
def test_memory_that_does_not_stay_is_noticed(
    folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    """The twin without the fault runs; with it a replay is refused."""
    own = runner(folders[0])
    assert graph_setup.set_up_graphs(own, GraphRecorder(), quiet, SIZES) is None
    with trial_segments(own, TRIAL) as segments:
        own.forward(segments)
        fault(own, monkeypatch)
        with pytest.raises((StaleGraph, RuntimeError), match=r"freed|moved|shape"):
            own.forward(segments)


# Without graphs


def test_what_cannot_be_recorded_runs_plainly_and_says_why(
    folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that reads positions, too little memory, other numbers than the plain pass: the pool grows again then."""
    own = runner(folders[0])
    why = graph_setup.set_up_graphs(own, GraphRecorder(free=2**20), quiet, SIZES)
    assert why is not None
    assert "MiB are free" in why
    with monkeypatch.context() as patch:
        patch.setattr(Rotation, "fix", lambda *_: True)
        why = graph_setup.set_up_graphs(runner(folders[0]), GraphRecorder(), quiet, SIZES)
    assert why is not None
    assert "the host takes part" in why
    with monkeypatch.context() as patch:
        patch.setattr(GraphedDecoder, "logits", lambda self, x: self._plain.logits(x) + 0.5)
        why = graph_setup.set_up_graphs(own, GraphRecorder(), quiet, SIZES)
    assert why is not None
    assert "differ from plain ones" in why
    assert own.graphs is None
    assert not own.forest.pool.fixed
    with trial_segments(own, TRIAL) as segments:
        own.forward(segments)
    assert graph_setup.set_up_cuda_graphs(own) == ""


def test_what_graphs_cannot_hold_is_named_before_anything_is_recorded(folders: tuple[str, str], tmp_path: Path) -> None:
    """A listener, recurrent states: nothing is recorded, and the cache stays."""
    heard = runner(folders[0])
    heard.listen((1,), lambda *_: None)
    hybrid = save_model(tmp_path, transformers.Qwen3_5TextConfig(**DELTA))
    recurrent = ModelRunner(Weights(load_model(Path(hybrid), "float32", torch.device("cpu")), hybrid), 10**6)
    for own, reason in ((heard, "a head reads"), (recurrent, "recurrent states")):
        recorder, forest = GraphRecorder(), own.forest
        why = graph_setup.set_up_graphs(own, recorder, quiet, SIZES)
        assert why is not None
        assert reason in why
        assert (recorder.captured, own.graphs, own.forest) == (0, None, forest)


def test_passes_are_plain_once_a_head_listens(folders: tuple[str, str]) -> None:
    """Logits are those of the graphs, and the listener is given the states of real tokens."""
    own, recorder = runner(folders[0]), GraphRecorder()
    assert graph_setup.set_up_graphs(own, recorder, quiet, SIZES) is None
    heard: list[tuple[int, tuple[int, ...]]] = []
    with trial_segments(own, TRIAL) as segments:
        before, replayed = own.forward(segments)[0], recorder.replayed
        own.listen((1, 2), lambda slots, states: heard.extend((len(slots), tuple(each.shape)) for each in states))
        after = own.forward(segments)[0]
        tokens = sum(len(span.tokens) for span in segments)
    assert recorder.replayed == replayed > 0
    assert torch.allclose(before, after, atol=1e-9)
    assert heard == [(tokens, (tokens, SHAPE["hidden_size"]))] * 2
    assert own.padded(5) == 5


def test_sizes_hold_a_pass_and_never_a_smaller_one() -> None:
    """No envelope is larger than its pairs allow; a pass beyond all of them runs plainly and keeps its size."""
    sizes = EnvelopeSizes(None)
    assert sizes.padded(5) == 8
    assert sizes.padded(256) == 256
    assert sizes.padded(257) == 257
    assert max(envelope.tiles // envelope.tokens for envelope in standard_envelopes(300)) == 5
    assert max(envelope.tiles for envelope in standard_envelopes(None)) == 640
    assert sizes.find(5, 20) == Envelope(8, 40)
    assert sizes.padded(200) == 200  # with as many tiles for each token as that pass had


def test_the_padding_is_given_to_the_next_best_nodes_of_all_rows() -> None:
    """The pass computes as many tokens as before; without fixed sizes nothing is added."""
    drafts = [draft_of([(-1, 0.9), (0, 0.1), (1, 0.01)]), draft_of([(-1, 0.8), (-1, 0.05)])]
    worths = [values(draft, list) for draft in drafts]
    plain = select(drafts, worths, COSTS)
    fixed = PassCost(COSTS.table, padded=lambda tokens: -(-tokens // 6) * 6)
    filled = select(drafts, worths, fixed)
    assert 2 + sum(map(len, plain)) < 6 == 2 + sum(map(len, filled))
    assert [draft.tokens for draft in filled] == [drafts[0].tokens[:2], drafts[1].tokens]
    assert sum(map(len, select(drafts, worths, fixed, 2))) == 2
