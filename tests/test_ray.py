"""``treeagent eval --workers ray``: replicas on Ray give the outcomes of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deadly import Deadly
from ray_tools import EVAL, HANDS, MINI, environment, timeless
from ray_tools import hands as hands  # noqa: PLC0414  the fixture
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.errors import ConfigError, ModelError
from treeagent.evaluation.outcomes import Outcome, Outcomes, read
from treeagent.evaluation.run import Evaluation
from treeagent.ray import EvaluateBatch
from treeagent.ray.cluster import connection
from treeagent.ray.pool import Pool
from treeagent.runtime.agent import Agent
from treeagent.runtime.journal import read as read_journal
from treeagent.taskfile import dataset

ray = pytest.importorskip("ray")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine, once for all tests; its processes import the modules of this folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, address="local")
        yield
        ray.shutdown()


def build(hands: Path, log: Path, options: dict[str, str]) -> tuple[Agent, dataset.Data]:
    """What a replica makes in its process."""
    agent = Agent("game24", "bfs", backend=Deadly(None, {"log": str(log), **options}))
    return agent, dataset.load(agent.task, source=str(hands))


def evaluate(hands: Path, folder: Path, replicas: int, **options: str) -> tuple[dict[int, Outcome], str]:
    """All outcomes, on replicas or, where there are none, here; and the state of the replicas in the end."""
    folder.mkdir()
    log = folder / "log"
    agent, data = build(hands, log, options)
    with closing(Outcomes(folder / "outcomes.jsonl", {})) as store:
        if not replicas:
            Evaluation(agent, data, folder / "journals", store).execute()
            return timeless(store.known), ""
        pool = Pool(ray, lambda: build(hands, log, options), replicas, cpus=1, gpus=[0], at_once=4)
        with closing(pool):
            pool.load()
            work = Evaluation(agent, data, folder / "journals", store)
            work.elsewhere = lambda row: pool.solve(row, folder / "journals", 0)
            work.execute()
            return timeless(store.known), pool.state()


def command(folder: Path, *words: str) -> dict[int, Outcome]:
    """The outcomes of a call of the command."""
    done = CliRunner().invoke(app, [*EVAL, "--out", str(folder), *words])
    assert done.exit_code == 0, done.output
    return timeless(read(folder / "outcomes.jsonl")[1])


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
def test_two_replicas_have_the_outcomes_of_one_process(tmp_path: Path) -> None:
    """Apart from times; and limits reach the replicas."""
    words = (*MINI, "--max-tokens", "3000")
    here = command(tmp_path / "here", *words)
    assert command(tmp_path / "there", *words, "--workers", "ray", "--replicas", "2") == here
    assert {outcome.ended for outcome in here.values()} == {"tokens"}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_killed_from_outside_change_no_outcome(hands: Path, tmp_path: Path, replicas: int) -> None:
    """Twice in one evaluation; only the requests without an answer in a journal are repeated."""
    here, _ = evaluate(hands, tmp_path / "here", 0)
    there, state = evaluate(hands, tmp_path / "there", replicas, kill_at="9 21")
    assert there == here
    assert state == f"{replicas} of {replicas} replicas, 2 died"
    requests = Deadly.requests(tmp_path / "there" / "log")
    repeated = len(requests) - len(Deadly.requests(tmp_path / "here" / "log"))
    answered = sum(
        event.type == "completion"
        for file in (tmp_path / "there" / "journals").iterdir()
        for event in read_journal(file)
    )
    assert 2 <= repeated == len(requests) - answered < 21


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
def test_a_problem_that_ends_replicas_fails_alone(hands: Path, tmp_path: Path) -> None:
    """The first death is shared by all problems; the two after it are of the one problem."""
    here, _ = evaluate(hands, tmp_path / "here", 0)
    there, state = evaluate(hands, tmp_path / "there", 1, kill_on=HANDS[1])
    assert "2 replicas died with this problem" in str(there.pop(1).error)
    assert here.pop(1).error is None
    assert there == here
    assert state == "1 of 1 replicas, 3 died"


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
def test_the_other_replica_goes_on_where_one_cannot_load_again(hands: Path, tmp_path: Path) -> None:
    """Where none is left, the evaluation ends with the reason, and keeps what it has."""
    here, _ = evaluate(hands, tmp_path / "here", 0)
    there, state = evaluate(hands, tmp_path / "there", 2, kill_at="9", once="yes")
    assert there == here
    assert state == "1 of 2 replicas, 1 died"
    with pytest.raises(ModelError, match=r"no replica is left: replica 0 cannot load again: .*no memory"):
        evaluate(hands, tmp_path / "none", 1, kill_at="9", once="yes")
    assert list((tmp_path / "none" / "journals").iterdir())


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
def test_a_replica_that_cannot_load_says_why(tmp_path: Path) -> None:
    """One line of the command, with the error of the backend."""
    done = CliRunner().invoke(
        app, [*EVAL, "--backend", "deadly:Deadly", "--allow-code", "--limit", "2", "--workers", "ray",
              "--set", f"backend.log={tmp_path / 'log'}", "--set", f"backend.only={os.getpid()}"]
    )  # fmt: skip
    assert done.exit_code not in (0, 1)
    assert "replica 0 cannot load: " in " ".join(done.output.split())
    assert "there is no memory left" in " ".join(done.output.split())


@pytest.mark.usefixtures("cluster")
def test_more_replicas_than_the_cluster_holds_are_refused() -> None:
    """At once, rather than waiting for machines that never come."""
    with pytest.raises(ConfigError, match="need 6 CPUs, but the cluster has 2"):
        Pool(ray, lambda: None, 3, cpus=2, gpus=[0], at_once=1)  # type: ignore[arg-type, return-value]


@pytest.mark.usefixtures("cluster")
def test_replicas_that_wait_for_others_on_the_cluster_are_told_of() -> None:
    """What they lack is in one line; they start when it is free."""

    @ray.remote(num_cpus=1)
    class Other:
        def ready(self) -> bool:
            return True

    def pool(replicas: int) -> Pool:
        return Pool(ray, lambda: None, replicas, cpus=1, gpus=[0], at_once=1)  # type: ignore[arg-type, return-value]

    other = Other.remote()  # type: ignore[attr-defined]
    assert ray.get(other.ready.remote())
    with closing(pool(2)) as waiting:
        assert waiting.shortage == "2 CPUs, of which 1 are free"
    ray.kill(other)


@pytest.mark.usefixtures("cluster")
def test_another_address_than_that_of_the_connection_is_refused() -> None:
    """Where this process is connected already; its own address, in whichever form, is taken."""
    address = ray.get_runtime_context().gcs_address
    port = address.rpartition(":")[2]
    for same in (None, "auto", address, f"localhost:{port}"):
        with connection(same) as joined:
            assert joined.is_initialized()
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        for wrong in (place, f"ray://{place}"):
            message = f"connected to Ray at {address} already, not at {wrong}"
            with pytest.raises(ConfigError, match=message), connection(wrong):
                pytest.fail("it was taken")
    assert ray.is_initialized()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
def test_a_running_cluster_is_joined_by_its_address(hands: Path, tmp_path: Path) -> None:
    """By a process that has not begun it; the replicas serve all repeats."""
    address = ray.get_runtime_context().gcs_address
    words = [
        sys.executable, "-m", "treeagent", *EVAL, "--backend", "helpers:Oracle", "--allow-code", "--data", str(hands),
        "--workers", f"ray:{address}", "--repeats", "2", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for file in ("outcomes.jsonl", "repeats/2/outcomes.jsonl"):
        outcomes = read(tmp_path / "out" / file)[1].values()
        assert [outcome.right for outcome in outcomes] == [True] * len(HANDS)
    words[words.index(f"ray:{address}")] = "ray:127.0.0.1:1"
    again = CliRunner().invoke(app, words[3:])
    assert again.exit_code == 0, "Ray was needed where nothing is left to solve"


@pytest.mark.exhaustive
def test_a_batch_has_the_answers_of_an_agent() -> None:
    """Columns of a batch go through, and the answers are those of ``solve``."""
    how: dict[str, Any] = {"search": "bfs", "backend": "seed", "model": "mini"}
    inputs = ["4 9 10 13", "4 5 6 10", "no numbers"]
    batch = EvaluateBatch("game24", **how)({"input": inputs, "name": ["a", "b", "c"]})
    assert batch["name"] == ["a", "b", "c"]
    agent = Agent("game24", **how)
    assert batch["answer"][:2] == [agent.solve(text).answer for text in inputs[:2]]
    assert batch["error"][:2] == [None, None]
    assert batch["error"][2]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("cluster")
def test_a_pipeline_of_ray_data_has_the_answers_of_an_agent(tmp_path: Path) -> None:
    """In two actors, with null where an input is bad."""
    pytest.importorskip("pandas")  # ray[data]
    from ray import data

    how: dict[str, Any] = {"task": "game24", "search": "bfs", "backend": Deadly(None, {"log": str(tmp_path / "log")})}
    inputs = [*HANDS, "no numbers"]
    solved = data.from_items([{"input": text, "name": text[:3]} for text in inputs]).map_batches(
        EvaluateBatch, fn_constructor_kwargs=how, concurrency=2, batch_size=2, num_cpus=0.5
    )
    rows = {row["input"]: row for row in solved.take_all()}
    agent = Agent(**how)
    for text in HANDS:
        answer = agent.solve(text)
        assert rows[text] == {
            "input": text, "name": text[:3], "answer": answer.answer, "solved": answer.solved, "error": None
        }  # fmt: skip
    assert (rows["no numbers"]["answer"], rows["no numbers"]["solved"]) == (None, None)
    assert rows["no numbers"]["error"]
