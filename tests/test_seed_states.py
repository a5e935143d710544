"""Layers with a recurrent state beside keys and values: the plain model's numbers, whatever is kept of the states."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from draft_trees import Trees
from seed_tools import PROMPTS, ask, clean, scheduler, scored, tokenizer_size, told
from state_families import FAMILIES, WHOLE, Pair, difference, write_models
from test_seed_sliding import paths

from treeagent.backends.local import model_thread as worker
from treeagent.backends.models.tokenizer import load_tokenizer
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.executor import state_plan
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.prefill import PrefillChunk
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.state_layers import decayed_sum
from treeagent.backends.seed.executor.state_pass import StatePass
from treeagent.backends.seed.kv_cache.page_table import PageTable
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import BackendError, ConfigError, ModelError
from treeagent.request import Key, Request, Sampling, ScoreRequest


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model of each family."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pairs(folders: dict[str, str]) -> dict[str, Pair]:
    """The tiny models, loaded."""
    return {family: Pair(folder, whole=family in WHOLE) for family, folder in folders.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tree_after_a_state_has_the_plain_logits(family: str, pairs: dict[str, Pair]) -> None:
    """For prompts shorter than the convolution, and longer than one piece."""
    for prompt in (2, 3, 17, 150):
        assert pairs[family].worst(prompt) < 1e-4


@pytest.mark.parametrize("family", WHOLE)
def test_a_tree_taken_for_a_chain_and_a_state_left_out_are_noticed(
    family: str, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above can fail: where branches see each other, and where a piece forgets what was before."""
    window, states = state_plan._Planner._window, decayed_sum.DecayedSum.states
    visible, inputs = state_plan.ancestors, StatePass.convolution_input

    def chain(parents: Sequence[int], n: int) -> Any:
        return visible(range(-1, len(parents) - 1), n)

    def no_state(own: decayed_sum.DecayedSum, before: torch.Tensor, *at: torch.Tensor) -> torch.Tensor:
        return states(own, torch.zeros_like(before), *at)

    def no_tail(own: StatePass, layer: int, new: torch.Tensor) -> torch.Tensor:
        found = inputs(own, layer, new)
        return torch.cat((new, torch.zeros_like(found[len(new) :])))

    def no_parent(own: Any, token: int) -> Any:
        return np.full_like(window(own, token), token)

    twins: list[tuple[Any, str, Any]] = [(StatePass, "convolution_input", no_tail)]
    twins += [(state_plan._Planner, "_window", no_parent)]
    if family != "LFM2":  # which has no other state than a tail
        twins += [(state_plan, "ancestors", chain), (decayed_sum.DecayedSum, "states", no_state)]
    for owner, name, twin in twins:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, twin)
            assert pairs[family].worst(17) > 1e-3, name


def random_forest(runner: ModelRunner, chance: random.Random, pair: Pair) -> float:
    """Texts that begin, are forked, go on by chains and trees, and end; the greatest difference from plain logits."""
    known: list[list[int]] = [[1, 2, 3]]
    live: list[tuple[PageTable, list[int]]] = []
    worst, most = 0.0, min(5, runner.most_branches or 5)
    for _ in range(16):
        runner.sweep([branch for branch, _ in live])
        while len(live) < most and chance.random() < 0.7:
            stem = chance.choice(known)
            tokens = stem[: chance.randint(0, len(stem))]
            tokens += [chance.randrange(tokenizer_size()) for _ in range(chance.choice((1, 2, 5, 70)))]
            if len(tokens) < 150:
                live.append((PageTable(runner.forest, tokens[:-1]), tokens))
        if live and len(live) < most and live[0][0].length:
            branch, tokens = live[0]
            live.append((branch.fork(), [*tokens[:-1], chance.randrange(tokenizer_size())]))
        runner.hold_states([branch for branch, _ in live])
        reading = PrefillChunk([branch for branch, _ in live], limit=chance.choice((5, 20, 90)))
        ready = [entry for entry in live if entry[0] in reading.ready and chance.random() < 0.8]
        spans, slots = [], []
        for branch, tokens in ready:
            size = chance.choice((0, 0, 1, 6))
            new = [tokens[-1], *(chance.randrange(tokenizer_size()) for _ in range(size))]
            parents = [-1, *(chance.randint(max(0, node - 2), node) for node in range(size))]
            slots.append(branch.take(len(new)))
            spans.append(Segment(new, slots[-1], branch.table, branch.node, parents, range(len(new))))
        if not reading.spans and not spans:
            continue
        logits, rows = runner.forward([*reading.spans, *spans])
        reading.done()
        ends = []
        for (branch, tokens), span, own, row in zip(ready, spans, slots, rows[len(reading.spans) :], strict=True):
            assert span.parents is not None
            path = chance.choice(paths(list(span.parents)))
            text = [*tokens[:-1], *(span.tokens[node] for node in path)]
            worst = max(worst, difference(logits[row.start + path[-1]], pair.plain(text)[-1]))
            branch.extend([span.tokens[node] for node in path], own[path])
            branch.give_back(own[[node for node in range(len(own)) if node not in path]])
            tokens[:] = [*text, chance.randrange(tokenizer_size())]
            ends.append(branch)
        runner.settle_states(ends)
        runner.keep_windows(ends if chance.random() < 0.5 else ())
        runner.forest.check()
        for entry in list(live):
            if chance.random() < 0.1 or len(entry[1]) > 200:
                known.append(entry[1])
                entry[0].release(keep=chance.random() < 0.8)
                live.remove(entry)
    return worst


