"""A tiny draft of several exits, and its logits at each by the plain forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from seed_tools import SHAPE, Naive, save_model

from treeagent.backends.local import model_thread as worker
from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.executor.early_exit import EarlyExitRunner
from treeagent.backends.seed.executor.weights import Weights

EXITS = (1, 2, 4)
Load = Callable[..., EarlyExitRunner]


def sorted_config(exits: tuple[int, ...] | None = EXITS) -> transformers.LlamaConfig:
    """Of a tiny model of four layers."""
    config = transformers.LlamaConfig(**{**SHAPE, "num_hidden_layers": 4}, num_key_value_heads=2)
    if exits is not None:
        config.exits = list(exits)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny draft of three exits."""
    return save_model(tmp_path_factory.mktemp("sorted") / "sorted-draft", sorted_config())


@pytest.fixture(scope="module")
def naive(folder: str) -> Naive:
    """Its plain forward."""
    return Naive(folder, "float64")


def load(folder: str, layers: int | None = None) -> EarlyExitRunner:
    model = load_model(Path(folder), "float64", torch.device("cpu"))
    return worker.run(lambda: EarlyExitRunner(Weights(model, folder), 1 << 24, layers))


def at_exits(naive: Naive, path: list[int]) -> list[torch.Tensor]:
    """Logits (V,) after the path's last token, at every exit."""
    picked = torch.zeros(1, len(path), dtype=torch.bool)
    picked[0, -1] = True
    inputs = {"input_ids": torch.tensor([path])}

    def forward() -> list[torch.Tensor]:
        with torch.inference_mode():  # in float64 throughout
            inner = naive.model.network.model
            out = inner(**inputs, output_hidden_states=True)
            states = [inner.norm(out.hidden_states[layers][picked]) for layers in EXITS[:-1]]
            states.append(out.last_hidden_state[picked])
            return [naive.model.network.lm_head(state)[0] for state in states]

    return worker.run(forward)


def paths_of(prompt: list[int], tokens: list[int], parents: list[int]) -> list[list[int]]:
    """The whole text up to every node of a tree that begins with the prompt's last token."""
    paths: list[list[int]] = []
    for token, parent in zip(tokens, parents, strict=True):
        paths.append([*(paths[parent] if parent >= 0 else prompt[:-1]), token])
    return paths
