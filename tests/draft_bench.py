"""An engine with a draft model for many cases, beside the naive decoder of the same model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from device import DEVICE
from seed_tools import FAMILIES, Naive, clean, fixed_costs, idle, save_model, scheduler

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.drafters.model.drafter import ModelDrafter
from treeagent.backends.seed.drafters.tables.compiled_ngram import ngram_drafter
from treeagent.backends.seed.drafters.tables.merged import MergedDrafter
from treeagent.backends.seed.drafters.tables.stand import StandDrafter
from treeagent.backends.seed.drafters.tables.suffix import SuffixDrafter
from treeagent.backends.seed.drafters.tables.token_recycling import RecyclingDrafter
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.scheduler.scheduler import Scheduler


@dataclass
class Bench:
    """An engine with a draft model, set up anew for every case, and the naive decoder of the same model."""

    backend: SeedBackend
    naive: Naive

    @classmethod
    def of(cls, folder: Path, family: str, dtype: str) -> Bench:
        """A tiny model of the family; its draft model is a relative that is often right."""
        model = save_model(folder / family, FAMILIES[family])
        draft = save_model(folder / f"{family}-draft", FAMILIES[family], noise=0.1)
        with fixed_costs():
            backend = SeedBackend(model, draft=draft, device=DEVICE, dtype=dtype)
            backend.load()
        return cls(backend, Naive(model, dtype))

    @property
    def scheduler(self) -> Scheduler:
        """The engine's."""
        return scheduler(self.backend)

    def set_up(
        self,
        drafter: str | Drafter = "none",
        policy: str = "rounds",
        *,
        draft_tokens: int | None = 5,
        slots: int = 10_000,
        chunk: int = 512,
    ) -> SeedBackend:
        """An engine as if just loaded with these options; ``slots`` of keys and values per model."""
        parts, backend = self.backend.core.parts, self.backend
        assert parts is not None
        without_model = {
            "none": None,
            "ngram": ngram_drafter(),
            "recycling": RecyclingDrafter(coupled=True),
            "stand": StandDrafter(coupled=True),
            "suffix": SuffixDrafter(),
            "merged": MergedDrafter(),
        }
        if isinstance(drafter, Drafter) or drafter in without_model:
            made = drafter if isinstance(drafter, Drafter) else without_model[drafter]
            parts.config = replace(parts.config, draft=None, drafter=lambda: made)
        else:
            parts.config = replace(self.backend.config, drafter=drafter)
        for runner in filter(None, (parts.scheduler.runner, parts.draft_runner)):
            runner.memory = slots * runner.forest.pool.slot_bytes
        parts.scheduler.policy, parts.scheduler.chunk = policy, chunk
        parts.scheduler.speculator.draft_tokens = draft_tokens
        idle(backend)
        with fixed_costs():
            backend.reset()
        return backend

    def settle(self) -> None:
        """See :func:`clean`."""
        clean(self.backend)


async def under_way(backend: SeedBackend) -> None:
    """Let the loop turn until the engine has taken what was asked."""
    while not backend.core.working:  # noqa: ASYNC110  # it knows no event of this loop
        await asyncio.sleep(0)


def draft_with_the_target(one: Bench) -> None:
    """Make the target its own draft model, with a cache of its own."""
    target, speculator = one.scheduler.runner, one.scheduler.speculator
    old = speculator.drafter
    assert isinstance(old, ModelDrafter)
    runner = ModelRunner(target.weights, target.memory)
    speculator.start(ModelDrafter(runner, old.vocabulary, old.shape, old.beams, old.policies))
