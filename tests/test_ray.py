"""``treeagent eval --workers ray``: replicas on Ray give the outcomes of one process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.errors import ModelError
from treeagent.evaluation.outcomes import Outcome, read
from treeagent.evaluation.run import ProblemSolver
from treeagent.ray import EvaluateBatch
from treeagent.ray.pool import Pool
from treeagent.runtime.agent import Agent
from treeagent.taskfile.dataset import load as load_rows

ray = pytest.importorskip("ray")
cloudpickle = pytest.importorskip("ray.cloudpickle")
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


def rows() -> Any:
    """The first problem of game24."""
    return load_rows(Agent("game24", "bfs", backend="seed", model="mini").task, 0, 1, None)


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


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("kills", "deaths"), [(1, 1), (9, 2)])
def test_a_problem_is_booked_as_failed_after_two_deaths(tmp_path: Path, kills: int, deaths: int) -> None:
    """A replica that dies once is started anew, and the outcome is that of one process."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    agent, data = Agent("game24", "bfs", backend="seed", model="mini"), rows()
    marks = tmp_path / "marks"
    marks.mkdir()

    def build() -> Any:
        class Deadly(Agent):
            def with_seed(self, seed: int) -> Agent:
                count = len(list(marks.iterdir()))
                if count < kills:
                    (marks / str(count)).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().with_seed(seed)

        return Deadly("game24", "bfs", backend="seed", model="mini"), rows()

    with closing(Pool(ray, build, 1, cpus=1, gpus=0, at_once=1)) as pool:
        pool.load()
        outcome = asyncio.run(pool.solve(data.rows[0], tmp_path / "there", 0))
        assert (f"{deaths} died" in pool.state) == bool(deaths)
    if kills >= 2:
        assert outcome.error is not None
        assert "2 replicas died with this problem" in outcome.error
    else:
        here = asyncio.run(ProblemSolver(agent, data, tmp_path / "here").solve(data.rows[0]))
        assert replace(outcome, seconds=0.0) == replace(here, seconds=0.0)


@pytest.mark.usefixtures("cluster")
def test_a_replica_that_cannot_load_says_why() -> None:
    """In the line of its backend's error."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def build() -> Any:
        return Agent("game24", "bfs", backend="seed", model="/nowhere"), rows()

    with closing(Pool(ray, build, 1, cpus=1, gpus=0, at_once=1)) as pool:  # noqa: SIM117
        with pytest.raises(ModelError, match=r"replica 0 cannot load: .*nowhere"):
            pool.load()


def test_a_batch_has_the_answers_of_an_agent() -> None:
    """Columns of a batch go through, and the answers are those of ``solve``."""
    how = {"search": "bfs", "backend": "seed", "model": "mini"}
    inputs = ["4 9 10 13", "4 5 6 10", "no numbers"]
    batch = EvaluateBatch("game24", **how)({"input": inputs, "name": ["a", "b", "c"]})
    assert batch["name"] == ["a", "b", "c"]
    agent = Agent("game24", **how)
    assert batch["answer"][:2] == [agent.solve(text).answer for text in inputs[:2]]
    assert batch["error"][:2] == [None, None]
    assert batch["error"][2]


@pytest.mark.parametrize(
    ("workers", "message"),
    [("dask", "expected ray or ray:ADDRESS"), ("ray:127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1")],
)
def test_a_bad_address_is_one_line(workers: str, message: str) -> None:
    """With exit code 2, and before anything is loaded."""
    done = CliRunner().invoke(app, [*EVAL, "--workers", workers])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
