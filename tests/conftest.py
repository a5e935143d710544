"""Fixtures of the tests of the seed engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from seed_tools import FAMILIES, Naive, Open, fixed_costs, save_model

from treeagent.backends.seed.engine import SeedBackend


@pytest.fixture(scope="module")
def fixed_times() -> Iterator[None]:
    """Engines go by times that are the same on every machine, and leave the user's cache alone."""
    with fixed_costs():
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny target ``model``, and ``model-draft``, which is often right."""
    folder = tmp_path_factory.mktemp("seed")
    save_model(folder / "model", FAMILIES["llama"])
    save_model(folder / "model-draft", FAMILIES["llama"], noise=0.05)
    return folder


@pytest.fixture(scope="session")
def naive(folder: Path) -> Naive:
    """The target, decoded naively in float64."""
    return Naive(str(folder / "model"), "float64")


@pytest.fixture(scope="session")
def opened(folder: Path) -> Open:
    """Opens and loads engines of the target, in float64 unless told otherwise."""

    def make(**options: Any) -> SeedBackend:
        backend = SeedBackend(str(folder / "model"), device="cpu", **{"dtype": "float64", **options})
        with fixed_costs():
            backend.load()
        return backend

    return make