@pytest.mark.parametrize("family", WHOLE)
@pytest.mark.parametrize("states", [4, 9, 60])
def test_a_random_forest_has_the_plain_logits(states: int, family: str, pairs: dict[str, Pair]) -> None:
    """With memory for two live texts and no snapshot, for some, and for all."""
    pair = pairs[family]

    def run() -> float:
        runner = ModelRunner(pair.weights, 1 << 22, states * pair.state_bytes())
        return random_forest(runner, random.Random(states), pair)

    assert worker.run(run) < 1e-4


class Watch(Drafter):
    """Proposes nothing, and notes the texts."""

    name = "watch"

    def __init__(self) -> None:
        self.truth: dict[int, list[int]] = {}

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        return [Draft() for _ in rows]

    def observe(self, row: SequenceState, start: int) -> None:
        """See :class:`Drafter`."""
        self.truth[row.stream] = row.tokens[row.prompt :]


def told_tokens(replies: Sequence[Any]) -> list[list[int]]:
    """The tokens of the first completion of each reply."""
    return [list(reply.completions[0].tokens) for reply in replies]


def requests(draws: int) -> list[Request]:
    """Greedy and sampled texts of prompts with common beginnings."""
    settings = [Sampling(max_tokens=16, temperature=temperature) for temperature in (0.0, 0.7, 1.3)]
    keys = [Key(7, "propose", str(place)) for place in range(3 * len(PROMPTS))]
    return [
        Request(prompt, keys[3 * i + j], how, 1 if how.temperature == 0 else draws)
        for i, prompt in enumerate(PROMPTS)
        for j, how in enumerate(settings)
    ]


def texts_are_equal(folder: str, pair: Pair, draws: int, states: int) -> None:
    """Those of the backend ``transformers`` and of the engine in every setting."""
    asked = requests(draws)
    right = told(ask(TransformersBackend(folder, device="cpu", dtype="float32"), *asked))
    watch = Watch()
    assert told(ask(SeedBackend(folder, device="cpu", drafter=lambda: watch, draft_tokens=1), *asked)) == right
    drafter = Trees(watch.truth, hit=0.8, over=2)
    slot = pair.weights.new_pool(1 << 20).slot_bytes
    few_states = {"chunk": 7, "state_memory": (states + 0.1) * pair.state_bytes() / 1e6}
    few_keys = {"chunk": 7, "kv_memory": 90 * slot / 1e6}
    trees = {"drafter": lambda: drafter, "draft_tokens": 12}
    settings = ({**trees, **few_states}, {**trees, **few_keys}, {"drafter": "none", **few_states}, trees)
    for options in settings if pair.whole else settings[:1]:
        backend = SeedBackend(folder, device="cpu", **options)
        assert told(ask(backend, *asked)) == right
        clean(backend)
        counters, held = scheduler(backend).counters, scheduler(backend).runner.forest.pool.states
        assert (counters.accepted > 0) == ("draft_tokens" in options)
        assert (counters.preempted > 0) == ("kv_memory" in options)
        assert held is not None
        assert held.used <= (states if "state_memory" in options else held.limit)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_and_transformers_write_the_same_texts(
    family: str, folders: dict[str, str], pairs: dict[str, Pair]
) -> None:
    """Without drafts and with random trees of them, with memory for all, and for two or three texts at a time."""
    texts_are_equal(folders[family], pairs[family], 1, 7)


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_two_hundred_draws_are_the_same(family: str, folders: dict[str, str], pairs: dict[str, Pair]) -> None:
    """At each temperature, of prompts with common beginnings."""
    texts_are_equal(folders[family], pairs[family], 50, 9)


