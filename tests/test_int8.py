"""8-bit layers: their law, and that a target of such layers has the same tokens in any batch and any backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from seed_tools import FAMILIES, MIX, Naive, ask, clean, fixed_costs, save_model, told
from torch import nn

from treeagent.backends.bench.agreement import agreement, continuations
from treeagent.backends.models import int8_attention, int8_network, torch_private
from treeagent.backends.models.int8 import Int8Linear
from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ConfigError, ModelError

CPU = torch.device("cpu")


def linear(inputs: int, outputs: int, *, bias: bool = False) -> nn.Linear:
    """With weights of very different sizes."""
    torch.manual_seed(inputs)
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight *= torch.logspace(-3, 2, outputs)[:, None]
    return layer


def rows(count: int, inputs: int) -> torch.Tensor:
    """Of one row of zeros, rows of all extremes, and normal ones with outliers."""
    values = torch.randn(count, inputs, generator=torch.Generator().manual_seed(count))
    values[:, 0] *= 50
    values[0], values[1], values[2] = 0.0, 7.0, -7.0
    return values


def reference(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The law, with Python's own integers for the sums and float64 for the rest."""
    weight = layer.weight.detach().double()
    scales = layer.weight.detach().abs().amax(dim=1).div(127).double()
    largest = x.abs().amax(dim=1).clamp_min(1e-30)
    left = torch.round((x / largest[:, None]).double() * 127).long().tolist()
    right = torch.round((weight.float() / scales.float()[:, None]).double()).long().tolist()
    sums = torch.tensor([[sum(a * b for a, b in zip(row, out, strict=True)) for out in right] for row in left])
    out = sums.double() * scales / 127 * largest.double()[:, None]
    return out if layer.bias is None else out + layer.bias.detach().double()


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_follows_its_law(bias: bool) -> None:
    """Equal to sums of Python's integers, up to float32's rounding of the two scales."""
    layer, x = linear(96, 12, bias=bias), rows(7, 96)
    out, law = Int8Linear.of(layer)(x).double(), reference(layer, x)
    parts = law.abs() + (0 if layer.bias is None else layer.bias.detach().abs())  # a sum of two may cancel
    assert bool(((out - law).abs() <= 1e-6 * parts).all())
    assert not bool(((out - layer(x)).abs() <= 1e-6 * parts).all())  # it is another model than float32


