"""A twin drafts over its target's own keys and values: what it says, what becomes of texts, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from adapter_tools import merge, save_adapter
from beam_tools import BEAMS, expected, same
from head_laws import drawn_texts
from head_tools import Heard, engine, with_memory_for
from seed_tools import FAMILIES, FEW, MIX, SHAPE, Naive, ask, clean, fixed_costs, request, save_model, scheduler, told
from toy_laws import p_value, softmax

from treeagent.backends.bench.agreement import agreement, continuations, draft_agreement
from treeagent.backends.models.loader import load_model
from treeagent.backends.models.model import INT8_DRAFT, Model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.model import tree_shapes
from treeagent.backends.seed.executor.shared_pool import SharedPoolRunner
from treeagent.backends.seed.records import BEAMS as DRAFTED_BEAMS
from treeagent.backends.transformers import generate
from treeagent.errors import ConfigError, ModelError

DRAFTERS = ("model", "dynamic", "rsd-c:2x2", "rsd-s:3x2", "ngram+model", "merged+dynamic")
HOT = [request(i % 4, 50 + i, 2, temperature=t, max_tokens=12) for i, t in enumerate((0.0, 0.7, 1.3, 0.7, 1.3))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with grouped heads."""
    return save_model(tmp_path_factory.mktemp("twin") / "model", FAMILIES["llama"])


