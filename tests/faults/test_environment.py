"""Where a process runs: forked from another, without a home, with a cache that cannot be written."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tiny_model import save_tiny_model

from treeagent import ModelError
from treeagent.backends.local import model_thread
from treeagent.backends.models import catalog
from treeagent.backends.seed.backend import SeedBackend


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_runs_models_in_a_thread_of_its_own() -> None:
    """The parent's thread does not exist there; waiting for it would never end."""
    assert model_thread.run(lambda: 1) == 1
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a process that hangs
        code = 1
        try:
            code = model_thread.run(lambda: 42)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    assert model_thread.run(lambda: 2) == 2


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container without an entry, and no variable that names a folder."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("TREEAGENT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_runs_models(tmp_path: Path) -> None:
    """Pass times are measured and not stored; what is fetched has no place, and the error says where it would go."""
    SeedBackend(str(save_tiny_model(tmp_path))).load()
    assert not (Path.cwd() / "~").exists()
    with pytest.raises(ModelError, match="cannot write the model 'smollm2' to /dev/null/treeagent/smollm2"):
        catalog.fetch("smollm2")


@pytest.mark.parametrize("kind", ["a file in its place", "a file below it", "a folder for the table"])
def test_a_cache_that_cannot_be_written_costs_a_measurement_only(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is left as it is."""
    cache = tmp_path / "cache"
    model = str(save_tiny_model(tmp_path / "model"))
    monkeypatch.setenv("TREEAGENT_CACHE", str(cache))
    if kind != "a file in its place":
        monkeypatch.setenv("TREEAGENT_KERNELS", "off")  # they would be compiled for this folder
    if kind == "a file in its place":
        cache.write_text("")
    elif kind == "a file below it":
        cache.mkdir()
        (cache / "costs").write_text("")
    else:
        SeedBackend(model).load()
        [table] = (cache / "costs").iterdir()
        table.unlink()
        table.mkdir()
        (table / "kept").write_text("")
    SeedBackend(model).load()
    SeedBackend(model).load()
    assert {path.name for path in tmp_path.rglob("*") if path.suffix.lstrip(".").isdigit()} == set()  # no parts
