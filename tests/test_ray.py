"""``treeagent eval --workers ray``: replicas on Ray give the outcomes of one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.evaluation.outcomes import Outcome, read

ray = pytest.importorskip("ray")
EVAL = (
    "eval",
    "--task",
    "game24",
    "--search",
    "bfs",
    "--backend",
    "seed",
    "--model",
    "mini",
    "--limit",
    "4",
    "--quiet",
)


@pytest.fixture(scope="session")
def cluster() -> Any:
    """Ray on this machine, once for all tests."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def outcomes(folder: Path, *words: str) -> dict[int, Outcome]:
    done = CliRunner().invoke(app, [*EVAL, "--out", str(folder), *words])
    assert done.exit_code == 0, done.output
    known = read(folder / "outcomes.jsonl")[1]
    return {number: replace(outcome, seconds=0.0) for number, outcome in known.items()}


@pytest.mark.usefixtures("cluster")
def test_two_replicas_have_the_outcomes_of_one_process(tmp_path: Path) -> None:
    """Apart from times."""
    here = outcomes(tmp_path / "here")
    assert outcomes(tmp_path / "there", "--workers", "ray", "--replicas", "2") == here


@pytest.mark.parametrize(
    ("workers", "message"),
    [("dask", "expected ray or ray:ADDRESS"), ("ray:127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1")],
)
def test_a_bad_address_is_one_line(workers: str, message: str) -> None:
    """With exit code 2, and before anything is loaded."""
    if ray.is_initialized() and workers.startswith("ray:"):
        ray.shutdown()
    done = CliRunner().invoke(app, [*EVAL, "--workers", workers])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
