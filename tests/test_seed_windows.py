"""Models of short contexts and windows in the engine: what fits has plain decoding's text, the rest is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from device import DEVICE
from seed_tools import GPT2, SHAPE, Naive, ask, save_model, told

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.profiler import TRIALS
from treeagent.backends.seed.executor.trial_pass import make_slots, run_trial, trial_segments
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ModelError, RequestRefusedError
from treeagent.request import Key, Request, Sampling


def mistral(window: int, context: int = 512) -> Any:
    """A tiny one whose layers slide."""
    shape = SHAPE | {"max_position_embeddings": context, "num_key_value_heads": 2}
    return transformers.MistralConfig(**shape, sliding_window=window)


def gpt2(context: int) -> Any:
    """A tiny one, which has no position beyond its context."""
    return transformers.GPT2Config(**GPT2 | {"n_positions": context}, initializer_range=0.25, eos_token_id=0)


def asked(prompt: str, tokens: int) -> Request:
    """A greedy request."""
    return Request(prompt, Key(0, "propose", "0"), Sampling(max_tokens=tokens))


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


@pytest.mark.parametrize("length", [2, 3, 4, 5, 7, 8, 11])
@pytest.mark.parametrize("make", [mistral, gpt2])
def test_a_context_shorter_than_the_probe_works(make: Any, length: int, tmp_path: Path) -> None:
    """The engine loads, and fills the context with the plain decoder's text."""
    folder = save_model(tmp_path, make(length))
    backend = SeedBackend(folder, device=DEVICE, dtype="float64")
    request = asked("4" * (length // 2), length - length // 2)
    assert told(ask(backend, request)) == Naive(folder, "float64").expected([request])


@pytest.mark.parametrize("length", [2, 3, 5, 9, 30])
@pytest.mark.parametrize("make", [lambda context: mistral(4, context), gpt2], ids=["mistral", "gpt2"])
def test_passes_that_are_measured_stay_within_the_context(make: Any, length: int, tmp_path: Path) -> None:
    """The deepest drafts of one sequence and of several; a model of absolute positions fails beyond its last one."""
    weights = Weights(load_model(Path(save_model(tmp_path, make(length))), "float32", torch.device(DEVICE)), tmp_path)
    runner = ModelRunner(weights, 10**7)
    with runner.profiling():
        make_slots(runner, TRIALS)
        for trial in TRIALS:
            with trial_segments(runner, trial) as segments:
                assert all(len(own.context) + max(own.depths()) < length for own in segments)
                assert run_trial(runner, segments)[1] > 0


def test_a_context_without_room_for_a_completion_is_refused(tmp_path: Path) -> None:
    """With the true reason."""
    with pytest.raises(ModelError, match="its context of 1 holds no prompt with a completion"):
        SeedBackend(save_model(tmp_path, gpt2(1)), device=DEVICE).load()


def test_a_window_is_no_limit_and_a_context_is_one(tmp_path: Path) -> None:
    """A prompt beyond the window is answered as by transformers, one beyond the context is refused by both."""
    folder = save_model(tmp_path, mistral(16))
    engine, plain = (kind(folder, device=DEVICE, dtype="float64") for kind in (SeedBackend, TransformersBackend))
    assert told(ask(engine, asked("4" * 40, 9))) == told(ask(plain, asked("4" * 40, 9)))
    for backend in (engine, plain):
        [error] = ask(backend, asked("4" * 600, 4), errors=True)
        assert isinstance(error, RequestRefusedError)
        assert "the model's context is 512" in str(error)