def twin(folder: str, dtype: str = "float32", **options: Any) -> SeedBackend:
    """A loaded engine whose twin has no keys and values of its own."""
    return engine(folder, "twin", dtype, **{"twin_prefix": "target", **options})


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", ["rounds", "fcfs", "serial"])
@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_texts_are_those_of_plain_decoding(
    folder: str, name: str, policy: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every temperature, most drafts accepted, and with so little memory that branches are preempted."""
    if kernels == "off":
        monkeypatch.setenv("TREEAGENT_KERNELS", "off")
    backend, asked = twin(folder, drafter=name, policy=policy), [*FEW, *HOT]
    for slots in (10_000, 110):
        read = backend.meter()
        assert told(ask(with_memory_for(backend, slots), *asked)) == Naive(folder, "float32").expected(asked)
        clean(backend)
        assert read()["draft_passes"] > 0
        assert read()["accepted"] > 0


def test_too_little_memory_preempts(folder: str) -> None:
    """Drafts take slots of the target's pool, and give way."""
    backend = with_memory_for(twin(folder, drafter="dynamic", chunk=7), 110)
    before = scheduler(backend).counters.copy()
    assert told(ask(backend, *MIX, *HOT)) == Naive(folder, "float32").expected([*MIX, *HOT])
    clean(backend)
    assert scheduler(backend).counters.since(before).preempted > 0


@pytest.mark.parametrize("slots", [10_000, 140])
def test_beams_are_those_of_naive_decoding(folder: str, slots: int) -> None:
    """Drafted for in one pass with single texts, over branches that fork."""
    backend = with_memory_for(twin(folder, drafter="model", draft_tokens=3), slots)
    asked = [each for pair in zip(BEAMS, MIX, strict=False) for each in pair]
    assert same(ask(backend, *asked), expected(Naive(folder, "float32"), asked))
    clean(backend)
    assert scheduler(backend).speculator.estimator(DRAFTED_BEAMS).accepted > 0


def test_the_twin_follows_its_target_to_a_new_cache(folder: str) -> None:
    """Also where a draft is the first to use it: after the measurements at load, and after a round that failed."""
    backend = twin(folder, drafter="model", draft_tokens=4)
    for _ in range(2):
        scheduler(backend).runner.reset_cache()
        assert told(ask(backend, *FEW)) == Naive(folder, "float32").expected(FEW)
        clean(backend)


class Reading:
    """What the twin says of a text whose tokens but the last the target has read, by networks of transformers."""

    def __init__(self, folder: str) -> None:
        self._target, self._twin = (
            load_model(Path(folder), dtype, torch.device("cpu")) for dtype in ("float32", INT8_DRAFT)
        )
        self.ids = torch.arange(int(SHAPE["vocab_size"]))

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """See :class:`head_tools.Plain`."""
        known, new = list(tokens[:-1]), [tokens[-1], *path]
        cache = self._read(self._target, known, 0, None)[1] if known else None
        return self._read(self._twin, new, len(known), cache)[0]

    @staticmethod
    def _read(model: Model, tokens: list[int], known: int, cache: Any) -> tuple[torch.Tensor, Any]:
        mask = torch.ones(1, known + len(tokens), dtype=torch.long)
        places = torch.arange(known, known + len(tokens))[None]
        logits, cache = generate.forward(model, torch.tensor([tokens]), mask, places, cache)
        return logits[0, -1], cache


def test_the_twin_reads_the_targets_keys_and_values(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits at every node equal those of 8-bit layers over the float32 model's cache; over a cache of its own no."""
    worst = {}
    for prefix in ("target", "own"):
        backend = twin(folder, twin_prefix=prefix, drafter="dynamic", chunk=16, draft_tokens=6)
        heard = Heard(backend, monkeypatch)
        ask(backend, *FEW)
        clean(backend)
        assert len(heard.said) > 50
        worst[prefix] = heard.worst(Reading(folder), 3)
    # a last bit of attention may move an activation to the next of its 8-bit numbers
    assert worst["target"] < 0.1 < worst["own"]


def test_the_twin_reads_no_prompt_and_keeps_nothing(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass has one token for each sequence or node, whatever was committed since the last one."""
    backend, lengths = twin(folder, drafter="ngram+model"), []
    forward = SharedPoolRunner.forward

    def count(runner: Any, spans: Any) -> Any:
        lengths.extend(len(span.tokens) for span in spans)
        return forward(runner, spans)

    monkeypatch.setattr(SharedPoolRunner, "forward", count)
    ask(backend, *MIX)
    clean(backend)  # all slots in use are those of cached tokens
    assert set(lengths) == {1}
    parts = backend.core.parts
    assert parts is not None
    assert parts.draft_runner is not None
    assert parts.draft_runner.forest is parts.scheduler.runner.forest


def test_adapters_have_a_twin_each_and_its_weights_once(folder: str, tmp_path: Path) -> None:
    """Engines of one model whose rounds are made together: texts are those of the merged models."""
    names = [save_adapter(tmp_path / str(seed), folder, seed=seed) for seed in (1, 2)]
    first = twin(folder, adapter=names[0], drafter="model")
    second = first.with_model(names[1])
    with fixed_costs():
        second.load()
    for backend, name in ((first, names[0]), (second, names[1])):
        merged = merge(tmp_path / f"merged-{Path(name).name}", folder, name)
        assert told(ask(backend, *MIX, *HOT)) == Naive(merged, "float32").expected([*MIX, *HOT])
        clean(backend)
    runners = [backend.core.parts.draft_runner for backend in (first, second) if backend.core.parts]
    assert runners[0] is not runners[1]
    assert len({id(runner.weights) for runner in runners if runner is not None}) == 1


def test_agreement_by_position_of_drafts(folder: str) -> None:
    """Of a model with itself it is complete; over keys and values of its own a draft's first place is any position."""
    cpu = torch.device("cpu")
    reference, other = (load_model(Path(folder), dtype, cpu) for dtype in ("float32", INT8_DRAFT))
    texts = continuations(reference, [[5, 9, 12], [7, 30]], 9)
    itself = draft_agreement(reference, reference, texts, 3, reference)
    own, targets = (draft_agreement(reference, other, texts, 3, prefix) for prefix in (other, reference))
    for place, found in enumerate(zip(itself, own, targets, strict=True)):
        assert {each.positions for each in found} == {sum(len(drawn) - place for _, drawn in texts)}
    assert all(each.greedy == 1 for each in itself)
    whole = agreement(reference, other, texts)
    assert own[0].greedy == whole.greedy
    assert own[0].overlap == pytest.approx(whole.overlap, abs=0.02)
    assert targets[0].overlap != pytest.approx(whole.overlap, abs=1e-4)


@pytest.mark.exhaustive
def test_the_law_of_texts_is_the_targets_under_rejection(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact chi-square over texts of two tokens; a twin that misstates its law fails it."""
    assert p_value(*drawn_texts(folder, "twin", 1200, "float32")) > 1e-4
    monkeypatch.setattr(tree_shapes, "softmax_rows", lambda scores: np.stack([softmax(3 * row) for row in scores]))
    assert p_value(*drawn_texts(folder, "twin", 1200, "float32")) < 1e-6


SLIDING = transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=8)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (FAMILIES["llama"], {"dtype": "float64"}, "keys and values are in float64, expected float32"),
        (FAMILIES["llama"], {"draft_dtype": "bfloat16"}, "the twin is in bfloat16, expected int8 or int4"),
        (SLIDING, {}, "sliding windows drop keys and values"),
    ],
    ids=["float64", "bfloat16", "windows"],
)
def test_where_keys_and_values_do_not_fit_it_has_its_own(
    tmp_path: Path, config: Any, options: dict[str, str], message: str
) -> None:
    """By itself, and what asks for the target's is refused in one line."""
    model = save_model(tmp_path / "model", config)
    backend = twin(model, twin_prefix="auto", drafter="model", **options)
    parts = backend.core.parts
    assert parts is not None
    assert not isinstance(parts.draft_runner, SharedPoolRunner)
    with pytest.raises(ModelError, match=message) as error:
        twin(model, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"twin_prefix": "target"}, "is for a twin: give draft=twin"),
        ({"twin_prefix": "tarket"}, "Did you mean 'target'"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_clear_line(options: dict[str, str], message: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        SeedBackend("mini", **options)  # type: ignore[arg-type]
