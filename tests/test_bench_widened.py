"""Widened checkpoints: the function of a small model in a large shape, written layer by layer, and labelled."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bench_tables
import pytest
import torch
import transformers
from seed_tools import MIX, SHAPE, ask, fixed_costs, save_model, told
from test_results import report, row

from treeagent.backends.bench import widen
from treeagent.backends.bench.results.record import to_json
from treeagent.backends.bench.results.report import caption
from treeagent.backends.bench.widened import checkpoint
from treeagent.backends.bench.widened.matrices import WideMatrices
from treeagent.backends.bench.widened.shape import SHAPES, check_fit
from treeagent.backends.seed.backend import SeedBackend
from treeagent.errors import ConfigError

LARGE = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 12, "num_key_value_heads": 6, "head_dim": 16,
    "intermediate_size": 80, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random model with four heads, two of which share a key-value head."""
    config = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True)
    return save_model(tmp_path_factory.mktemp("small") / "original", config)


def like(folder: Path, **changes: Any) -> str:
    """A file with a shape."""
    file = folder / "like.json"
    file.write_text(json.dumps({**LARGE, **changes}))
    return str(file)


def written(small: str, folder: Path, *words: str, **changes: Any) -> int:
    """The exit code of the command, which writes ``folder / "wide"``."""
    shape = like(folder, **changes)
    out = str(folder / "wide")
    return widen.main(["--model", small, "--like", shape, "--out", out, "--quiet", "--device", "cpu", *words])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 24, "tie_word_embeddings": True},
        {"num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 2},
    ],
    ids=["wider heads, one more layer", "each head with keys of its own, tied", "more heads a group"],
)
def test_a_widened_model_computes_the_function_of_the_small_one(
    small: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """By transformers, which knows nothing of how it was made; the new weights are random where nothing reads them."""
    assert written(small, tmp_path, "--dtype", "float32", "--no-check", **changes) == 0
    ids = torch.randint(SHAPE["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(3))
    plain, wide = (
        transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, trust_remote_code=False)
        for where in (small, tmp_path / "wide")
    )
    with torch.inference_mode():
        expected, logits = plain(ids).logits, wide(ids).logits
    assert float((logits - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    config = wide.config.to_dict()
    assert {name: config[name] for name in LARGE} == {**LARGE, **changes}
    assert float((wide.model.layers[-1].mlp.gate_proj.weight == 0).float().mean()) < 0.01


def test_the_engine_gives_a_widened_model_the_texts_of_the_small_one(small: str, tmp_path: Path) -> None:
    """Greedy and drawn, with the small one as its draft."""
    assert written(small, tmp_path, "--dtype", "float32", "--no-check") == 0
    texts = []
    for model, options in ((small, {}), (str(tmp_path / "wide"), {"draft": small, "drafter": "model"})):
        with fixed_costs():
            backend = SeedBackend(model, device="cpu", **options)
            backend.load()
        texts.append(told(ask(backend, *MIX)))
    assert texts[0] == texts[1]


def test_another_function_is_noticed(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command compares in every dtype; one that reads a new neuron fails."""
    assert written(small, tmp_path, "--dtype", "bfloat16") == 0
    assert "the same function over" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "wide")
    monkeypatch.setattr(WideMatrices, "_empty", lambda self, size: torch.full(size, 0.05, dtype=self._dtype).clone())
    monkeypatch.setattr(torch.Tensor, "zero_", lambda self: self)
    assert written(small, tmp_path, "--dtype", "bfloat16") == 1
    assert "ANOTHER FUNCTION" in capsys.readouterr().out


def test_one_group_of_tensors_is_in_memory_at_a_time(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a shard is written, no tensor of an earlier one is alive; the last layer is as large as the first."""
    alive: list[weakref.ref[torch.Tensor]] = []
    sizes = []
    save = checkpoint.save_file

    def watched(tensors: dict[str, torch.Tensor], *where: Any) -> None:
        gc.collect()
        assert not any(held() is not None for held in alive)
        alive.extend(map(weakref.ref, tensors.values()))
        sizes.append(sum(tensor.nbytes for tensor in tensors.values()))
        save(tensors, *where)

    monkeypatch.setattr(checkpoint, "save_file", watched)
    assert written(small, tmp_path, "--no-check", num_hidden_layers=5) == 0
    assert len(sizes) == 5 + 2
    assert len({*sizes[1:-1]}) == 1


REFUSED = [
    ({"hidden_size": 24, "num_attention_heads": 6}, [], "hidden_size is 24, the model's is 32"),
    ({"num_hidden_layers": 1}, [], "A model can be widened, not cut"),
    ({"num_attention_heads": 12, "num_key_value_heads": 5}, [], "12 attention heads do not divide into 5"),
    ({"num_attention_heads": 9, "num_key_value_heads": 3}, [], "96 does not divide into 9"),
    ({"head_dim": 12}, [], "no multiple of the model's 8"),
    ({"num_attention_heads": 4, "num_key_value_heads": 1}, [], "1 key-value heads with 4 attention heads each"),
    ({"intermediate_size": "wide"}, [], "intermediate_size of 1 or more, not 'wide'"),
    ({}, ["--like", "llama-7"], "Did you mean 'llama-7b'"),
    ({}, ["--dtype", "int8"], "float32, bfloat16, float16, not 'int8'"),
    ({}, ["--out", "{folder}"], "exists; give another --out"),
    ({}, ["--model", "{folder}"], "cannot be widened"),
    ({}, ["--tokens", "0"], "--tokens"),
]


@pytest.mark.parametrize(("changes", "words", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_what_cannot_be_widened_is_refused_in_one_line(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: list[str], said: str
) -> None:
    """Nothing is written then."""
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    before = {path.name for path in tmp_path.iterdir()}
    assert written(small, tmp_path, *(word.format(folder=tmp_path) for word in words), **changes) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert "\n" not in message or "--model" in words  # pydantic's reasons have lines
    assert {path.name for path in tmp_path.iterdir()} == before | {"like.json"}


def test_one_matrix_cannot_be_two() -> None:
    """A model with an LM head of its own does not fit into a shape without."""
    large = SHAPES["llama-7b"]
    check_fit(large, large)
    with pytest.raises(ConfigError, match="one matrix for embedding and LM head"):
        check_fit(large, replace(large, tied=True))


def test_a_full_disk_is_noticed_before_and_a_failure_leaves_nothing(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says how much is needed; a disk that fills up half-way is an error of the same kind."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        assert written(small, tmp_path) == 2
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))  # type: ignore[attr-defined]
    assert written(small, tmp_path) == 2
    assert "has 0.0 GiB left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["like.json"]


def test_figures_of_a_widened_model_are_labelled(small: str, tmp_path: Path) -> None:
    """In the terminal, in the file, and in the tables that are made from it."""
    assert written(small, tmp_path, "--no-check") == 0
    wide, label = str(tmp_path / "wide"), "widened: original in the shape of like"
    grid = bench_tables.planned(["--model", wide, "--branches", "1"])
    assert f"({label})" in caption(grid)[0]
    assert to_json(grid, [], {}, datetime.now(timezone.utc))["widened"] == {wide: label}
    assert f"`m` ({label})" in bench_tables.markdown({**report(row("a")), "widened": {"m": label}})
