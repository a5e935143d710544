"""Several MTP layers: the k-th drafts the k-th token, the last one is chained, and texts stay the target's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from head_tools import Heard, engine, with_memory_for
from mtp_tools import PARTS, TARGETS, PlainMtp, save_mtp
from seed_tools import MIX, Naive, ask, clean, request, scheduler, told

from treeagent.backends.seed.drafters.heads.layered_runner import LayeredRunner
from treeagent.errors import ModelError

ASKED = [
    request(2, 0, max_tokens=8),
    request(3, 1, 2, temperature=0.7, max_tokens=6),
    request(3, 2, temperature=1.3, max_tokens=6),
]
COUNTS = {"GLM-4.5": "num_nextn_predict_layers", "Qwen3.5": "mtp_num_hidden_layers"}
"""What configurations call the number of layers."""


def save_layers(folder: Path, family: str, count: int, *, written: int | None = None) -> str:
    """A random target with so many different MTP layers inside, of which so many are written."""
    start = TARGETS[family][2]

    def more(held: dict[str, torch.Tensor]) -> None:
        torch.manual_seed(9)
        for name, tensor in list(held.items()):
            for number in range(1, count if written is None else written):
                other = f"model.layers.{2 + number}." if family == "GLM-4.5" else f"{start}layers.{number}."
                own = start if family == "GLM-4.5" else f"{start}layers.0."
                if name.startswith(own):
                    changed = tensor.clone() if tensor.ndim == 1 else 0.25 * torch.randn_like(tensor)
                    held[other + name.removeprefix(own)] = changed

    return save_mtp(folder, family, change=more, **{COUNTS[family]: count})


class PlainLayers:
    """MTP layers over whole texts, by transformers' own layer."""

    def __init__(self, target: str, count: int) -> None:
        self._layers = [
            PlainMtp(target, target, f"model.layers.{2 + number}.", torch.float32) for number in range(count)
        ]
        self.ids = self._layers[0].ids

    def logits(self, tokens: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """Logits (V,) after a text and drafted tokens."""
        with torch.inference_mode():
            network = self._layers[0].target
            states = network.model(input_ids=torch.tensor([list(tokens[:-1])]), use_cache=False).last_hidden_state[0]
            read, known, last = [*tokens[1:], *path], len(tokens) - 1, len(self._layers) - 1
            out = states
            for number in range(min(len(path), last) + 1):
                states = out
                out = self._layers[number]._outputs(states, read[number : number + known])
            for more in range(1, len(path) - last + 1):
                states = torch.cat((states, out[-1:]))
                out = self._layers[last]._outputs(states, read[last : last + known + more])
            logits: torch.Tensor = network.lm_head(out[-1])
            return logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Targets of the family GLM-4.5, by the number of MTP layers."""
    return {count: save_layers(tmp_path_factory.mktemp("layers") / "glm", "GLM-4.5", count) for count in (2, 3)}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", ["model", "dynamic"])
def test_layers_read_what_they_would_read_alone(
    folders: dict[int, str], count: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At all levels of chains and trees, after prompts of any length, in parts and partly from the prefix cache."""
    for number in range(1, count):
        monkeypatch.setitem(PARTS, f"model.layers.{2 + number}.", PARTS["model.layers.2."])
    target = folders[count]
    backend = engine(target, target, "float32", drafter=name, chunk=16)
    heard = Heard(backend, monkeypatch)
    for asked in (ASKED, [MIX[0], *ASKED[1:]]):
        assert told(ask(backend, *asked)) == Naive(target, "float32").expected(asked)
    clean(backend)
    assert {len(path) for _, path, _ in heard.said} >= {0, 1, 2, 3}
    plain = PlainLayers(target, count)
    assert heard.worst(plain, 5) < 1e-3
    draft_at = LayeredRunner.draft_at
    monkeypatch.setattr(LayeredRunner, "draft_at", lambda own, _level: draft_at(own, 0))  # all by the first layer
    heard.said.clear()
    assert told(ask(backend, *ASKED)) == Naive(target, "float32").expected(ASKED)
    assert heard.worst(plain, 2) > 1e-2


@pytest.mark.parametrize("name", ["model", "dynamic", "rsd-c:2x2", "ngram+model"])
def test_texts_are_those_of_plain_decoding(tmp_path: Path, name: str) -> None:
    """Of a hybrid target, whose layers share a projection, also with little memory."""
    target = save_layers(tmp_path / "target", "Qwen3.5", 2)
    backend = engine(target, target, "float32", drafter=name)
    assert backend.core.parts is not None
    assert isinstance(backend.core.parts.draft_runner, LayeredRunner)
    for slots in (10_000, 150):
        read = backend.meter()
        assert told(ask(with_memory_for(backend, slots), *ASKED)) == Naive(target, "float32").expected(ASKED)
        clean(backend)
        assert read()["draft_passes"] > 0


def test_memory_counts_all_layers(folders: dict[int, str]) -> None:
    """Keys and values of each, and a state more than there are layers."""
    sizes = [scheduler(engine(folders[count], folders[count], "float32")).runner.forest.pool.slot_bytes
             for count in (2, 3)]  # fmt: skip
    assert sizes[1] - sizes[0] == (2 * 2 * 16 + 32) * 4


def test_missing_layers_are_named(tmp_path: Path) -> None:
    """A configuration that promises more than the file has, or nonsense."""
    for family, match in (("GLM-4.5", "no MTP layer 2 in its"), ("Qwen3.5", "lacks .* of its weights")):
        target = save_layers(tmp_path / f"wrong-{family}", family, 3, written=2)
        with pytest.raises(ModelError, match=match) as error:
            engine(target, target, "float32")
        assert "\n" not in str(error.value)
    target = save_mtp(tmp_path / "wrong-count", "Qwen3.5", mtp_num_hidden_layers=99)
    with pytest.raises(ModelError, match=r"has 99 MTP layers by its config\.json, and 1 to 16 are expected"):
        engine(target, target, "float32")
