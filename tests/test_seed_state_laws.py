"""Exact laws of texts with states beside keys and values, drafted as trees and verified by recursive rejection."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from draft_trees import Trees
from seed_tools import HEAD, Naive, ask, scheduler
from state_families import WHOLE, write_model
from toy_laws import SCALE, p_value, softmax

from treeagent.backends.sampling.sampler import warp
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.state_pass import StatePass
from treeagent.request import Key, Request, Sampling

TEXTS = 1200 * SCALE
LENGTH = 4
SETTING = Sampling(temperature=1.5, top_k=3, max_tokens=LENGTH)


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


def law_of(naive: Naive, prompt: Sequence[int], begun: tuple[int, ...] = ()) -> dict[tuple[int, ...], float]:
    """The probability of every text, from the model's own logits."""
    if len(begun) == LENGTH or (begun and begun[-1] in naive.model.eos):
        return {begun: 1.0}
    chances = softmax(warp(naive.logits([*prompt, *begun])[-1].numpy(), SETTING))
    law: dict[tuple[int, ...], float] = {}
    for token in np.flatnonzero(chances).tolist():
        below = law_of(naive, prompt, (*begun, token))
        law |= {text: chance * float(chances[token]) for text, chance in below.items()}
    return law


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", WHOLE)
def test_recursive_rejection_keeps_the_law_of_texts_with_states(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever trees are drafted; a law without the tails of convolutions is another one."""
    folder = write_model(tmp_path, family)
    naive = Naive(folder, "float32")
    request = Request(HEAD, Key(3, "propose", family), SETTING, TEXTS)
    law = law_of(naive, naive.text.prompt(HEAD))
    assert sum(law.values()) == pytest.approx(1)
    places = {tuple(token for token in text if token not in naive.model.eos): i for i, text in enumerate(law)}
    chance = random.Random(1)
    guesses = chance.choices(list(law), weights=list(law.values()), k=TEXTS)
    truth = {request.key.stream(i): guess for i, guess in enumerate(guesses)}

    trees = Trees(truth, hit=0.9)
    engine = SeedBackend(folder, device="cpu", verify="recursive", drafter=lambda: trees, draft_tokens=8, max_rows=300)

    def fit() -> float:
        engine.load()
        engine.reset()
        [reply] = ask(engine, request)
        assert scheduler(engine).counters.accepted > TEXTS // 4
        drawn = [places.get(tuple(completion.tokens), len(law)) for completion in reply.completions]
        return p_value(np.array(drawn)[:, None], np.array([*law.values(), 0.0]))

    assert fit() > 1e-3
    inputs = StatePass.convolution_input

    def no_tail(own: StatePass, layer: int, new: torch.Tensor) -> torch.Tensor:
        found = inputs(own, layer, new)
        return torch.cat((new, torch.zeros_like(found[len(new) :])))

    monkeypatch.setattr(StatePass, "convolution_input", no_tail)  # after the trial at load, which would refuse it
    assert fit() < 1e-6
