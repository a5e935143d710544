"""Engines that share a shelf hold each model once, and answer as if they were alone."""

from __future__ import annotations

import asyncio
import weakref
from pathlib import Path

import pytest
import transformers
from device import DEVICE
from seed_tools import MIX, SHAPE, Naive, ask, clean, fixed_costs, save_model, told

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.weights import WeightCache


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A target and a relative of it that drafts."""
    config = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2)
    folder: Path = tmp_path_factory.mktemp("shelf")
    return save_model(folder / "target", config), save_model(folder / "model-draft", config, noise=0.1)


def opened(folders: tuple[str, str], shelf: WeightCache, drafter: str = "model", dtype: str = "float64") -> SeedBackend:
    """An engine with models from a shelf."""
    target, draft = folders
    with fixed_costs():
        backend = SeedBackend(target, draft=draft, drafter=drafter, device=DEVICE, dtype=dtype, shelf=shelf)
        backend.load()
    return backend


def weights(backend: SeedBackend) -> tuple[object, object]:
    """Of target and draft."""
    assert backend.core.parts is not None
    assert backend.core.parts.draft_runner is not None
    return backend.core.parts.scheduler.runner.weights, backend.core.parts.draft_runner.weights


def test_engines_on_one_shelf_hold_each_model_once_and_their_own_keys_and_values(folders: tuple[str, str]) -> None:
    """Other options, the same weights; texts are those of naive decoding, together and one after the other."""
    shelf = WeightCache()
    one, two = opened(folders, shelf), opened(folders, shelf, "rsd-s:2x2")
    assert weights(one) == weights(two)
    assert one.core.parts is not None
    assert two.core.parts is not None
    assert one.core.parts.scheduler.runner.forest is not two.core.parts.scheduler.runner.forest
    expected = Naive(folders[0], "float64").expected(MIX)

    async def together() -> list[object]:
        return list(await asyncio.gather(*(backend.generate(asked) for asked in MIX for backend in (one, two))))

    replies = asyncio.run(together())
    assert told(replies[::2]) == expected  # type: ignore[arg-type]
    assert told(replies[1::2]) == expected  # type: ignore[arg-type]
    assert told(ask(one, *MIX)) == expected
    clean(one)
    clean(two)


def test_another_type_of_numbers_is_another_model(folders: tuple[str, str]) -> None:
    """And so is a shelf of one's own."""
    shelf = WeightCache()
    one = opened(folders, shelf)
    assert set(weights(one)).isdisjoint(weights(opened(folders, shelf, dtype="float32")))
    assert set(weights(one)).isdisjoint(weights(opened(folders, WeightCache())))


def test_weights_go_with_the_last_engine_that_runs_them(folders: tuple[str, str]) -> None:
    """A shelf alone holds nothing, and an engine that is asked again loads them again."""
    shelf = WeightCache()
    one, two = opened(folders, shelf), opened(folders, shelf)
    held = [weakref.ref(each) for each in weights(one)]
    asyncio.run(one.aclose())
    assert all(each() is not None for each in held)
    asyncio.run(two.aclose())  # at once, or a model that was trained anew would not be read
    assert all(each() is None for each in held)
    with fixed_costs():
        assert told(ask(two, *MIX)) == Naive(folders[0], "float64").expected(MIX)


def test_engines_beside_each_other_share_a_shelf(folders: tuple[str, str]) -> None:
    """A generator and an evaluator that are the same model are in memory once."""
    one = opened(folders, WeightCache())
    two = one.with_model(folders[0])
    with fixed_costs():
        two.load()
    assert weights(one) == weights(two)
