"""Tiny process reward models of each shape, and what their own rules make of steps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from device import DEVICE
from safetensors.torch import load_file, save_file
from seed_tools import LIMIT, SHAPE, fixed_costs, save_model, tokenizer
from torch import nn

from treeagent import RewardRequest, Scores
from treeagent.backend import Backend
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.request import ScoreRequest

MARK = "<extra_0>"
QUESTION = "Use the numbers to make 24.\nNumbers: 4 5 6 10\n"
STEPS = ("10 - 4 = 6 (left: 5 6 6)", "5 * 6 = 30 (left: 6 30)", "30 - 6 = 24 (left: 24)")


def llama() -> Any:
    """The configuration of a tiny Llama."""
    return transformers.LlamaConfig(**{**SHAPE, "vocab_size": SHAPE["vocab_size"] + 8}, num_key_value_heads=2)


def qwen() -> Any:
    """The configuration of a tiny Qwen2, whose projections have biases."""
    return transformers.Qwen2Config(**{**SHAPE, "vocab_size": SHAPE["vocab_size"] + 8}, num_key_value_heads=2)


def marked(folder: Path) -> str:
    """Give a model's tokenizer the token of a mark."""
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": [MARK]})
    words.save_pretrained(folder)
    return str(folder)


def change(folder: Path, architecture: str | None, tensors: dict[str, torch.Tensor], drop: str = "lm_head.") -> str:
    """Write other tensors into a checkpoint, and another architecture into its configuration."""
    path = folder / "model.safetensors"
    held = {name: value for name, value in load_file(path).items() if not name.startswith(drop)}
    save_file({**held, **tensors}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    if architecture is not None:
        config["architectures"] = [architecture]
    (folder / "config.json").write_text(json.dumps(config))
    return marked(folder)


def head(*shapes: tuple[int, int]) -> list[torch.Tensor]:
    """Random weights that do not depend on the order of tests."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def classifier(folder: Path) -> str:
    """As transformers' token classification writes it: one layer with biases."""
    save_model(folder, llama())
    [weight] = head((2, 32))
    return change(
        folder, "LlamaForTokenClassification", {"score.weight": weight, "score.bias": torch.tensor([0.3, -0.2])}
    )


def qwen_prm(folder: Path) -> str:
    """As Qwen2.5-Math-PRM: two layers with a ReLU between."""
    save_model(folder, qwen())
    first, second = head((32, 32), (2, 32))
    biases = {"score.0.bias": torch.full((32,), 0.1), "score.2.bias": torch.tensor([0.1, 0.2])}
    return change(folder, "Qwen2ForProcessRewardModel", {"score.0.weight": first, "score.2.weight": second, **biases})


def skywork(folder: Path) -> str:
    """As Skywork-o1 Open PRM: a causal model with one value a token."""
    save_model(folder, qwen())
    [weight] = head((1, 32))
    return change(folder, None, {"v_head.summary.weight": weight, "v_head.summary.bias": torch.tensor([0.1])}, "none")


def shepherd(folder: Path) -> str:
    """As Math-Shepherd: a plain causal model."""
    save_model(folder, llama())
    return marked(folder)


SHAPES: dict[str, Callable[[Path], str]] = {
    "classifier": classifier,
    "qwen": qwen_prm,
    "skywork": skywork,
    "shepherd": shepherd,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny random checkpoint of each shape."""
    folder = tmp_path_factory.mktemp("rewards")
    return {name: write(folder / name) for name, write in SHAPES.items()}


def backend(kind: str, model: str, **options: Any) -> Backend:
    """One of the two that compute here."""
    if kind == "transformers":
        return TransformersBackend(model, device=DEVICE, dtype="float64", **options)
    with fixed_costs():
        engine = SeedBackend(model, device=DEVICE, dtype="float64", **options)
        engine.load()
    return engine


def request(shape: str, steps: tuple[str, ...] = STEPS, question: str = QUESTION) -> RewardRequest:
    """What the shape is asked by."""
    good, bad = ("+", "-") if shape == "shepherd" else (None, None)
    return RewardRequest(question, steps, mark=MARK, good=good, bad=bad)


def told(judge: Backend, *requests: ScoreRequest) -> list[Scores]:
    """Answers to requests that are awaited together."""

    async def run() -> list[Scores]:
        return await asyncio.wait_for(asyncio.gather(*map(judge.score, requests)), LIMIT)

    return asyncio.run(run())


def ids(*texts: str) -> list[int]:
    """Tokens of the texts, with the mark behind each but the first."""
    folder = marked_folder()
    words = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokens = words.encode(texts[0], add_special_tokens=False)
    for text in texts[1:]:
        tokens += [*words.encode(text, add_special_tokens=False), words.convert_tokens_to_ids(MARK)]
    return tokens


_FOLDERS: list[str] = []


def marked_folder() -> str:
    """Of a tokenizer with the mark."""
    return _FOLDERS[0]


def expected(shape: str, folder: str) -> list[float]:
    """The log-rewards of the steps, by the shape's own rule over plain hidden states."""
    network: Any = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64, trust_remote_code=False)
    tensors = {name: value.double() for name, value in load_file(Path(folder) / "model.safetensors").items()}
    _FOLDERS[:] = [folder]
    tokens = ids(QUESTION, *STEPS)
    mark = tokens[-1]
    places = [place for place, token in enumerate(tokens) if token == mark]
    with torch.inference_mode():
        hidden = network(torch.tensor([tokens])).last_hidden_state[0, places]
        if shape == "classifier":
            rows = hidden @ tensors["score.weight"].T + tensors["score.bias"]
            return rows.log_softmax(dim=1)[:, 1].tolist()
        if shape == "qwen":
            inner = (hidden @ tensors["score.0.weight"].T + tensors["score.0.bias"]).relu()
            return (inner @ tensors["score.2.weight"].T + tensors["score.2.bias"]).log_softmax(dim=1)[:, 1].tolist()
        if shape == "skywork":
            value = hidden @ tensors["v_head.summary.weight"].T + tensors["v_head.summary.bias"]
            return nn.functional.logsigmoid(value)[:, 0].tolist()
        words = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
        good, bad = (ids(word)[-1] for word in "+-")
        return (hidden @ words[[good, bad]].T).log_softmax(dim=1)[:, 0].tolist()