@pytest.mark.parametrize("exact", [True, False])
def test_a_row_is_the_same_in_any_company(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    """Bit by bit, with the operator of torch and, where its sums would saturate, without it."""
    if not exact:
        monkeypatch.setattr(torch_private, "_int8_sums_are_exact", lambda: False)
    layer, x = Int8Linear.of(linear(2500, 33)), rows(40, 2500)
    together = layer(x)
    apart = torch.cat([layer(x[i : i + 1]) for i in range(len(x))])
    assert torch.equal(together, apart)


def test_a_scale_for_the_whole_batch_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the test before: dynamic quantisation per tensor depends on the company."""
    layer, x = Int8Linear.of(linear(64, 8)), rows(6, 64)
    monkeypatch.setattr(torch.Tensor, "amax", lambda self, **_: self.max().repeat(len(self), 1))
    assert not torch.equal(layer(x), torch.cat([layer(x[i : i + 1]) for i in range(len(x))]))


def test_joined_layers_are_the_layers(tmp_path: Path) -> None:
    """One product for siblings, packed before or not, has their outputs side by side."""
    layers = [Int8Linear.of(linear(32, 8, bias=True)), Int8Linear.of(linear(32, 5))]
    x = rows(4, 32)
    apart = torch.cat([layer(x) for layer in layers], dim=1)  # packs them
    assert torch.equal(Int8Linear.joined(layers)(x), apart)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with grouped heads."""
    return save_model(tmp_path_factory.mktemp("int8") / "model", FAMILIES["llama"])


@pytest.fixture(scope="module")
def naive(folder: str) -> Naive:
    """The 8-bit model, decoded naively."""
    return Naive(folder, "int8")


def engine(folder: str, **options: object) -> SeedBackend:
    """A loaded engine that measures nothing."""
    backend = SeedBackend(folder, device="cpu", **options)  # type: ignore[arg-type]
    with fixed_costs():
        backend.load()
    return backend


@pytest.mark.parametrize(
    "options",
    [{"drafter": "none"}, {"drafter": "ngram", "draft_tokens": 3}, {"verify": "coupled", "drafter": "stand"}],
    ids=str,
)
def test_an_8_bit_target_decodes_as_it_does_alone(folder: str, naive: Naive, options: dict[str, object]) -> None:
    """Token for token, greedy and sampled, whatever shares the batch and whatever was drafted."""
    backend = engine(folder, dtype="int8", **options)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    clean(backend)


def test_both_local_backends_have_the_same_8_bit_texts(folder: str, naive: Naive) -> None:
    """So that ``compare`` works for int8."""
    plain = TransformersBackend(folder, device="cpu", dtype="int8")
    assert told(ask(plain, *MIX)) == naive.expected(MIX)


def in_company(network: Any) -> bool:
    """Whether the logits of a text, alone and left-padded beside longer ones, are the same.

    Bit by bit in float32, and up to 1e-12 where all but the 8-bit products is in float64.
    """
    generator = torch.Generator().manual_seed(3)
    texts = [torch.randint(5, 60, (length,), generator=generator) for length in (9, 17, 31, 40, 58, 12)]
    width, atol = max(map(len, texts)), 1e-12 if network.dtype == torch.float64 else 0.0
    ids, mask = (torch.zeros(len(texts), width, dtype=torch.long) for _ in range(2))
    for row, text in enumerate(texts):
        ids[row, width - len(text) :], mask[row, width - len(text) :] = text, 1
    with torch.inference_mode():
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        together = network(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        return all(
            torch.allclose(network(input_ids=text[None]).logits[0], logits[width - len(text) :], rtol=0, atol=atol)
            for text, logits in zip(texts, together, strict=True)
        )


@pytest.mark.parametrize("family", ["llama", "llama-mha", "qwen3", "gpt-neox"])
def test_logits_are_the_same_in_any_company(tmp_path: Path, family: str) -> None:
    """Bit by bit, for texts of other lengths and a padded batch."""
    assert in_company(load_model(Path(save_model(tmp_path / "model", FAMILIES[family])), "int8", CPU).network)


def test_logits_would_not_be_with_attention_in_float32(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the test before."""
    monkeypatch.setattr(int8_attention, "round_heads", lambda x: x.float())
    assert not in_company(load_model(Path(folder), "int8", CPU).network)


@pytest.mark.parametrize("module", [int8_network.RowNorm(torch.rand(577), 1e-5), int8_network.RowSilu()], ids=str)
def test_norm_and_activation_of_a_row_stand_alone(module: nn.Module) -> None:
    """Bit by bit in any batch, and equal to the definition in float64."""
    x = 4 * torch.randn(90, 577, generator=torch.Generator().manual_seed(1))
    together, wide = module(x), module(x.double())
    for size in (1, 2, 7, 32):
        assert torch.equal(together, torch.cat([module(x[i : i + size].clone()) for i in range(0, 90, size)]))
    assert torch.allclose(together.double(), wide, rtol=1e-5, atol=1e-7)
    if isinstance(module, int8_network.RowSilu):
        assert torch.allclose(wide, nn.functional.silu(x.double()), rtol=1e-12)


def test_torch_that_rounds_by_the_batch_is_not_trusted(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything but the 8-bit products is in float64."""
    assert int8_network.rows_stand_alone()
    monkeypatch.setattr(int8_network, "rows_stand_alone", lambda: False)
    model = load_model(Path(folder), "int8", CPU)
    assert model.network.dtype == torch.float64
    assert in_company(model.network)


@pytest.mark.parametrize("family", ["llama-mha", "qwen3", "gpt-neox"])
def test_other_families_run_in_8_bits(tmp_path: Path, family: str) -> None:
    """Through the own loop or through transformers, with the texts of naive decoding."""
    model = save_model(tmp_path / "model", FAMILIES[family])
    few = MIX[:4]
    assert told(ask(engine(model, dtype="int8", drafter="ngram"), *few)) == Naive(model, "int8").expected(few)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("drafter", ["model", "ngram+rsd-s:2x2"])
def test_a_twin_drafts_without_changing_a_token(folder: str, dtype: str, drafter: str) -> None:
    """The target's texts, and most of what its 8-bit twin drafts is accepted."""
    backend = engine(folder, dtype=dtype, draft="twin", drafter=drafter, draft_tokens=4)
    meter = backend.meter()
    assert told(ask(backend, *MIX)) == Naive(folder, dtype).expected(MIX)
    figures = meter()
    assert figures["accepted"] > 0.4 * figures["drafted"] or drafter != "model"
    clean(backend)


def test_a_draft_may_have_a_dtype_of_its_own(folder: str) -> None:
    """The dtype of the draft model does not change a token either."""
    backend = engine(folder, draft=folder, draft_dtype="bfloat16", drafter="model", draft_tokens=3)
    assert told(ask(backend, *MIX)) == Naive(folder, "float32").expected(MIX)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draft": "twin", "dtype": "int8"}, "twin would be the target itself: both are int8"),
        ({"draft_dtype": "int8"}, "needs a draft model"),
        ({"draft": "twin", "draft_dtype": "int9"}, "int9"),
        ({"dtype": "int4"}, "int4"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(folder: str, options: dict[str, str], message: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        SeedBackend(folder, **options)  # type: ignore[arg-type]


def test_a_model_whose_layers_cannot_be_replaced_is_refused(tmp_path: Path) -> None:
    """GPT-2 keeps its weights in layers of its own kind; the message names it."""
    model = save_model(tmp_path / "gpt2", FAMILIES["gpt2"])
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel.*int8.*Conv1D"):
        load_model(Path(model), "int8", CPU)


def test_agreement_of_a_model_with_itself_and_with_its_8_bit_layers(folder: str) -> None:
    """All positions of the continuations are counted, and only the model itself agrees in all of them."""
    reference, eight = load_model(Path(folder), "float32", CPU), load_model(Path(folder), "int8", CPU)
    texts = continuations(reference, [[5, 9, 12], [7, 30]], 12)
    itself, other = agreement(reference, reference, texts), agreement(reference, eight, texts)
    assert itself.positions == other.positions == sum(len(drawn) for _, drawn in texts)
    assert itself.greedy == 1
    assert all(overlap == pytest.approx(1, abs=1e-6) for overlap in itself.overlap.values())
    assert all(0.5 < overlap < 1 - 1e-6 for overlap in other.overlap.values())
