"""Which cases the default run has, and fixtures that several files of tests of the seed engine share.

Torch is imported where a fixture is used. A grid of cases that is long and alike carries ``sampled(every)``: the
default run has one case in so many, and the marker ``exhaustive`` is set on the others, which ``pytest -m exhaustive``
runs. With a stride that shares no factor with the lengths of the grid's axes, all values of each axis are covered.
``shifted=True`` begins elsewhere in each of several grids that have the same axis.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from device import DEVICE

if TYPE_CHECKING:
    from openai_server import Listen
    from seed_tools import Naive, Open
    from triton_child import Ask

    from treeagent.backends.seed.backend import SeedBackend

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker a core; torch reads it when it is imported


hypothesis.settings.register_profile("suite", max_examples=int(os.environ.get("TREEAGENT_EXAMPLES", "40")))
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--part K/N``: of the selected tests those of the part K; all N parts together are all tests."""
    parser.addoption("--part", type=_part, default=(0, 1), metavar="K/N", help="the part K, from 0, of N parts")


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdigit() and parts.isdigit() and int(number) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form K/N with K below N")
    return int(number), int(parts)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which part runs, so that a failure can be repeated."""
    number, parts = config.getoption("part")
    return None if parts == 1 else f"part {number} of {parts}: --part {number}/{parts}"


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases of sampled grids that the default run leaves out as exhaustive."""
    places: Counter[str] = Counter()
    for item in items:
        if sampled := item.get_closest_marker("sampled"):
            [every] = sampled.args
            grid = item.nodeid.partition("[")[0]
            first = zlib.crc32(grid.encode()) if sampled.kwargs.get("shifted") else 0
            if (places[grid] + first) % every:
                item.add_marker("exhaustive")
            places[grid] += 1
    number, parts = config.getoption("part")
    items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts == number]


def pytest_collection_finish() -> None:
    """What has been imported by now stays: it is not walked through again whenever garbage is collected."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """A YAML text is parsed, and the command line made, once a session: thousands of tests use the same ones."""
    import typer.testing

    from treeagent import yaml_text

    compose = yaml_text.compose
    # A copy each: who reads nodes mends them.
    known = lru_cache(maxsize=100)(lambda text, path: pickle.dumps(compose(text, path)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_text, "compose", lambda text, path: pickle.loads(known(text, path)))  # noqa: S301
        patch.setattr(typer.testing, "_get_command", lru_cache(maxsize=20)(typer.testing._get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> Iterator[None]:
    """Engines that measure this machine do so for a moment; what they store is not taken for the users' tables."""
    name = "treeagent.backends.seed.executor.profiler"
    with pytest.MonkeyPatch.context() as patch:
        if name in sys.modules:  # no test that was collected loads an engine otherwise
            patch.setattr(sys.modules[name], "ENOUGH", 0.1)
            patch.setattr(sys.modules[name], "QUICK", 0.02)
            patch.setattr(sys.modules[name], "COSTS", -1)
        yield


@pytest.fixture
def short_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of some tens of tokens have several tiles, and share beginnings."""
    from treeagent.backends.seed.executor import attention_tiles, shared_runs

    monkeypatch.setattr(attention_tiles, "KEYS", 32)
    monkeypatch.setattr(shared_runs, "LEAST", 8)


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


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """Starts servers of the protocol of the backend openai, which end with the test."""
    from openai_server import Server  # most tests need none

    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        yield lambda handler: stack.enter_context(Server(handler).listening())


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Ask]:
    """Asks a child in which Triton interprets its kernels; this process never does."""
    from triton_child import child

    with child(TRITON_INTERPRET="1") as ask:
        yield ask


NO_GPU = pytest.mark.skipif(not DEVICE.startswith("cuda"), reason="no GPU: TREEAGENT_TEST_DEVICE=cuda")


@pytest.fixture(params=["interpreter", pytest.param("gpu", marks=[pytest.mark.gpu, NO_GPU])])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Runs cases of Triton's kernels in the interpreter, and on a GPU where the tests have one."""
    if request.param == "interpreter":
        return request.getfixturevalue("interpreter")
    import triton_cases

    return lambda name, case: getattr(triton_cases, name)(case, DEVICE)
