"""Texts and laws stay wherever draft tokens leave, and options of exits are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from device import DEVICE
from exit_drafts import at_exits, sorted_config
from exit_drafts import folder as folder  # noqa: PLC0414  the fixture
from exit_drafts import naive as naive  # noqa: PLC0414  the fixture
from seed_tools import MIX, Naive, ask, clean, fixed_costs, save_model, told
from test_seed_attention import texts

from treeagent.backends.local import model_thread as worker
from treeagent.backends.sampling.gumbel_top_k import softmax_rows, warp_rows
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.early_exit import ExitSpec
from treeagent.backends.seed.records import SequenceState
from treeagent.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def open_engine(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SeedBackend]:
    """An engine whose draft is a noisy relative of the target, as far as its layers go."""
    folder = tmp_path_factory.mktemp("pair")
    target = save_model(folder / "target", sorted_config(None))
    draft = save_model(folder / "sorted-draft", sorted_config(), noise=0.1)

    def opened(**options: object) -> SeedBackend:
        with fixed_costs():
            backend = SeedBackend(target, draft=draft, device=DEVICE, dtype="float64", **options)  # type: ignore[arg-type]
            backend.load()
        return backend

    return opened


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", ["adaptive:0.2", "adaptive", "1", "4"])
@pytest.mark.parametrize("drafter", ["model", "dynamic", "rsd-s:3x2"])
def test_texts_are_those_of_naive_decoding(open_engine: Callable[..., SeedBackend], drafter: str, policy: str) -> None:
    """Wherever draft tokens leave, for chains and trees, and again when prefixes are known already."""
    backend = open_engine(drafter=drafter, exit=policy, draft_tokens=5)
    expected = Naive(str(backend.model), "float64").expected(MIX)
    read = backend.meter()
    for _ in range(2):
        assert told(ask(backend, *MIX)) == expected
        clean(backend)
    figures = read()
    assert 0 < figures["accepted"] < figures["drafted"]
    shares = figures["draft_exits"]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert len(shares) == (3 if policy.startswith("adaptive") else 1)
    if policy == "adaptive:0.2":
        assert min(shares) > 0


@pytest.mark.parametrize("policy", ["fcfs", "serial"])
def test_texts_stay_under_every_policy_and_little_memory(open_engine: Callable[..., SeedBackend], policy: str) -> None:
    """Where drafts wait, and where the draft model's prefixes are evicted between rounds."""
    backend = open_engine(exit="adaptive:0.2", policy=policy, draft_tokens=3)
    parts = backend.core.parts
    assert parts is not None
    assert parts.draft_runner is not None
    for runner in (parts.scheduler.runner, parts.draft_runner):
        runner.memory = 150 * runner.forest.pool.slot_bytes
    with fixed_costs():
        backend.reset()
    assert told(ask(backend, *MIX)) == Naive(str(backend.model), "float64").expected(MIX)
    clean(backend)


def test_the_law_of_a_draft_is_that_of_its_exit(open_engine: Callable[..., SeedBackend], naive: Naive) -> None:
    """Under rejection every token's law is the softmax of the logits it left with, whichever exit that was."""
    backend = open_engine(exit="adaptive:0.2", verify="recursive", drafter="rsd-s:3x3")
    parts = backend.core.parts
    assert parts is not None
    drafter, runner = parts.scheduler.speculator.drafter, parts.draft_runner
    assert drafter is not None
    assert runner is not None
    plain = Naive(str(backend.config.draft), "float64")
    prompt = texts(3)[2]
    row = SequenceState(list(prompt), len(prompt), MIX[2].sampling, 5, 10)
    [draft] = worker.run(lambda: drafter.propose([row], 0.0, 3))
    assert draft.law is not None
    laws = 0
    for node, parent in enumerate(draft.parents):
        path, above = list(prompt), parent
        while above >= 0:
            path.insert(len(prompt), draft.tokens[above])
            above = draft.parents[above]
        candidates = [warped(logits, row) for logits in at_exits(plain, path)]
        assert any(np.allclose(draft.law[node], law, atol=1e-9) for law in candidates)
        laws += sum(np.allclose(draft.law[node], law, atol=1e-9) for law in candidates[:-1])
    assert laws  # some left early


def warped(logits: torch.Tensor, row: SequenceState) -> np.ndarray:
    """The law (V,) that the row's settings make of logits."""
    law: np.ndarray = softmax_rows(warp_rows(logits.numpy()[None], [row.sampling]))[0]
    return law


@pytest.mark.parametrize("text", ["adaptiv", "adaptive:", "adaptive:2", "adaptive:x", "0", "-1", "2:0.5", ""])
def test_an_exit_option_that_cannot_be_read_is_refused(text: str) -> None:
    """One line that names the valid forms."""
    with pytest.raises(ConfigError, match=r"adaptive:0\.7"):
        ExitSpec.parse(text)


def test_an_exit_needs_a_draft_that_has_it(open_engine: Callable[..., SeedBackend], tmp_path: Path) -> None:
    """Without a draft, for a draft of one exit, and for layers after which there is none."""
    with pytest.raises(ConfigError, match="needs a draft model"):
        SeedBackend("mini", exit="adaptive")
    with pytest.raises(ModelError, match="exits after: 1, 2, 4"):
        open_engine(exit="3")
    with pytest.raises(ModelError, match="one exit only"):
        SeedBackend("mini", draft="mini-draft", exit="adaptive", device=DEVICE).load()
