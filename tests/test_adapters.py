"""LoRA adapters: texts of the merged model, one set of weights for several of them, and refusals in one line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from adapter_tools import ALPHA, RANK, merge, save_adapter
from device import DEVICE
from seed_tools import MIX, PROMPTS, SHAPE, Naive, ask, clean, fixed_costs, request, save_model, scheduler, told

from treeagent.backends.local.base import LocalBackend
from treeagent.backends.models.adapter_file import load_adapter
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import hf_model, joint_pass
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import UnsupportedModelError
from treeagent.request import Key, Request, Sampling, ScoreRequest
from treeagent.runtime.fallback_backend import FallbackBackend

LLAMA = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2)
OTHERS = {
    "qwen3": (transformers.Qwen3Config(**SHAPE, num_key_value_heads=1, head_dim=16), ("k_proj", "down_proj")),
    "gpt2": (
        transformers.GPT2Config(
            vocab_size=SHAPE["vocab_size"], n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.25,
            bos_token_id=None, eos_token_id=0,
        ),
        ("c_attn", "c_fc"),
    ),
    "gpt-neox": (transformers.GPTNeoXConfig(**SHAPE), ("query_key_value", "dense_h_to_4h")),
    "qwen3.5": (
        transformers.Qwen3_5TextConfig(
            **SHAPE, num_key_value_heads=2, head_dim=16, linear_num_value_heads=4, linear_num_key_heads=2,
            linear_key_head_dim=8, linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
        ),
        ("in_proj_qkv", "out_proj", "q_proj", "up_proj"),
    ),
}  # fmt: skip


class Family:
    """A model, two adapters, and both merged."""

    def __init__(self, folder: Path, config: Any, targets: tuple[str, ...] | None = None) -> None:
        self.folder = folder
        self.model = save_model(folder / "model", config)
        some = {} if targets is None else {"targets": targets}
        self.first = save_adapter(folder / "first", self.model, **some)  # type: ignore[arg-type]
        self.second = save_adapter(folder / "second", self.model, targets or ("q_proj", "up_proj"), seed=2)
        self.merged = merge(folder / "merged-first", self.model, self.first)
        self.other = merge(folder / "merged-second", self.model, self.second)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """One that the compiled kernels run."""
    return Family(tmp_path_factory.mktemp("llama"), LLAMA)


def seed(model: str, adapter: str | None = None, **options: Any) -> SeedBackend:
    """A loaded engine."""
    with fixed_costs():
        backend = SeedBackend(model, adapter=adapter, device=DEVICE, **options)
        backend.load()
    return backend


WARM = [
    Request(PROMPTS[i % 4], Key(3, "propose", str(i)), Sampling(temperature=t, max_tokens=12), 2)
    for i, t in enumerate((0.0, 0.7, 1.3, 0.7, 1.3, 0.0))
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # the former runs in compiled kernels where there are any
@pytest.mark.parametrize("draft", [None, "twin"])
def test_texts_are_those_of_the_merged_model(llama: Family, dtype: str, draft: str | None) -> None:
    """With every kind of drafting, at every temperature; a wrong scale or the model alone gives others."""
    merged = told(ask(TransformersBackend(llama.merged, device=DEVICE, dtype=dtype), *MIX, *WARM))
    options = {"draft": draft, "draft_tokens": None if draft is None else 3, "dtype": dtype}
    engine = seed(llama.model, llama.first, **options)
    assert told(ask(engine, *MIX, *WARM)) == merged
    clean(engine)
    assert told(ask(seed(llama.model, **options), *MIX, *WARM)) != merged
    wrong = save_adapter(llama.folder / "wrong", llama.model, lora_alpha=ALPHA * 1.5)
    assert told(ask(seed(llama.model, wrong, **options), *MIX, *WARM)) != merged


def test_the_plain_backend_gives_the_texts_of_the_merged_model_too(llama: Family) -> None:
    """Texts and scores."""
    plain = TransformersBackend(llama.model, adapter=llama.first, device=DEVICE)
    merged = TransformersBackend(llama.merged, device=DEVICE)
    assert told(ask(plain, *MIX, *WARM)) == told(ask(merged, *MIX, *WARM))
    asked = ScoreRequest(PROMPTS[0], ("abc", " sure"))
    sums = [asyncio.run(backend.score(asked)).logprobs for backend in (plain, merged, seed(llama.model, llama.first))]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
    assert sums[2] == pytest.approx(sums[1], rel=1e-4)


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_run_with_adapters(family: str, tmp_path: Path) -> None:
    """Also where the engine puts other modules in the place of the layers."""
    config, targets = OTHERS[family]
    made = Family(tmp_path, config, targets)
    expected = told(ask(TransformersBackend(made.merged, device=DEVICE, dtype="float64"), *WARM))
    assert told(ask(seed(made.model, made.first, dtype="float64"), *WARM)) == expected
    assert told(ask(seed(made.model, dtype="float64"), *WARM)) != expected
    plain = TransformersBackend(made.model, adapter=made.first, device=DEVICE, dtype="float64")
    assert told(ask(plain, *WARM)) == expected


def test_generator_and_judge_share_the_weights_and_no_keys(llama: Family) -> None:
    """Three engines asked the same prompts at once: each writes its own model's texts."""
    first = seed(llama.model, llama.first, draft="twin")
    second, bare = first.with_model(llama.second), first.with_model(llama.model)
    with fixed_costs():
        second.load()
        bare.load()
    engines = (first, second, bare)
    assert [engine.config.adapter for engine in engines] == [llama.first, llama.second, None]
    weights = {id(engine.core.parts.scheduler.runner.weights) for engine in engines if engine.core.parts}
    assert len(weights) == 1

    async def together() -> list[Any]:
        return list(await asyncio.gather(*(engine.generate(asked) for asked in MIX for engine in engines)))

    replies = asyncio.run(together())
    for place, folder in enumerate((llama.merged, llama.other, llama.model)):
        assert told(replies[place::3]) == Naive(folder, "float32").expected(MIX)
        clean(engines[place])