@pytest.mark.parametrize("family", WHOLE)
def test_texts_in_bfloat16_are_likely_ones(family: str, folders: dict[str, str], pairs: dict[str, Pair]) -> None:
    """Drafted as trees or not: no greedy token is less likely than another one by more than rounding explains."""
    asked = [request for request in requests(1) if request.sampling.temperature == 0]
    plain = told_tokens(ask(TransformersBackend(folders[family], device="cpu", dtype="float32"), *asked))
    truth = {request.key.stream(0): tokens for request, tokens in zip(asked, plain, strict=True)}
    for drafter in (Watch(), Trees(truth, hit=0.8, over=2)):
        engine = SeedBackend(
            folders[family], device="cpu", dtype="bfloat16", drafter=lambda made=drafter: made, draft_tokens=8
        )
        texts = told_tokens(ask(engine, *asked))
        prompts = [load_tokenizer(Path(folders[family])).prompt(request.prompt) for request in asked]
        for prompt, text in zip(prompts, texts, strict=True):
            logits = pairs[family].plain([*prompt, *text])[len(prompt) - 1 : -1]  # (n, V)
            behind = logits.amax(dim=1) - logits[range(len(text)), text]  # (n,)
            assert not text or float(behind.max()) < 0.1 * float(logits.abs().max())
        assert sum(map(len, texts)) > 10


@pytest.mark.parametrize("family", WHOLE)
def test_beams_and_scores_are_those_of_transformers(family: str, folders: dict[str, str]) -> None:
    """Beams fork in the middle of a text; continuations are a tree."""
    folder = folders[family]
    asked = [
        Request(prompt, Key(3, "propose", str(place)), Sampling(max_tokens=20, num_beams=3, temperature=heat))
        for place, prompt in enumerate(PROMPTS)
        for heat in (0.0, 0.8)
    ]
    plain, engine = TransformersBackend(folder, device="cpu", dtype="float32"), SeedBackend(folder, device="cpu")
    assert told(ask(engine, *asked)) == told(ask(plain, *asked))
    score = ScoreRequest(PROMPTS[0], ("4 + 5", "4 + 9 = 13", "24"))
    assert scored(engine, score) == pytest.approx(scored(plain, score), abs=1e-3)


def test_requests_begin_where_prompts_end_and_part(folders: dict[str, str]) -> None:
    """A second request reads nothing of a prompt again, and a third nothing of what the first two have in common."""
    backend = SeedBackend(folders["Qwen3.5"], device="cpu", drafter="none")
    asked = [
        Request(f"Use the numbers{tail}", Key(1, "propose", tail), Sampling(max_tokens=3))
        for tail in (": 4 5", "; 4 5", ", 4 5")
    ]
    read = []
    for place in (0, 0, 1, 2):
        before = scheduler(backend).counters.read if read else 0
        ask(backend, asked[place])
        read.append(scheduler(backend).counters.read - before)
    whole = read[0]
    assert (whole > 5, read[1]) == (True, 0)
    assert read[2] == whole  # no state where the first two part: all is read again
    assert 0 < read[3] < whole // 2
    figures = scheduler(backend).counters.figures()
    assert figures["prefix_tokens_computed"] == sum(read)
    prompts = sum(read) + figures["prefix_tokens_reused"]
    assert figures["prefix_reuse"] == pytest.approx(1 - sum(read) / prompts, abs=1e-4)


def test_too_little_memory_for_states_is_said_in_one_line(folders: dict[str, str], pairs: dict[str, Pair]) -> None:
    """For one text at load, for the beams of a request, and where the draft would need states of its own."""
    folder, state = folders["Qwen3.5"], pairs["Qwen3.5"].state_bytes()
    with pytest.raises(ConfigError, match=r"state_memory is too small: one state of .* takes .* MB"):
        SeedBackend(folder, device="cpu", state_memory=1.9 * state / 1e6).load()
    backend = SeedBackend(folder, device="cpu", state_memory=4.1 * state / 1e6)
    wide = Request("24", Key(1, "propose", "0"), Sampling(max_tokens=3, num_beams=3))
    narrow = Request("24", Key(1, "propose", "1"), Sampling(max_tokens=3))
    error, reply = ask(backend, wide, narrow, errors=True)
    assert isinstance(error, BackendError)
    assert "up to 3 beams, and there are states for 2" in str(error)
    assert reply.completions
    with pytest.raises(ModelError, match="has layers with a recurrence, which only a target may have"):
        SeedBackend(folder, device="cpu", draft=folder).load()
