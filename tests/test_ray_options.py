"""``treeagent eval --workers ray`` without a cluster: options, resources, and what Ray prints."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.cli import app
from treeagent.errors import ConfigError
from treeagent.ray.cluster import connection
from treeagent.ray.pool import reserved_gpus

ray = pytest.importorskip("ray")
EVAL = ("eval", "--task", "game24", "--search", "bfs", "--quiet", "--backend", "seed", "--model", "mini")


def test_a_machine_on_which_ray_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray has no class of its own for a node that is not up in time."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(Exception("timed out\nduring startup")))
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # of the cluster of the other tests
    with (
        pytest.raises(ConfigError, match="Ray does not start on this machine: timed out during startup"),
        connection(None),
    ):
        pytest.fail("it has started")


def test_what_ray_prints_while_connected_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a thread of its own, and at the end, where it prints what it has held back."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: print("held back"))
    with connection(None):
        thread = threading.Thread(target=print, args=("(raylet) a worker died",))
        thread.start()
        thread.join()
    print("the report")
    assert capsys.readouterr() == ("the report\n", "(raylet) a worker died\nheld back\n")


@pytest.mark.parametrize(
    ("device", "there", "reserved"),
    [("cpu", 8, 0), ("cuda", 8, 1), ("cuda:1", 8, 2), ("cuda", 0, 1), (None, 2, 1), (None, 1, 0), (None, 0, 0)],
)
def test_the_options_of_a_backend_say_what_a_replica_reserves(device: str | None, there: int, reserved: int) -> None:
    """Here there is no such device; without a name replicas have GPUs where there is one for each of two."""
    options = {"threads": "3", **({"device": device} if device else {})}
    for backend in (SeedBackend.open("mini", options), TransformersBackend.open("mini", options)):
        assert backend.cpus == 3
        assert reserved_gpus([0.0, backend.gpus], 2, there) == reserved


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_of_the_replicas_is_not_looked_for_here(tmp_path: Path) -> None:
    """The cluster is asked for it; without replicas its lack is told before anything is written."""
    device = ("--backend", "seed", "--set", "backend.device=cuda")
    words = [*EVAL, *device, "--out", str(tmp_path / "out")]
    alone = ["solve", "--task", "game24", "--input", "4 5 6 10", *device, "--journal", str(tmp_path / "run.jsonl")]
    for here in (words, alone):
        done = CliRunner().invoke(app, here)
        assert done.exit_code == 2
        assert "device 'cuda' is not there" in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())
    there = CliRunner().invoke(app, [*words, "--workers", "ray:127.0.0.1:1"])
    assert "no Ray cluster answers" in " ".join(there.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--workers dask", "expected ray or ray:ADDRESS"),
        ("--workers ray:", "expected ray or ray:ADDRESS"),
        ("--workers ray:127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("--replicas 2", "only with --workers ray"),
    ],
)
def test_bad_options_are_one_line(words: str, message: str) -> None:
    """With exit code 2, and before anything is loaded."""
    done = CliRunner().invoke(app, [*EVAL, *words.split()])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