@pytest.mark.parametrize(("dtype", "options"), [("float32", {"draft": "twin"}), ("float64", {"drafter": "none"})])
def test_rows_of_several_adapters_share_passes(llama: Family, dtype: str, options: dict[str, Any]) -> None:
    """Each engine's texts are those of its model, and a pass has rows of all of them where all have work."""
    first = seed(llama.model, llama.first, dtype=dtype, **options)
    engines = (first, first.with_model(llama.second), first.with_model(llama.model))
    with fixed_costs():
        for engine in engines[1:]:
            engine.load()
    asked = [request(place % 4, place, temperature=(0.0, 0.7, 1.3)[place % 3], max_tokens=12) for place in range(6)]
    made: list[int] = []

    async def together() -> list[Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(joint_pass, "join", lambda plans, pools: made.append(len(plans)) or joined(plans, pools))
            return list(await asyncio.gather(*(engine.generate(one) for one in asked for engine in engines)))

    joined = joint_pass.join
    replies = asyncio.run(together())
    for place, folder in enumerate((llama.merged, llama.other, llama.model)):
        assert told(replies[place::3]) == Naive(folder, dtype).expected(asked)
        clean(engines[place])
    alone = sum(scheduler(engine).counters.rounds for engine in engines)
    assert made.count(3) > alone / 6  # of three engines, at least half of the rounds
    for place, engine in enumerate(engines):
        assert told(ask(engine, *asked)) == told(replies[place::3])


def test_a_failed_round_fails_only_its_own_engine(llama: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks in one engine's round before or after the common pass leaves the others' requests alone."""
    first = seed(llama.model, llama.first)
    second = first.with_model(llama.second)
    with fixed_costs():
        second.load()

    def fail(*_arguments: Any) -> None:
        raise RuntimeError("broken")

    async def together() -> list[Any]:
        return await asyncio.gather(*(one.generate(WARM[1]) for one in (first, second)), return_exceptions=True)

    for name in ("_draft", "_commit"):
        with monkeypatch.context() as patch:
            patch.setattr(scheduler(first), name, fail)
            failure, reply = asyncio.run(together())
        assert "broken" in str(failure)
        assert told([reply]) == Naive(llama.other, "float32").expected([WARM[1]])
        clean(first)
        clean(second)
    assert told(asyncio.run(together())) == [
        Naive(folder, "float32").expected([WARM[1]])[0] for folder in (llama.merged, llama.other)
    ]


def test_plain_backends_share_the_weights(llama: Family) -> None:
    """The judge beside the generator, whichever is asked first; one is closed, and the other goes on."""
    first = TransformersBackend(llama.model, adapter=llama.first, device=DEVICE)
    second = first.with_model(llama.second)
    assert isinstance(second, TransformersBackend)
    for backend, folder in ((second, llama.other), (first, llama.merged), (second, llama.other)):
        assert told(ask(backend, *WARM)) == Naive(folder, "float32").expected(WARM)
    assert first._network().network is second._network().network
    asyncio.run(first.aclose())
    assert told(ask(second, *WARM)) == Naive(llama.other, "float32").expected(WARM)


def test_the_fallback_runs_the_judges_adapter(llama: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine cannot run the model, over the generator's weights, and not with the generator's adapter."""

    def refuse(_backend: SeedBackend) -> None:
        raise UnsupportedModelError("this model cannot run", "a test")

    monkeypatch.setattr(SeedBackend, "check_model", refuse)
    generator = FallbackBackend(
        SeedBackend(llama.model, adapter=llama.first, device=DEVICE),
        "transformers",
        lambda model: TransformersBackend(str(model), adapter=llama.first, device=DEVICE),
    )
    judge = generator.with_model(llama.second)
    for backend, folder in ((generator, llama.merged), (judge, llama.other)):
        assert told(ask(backend, *WARM)) == Naive(folder, "float32").expected(WARM)
    networks = [
        backend.running._network().network
        for backend in (generator, judge)
        if isinstance(backend, FallbackBackend) and isinstance(backend.running, TransformersBackend)
    ]
    assert len(networks) == 2
    assert networks[0] is networks[1]


def test_scales_and_ranks_are_those_of_the_configuration(llama: Family, tmp_path: Path) -> None:
    """Rank-stabilised adapters, and patterns by layer."""
    stable = save_adapter(tmp_path / "stable", llama.model, use_rslora=True)
    merged = merge(tmp_path / "merged", llama.model, stable, ALPHA / RANK**0.5)
    assert told(ask(seed(llama.model, stable), *WARM)) == Naive(merged, "float32").expected(WARM)
    only = ("up_proj",)
    patterned = save_adapter(
        tmp_path / "patterned", llama.model, only, rank_pattern={"up_proj": 5}, alpha_pattern={r"1\.mlp\.up_proj": 10}
    )
    engine = seed(llama.model, patterned, dtype="float64")
    assert engine.core.parts is not None
    assert engine.core.parts.scheduler.runner.ranks == (5, 5)
    scaled = [ALPHA / 5, 10 / 5]
    linears = engine.core.parts.scheduler.runner.weights.linears
    loaded = load_adapter(patterned, llama.model, linears)
    plain = load_adapter(
        save_adapter(tmp_path / "plain", llama.model, only, r=5, lora_alpha=5, **{"rank_pattern": {"up_proj": 5}}),
        llama.model,
        linears,
    )
    for layer, scale in enumerate(scaled):
        path = f"model.layers.{layer}.mlp.up_proj"
        torch.testing.assert_close(loaded.layers[path].up, scale * plain.layers[path].up)


def test_a_backend_says_its_adapter_and_opens_with_it(llama: Family) -> None:
    """What a journal keeps is enough to open the backend again; without an adapter nothing is said of one."""
    for kind in (SeedBackend, TransformersBackend):
        said = kind(llama.model, adapter=llama.first).describe()
        assert said["options"]["adapter"] == llama.first
        again: LocalBackend = kind.open(said["model"], said["options"])
        assert again.adapter == llama.first
        assert "adapter" not in kind(llama.model).describe()["options"]


@pytest.mark.parametrize("kernels", [True, False])
def test_adapters_run_over_weights_in_bfloat16(
    llama: Family, kernels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are near those of the merged model, whose weights are rounded after the product was added."""
    if not kernels:
        monkeypatch.setattr(hf_model, "compiled", lambda *_arguments: (None, "none in this test"))
    asked = ScoreRequest(PROMPTS[0], ("abc", " sure"))
    small = save_adapter(tmp_path / "small", llama.model, size=0.1)
    merged = merge(tmp_path / "merged", llama.model, small)
    engines = [seed(llama.model, small, dtype="bfloat16"), seed(merged, dtype="float64")]
    ours, exact = (asyncio.run(engine.score(asked)).logprobs for engine in engines)
    assert ours == pytest.approx(exact, rel=0.05)


@pytest.mark.exhaustive
@pytest.mark.parametrize("draft", [None, "twin"])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
def test_two_hundred_draws_are_those_of_the_merged_model(llama: Family, temperature: float, draft: str | None) -> None:
    """In float32, with trees and chains, at one temperature each."""
    asked = [
        Request(PROMPTS[i % 4], Key(i, "propose", ""), Sampling(temperature=temperature, max_tokens=16), 4)
        for i in range(50)
    ]
    for drafter in ("auto",) if draft is None else ("auto", "rsd-s:3x2"):
        engine = seed(llama.model, llama.first, draft=draft, drafter=drafter)
        assert told(ask(engine, *asked)) == Naive(llama.merged, "float32").expected(asked)
        clean(engine)
