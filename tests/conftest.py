"""Fixtures that several files of tests of the seed engine share; torch is imported where one of them is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from seed_tools import Naive, Open

    from treeagent.backends.seed.backend import SeedBackend


@pytest.fixture(scope="module")
def fixed_times() -> Iterator[None]:
    """Engines go by times that are the same on every machine, and leave the user's cache alone."""
    from seed_tools import fixed_costs

    with fixed_costs():
        yield


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny target, ``model``, and ``model-draft``, which is often right."""
    from seed_tools import FAMILIES, save_model

    folder = tmp_path_factory.mktemp("pair")
    save_model(folder / "model", FAMILIES["llama"])
    save_model(folder / "model-draft", FAMILIES["llama"], noise=0.05)
    return folder


@pytest.fixture(scope="session")
def naive(pair: Path) -> Naive:
    """The target of the pair, decoded naively in float64."""
    from seed_tools import Naive

    return Naive(str(pair / "model"), "float64")


@pytest.fixture(scope="session")
def opened(pair: Path) -> Open:
    """Opens and loads engines of the pair's target, in float64 unless told otherwise."""
    from device import DEVICE
    from seed_tools import fixed_costs

    from treeagent.backends.seed.backend import SeedBackend

    def make(**options: Any) -> SeedBackend:
        backend = SeedBackend(str(pair / "model"), device=DEVICE, **{"dtype": "float64", **options})
        with fixed_costs():
            backend.load()
        return backend

    return make


@pytest.fixture
def tabulated() -> Iterator[None]:
    """Random numbers of all toy streams at once; see :func:`toy_laws.tabulated`."""
    from toy_laws import tabulated

    with tabulated():
        yield
