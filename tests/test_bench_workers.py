"""``python -m treeagent.backends.bench.workers``: what is kept, what is compared, and what is measured anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from treeagent.backends.bench import workers
from treeagent.backends.bench.host_load import HostLoad
from treeagent.backends.bench.worker_ways import RECORD, Evaluations, WayTimes

SETTINGS = {"command": ["--limit", "3"], "cores": 2}


def outcomes(folder: Path, *answers: str, seconds: float = 1.0) -> None:
    """A file of outcomes as eval writes it."""
    folder.mkdir(parents=True)
    lines = [{"type": "eval"}, *({"number": n, "answer": text, "seconds": seconds} for n, text in enumerate(answers))]
    (folder / "outcomes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_outcomes_are_compared_without_their_times(tmp_path: Path) -> None:
    """A problem that one of them lacks differs."""
    outcomes(tmp_path / "one", "a", "b", "c")
    outcomes(tmp_path / "ray", "a", "b", "c", seconds=9.0)
    outcomes(tmp_path / "killed", "a", "x")
    work = Evaluations(tmp_path, SETTINGS)
    assert work.differing("one", "ray") == []
    assert work.differing("one", "killed") == [1, 2]


def test_what_has_ended_is_kept_and_can_be_forgotten(tmp_path: Path) -> None:
    """With the parts of a way; a folder of other settings is refused."""
    times = {"seconds": 2.0, "whole": 3.0, "busy": 0.5, "stolen": 0.0, "deaths": 0}
    runs = {"one": times, "pair-0": times, "pair-1": times}
    (tmp_path / RECORD).write_text(json.dumps({"settings": SETTINGS, "runs": runs}))
    work = Evaluations(tmp_path, SETTINGS)
    assert work.run("one", threads=2, at_once=16) == WayTimes(2.0, 3.0, 0.5, 0.0)
    work.forget("pair")
    assert json.loads((tmp_path / RECORD).read_text())["runs"] == {"one": times}
    with pytest.raises(ValueError, match="of other settings"):
        Evaluations(tmp_path, {**SETTINGS, "cores": 4})


def test_times_of_parts_are_joined() -> None:
    """One after another they add up, side by side the slowest counts, and unknown stays unknown."""
    parts = [WayTimes(2.0, 5.0, 0.5, 0.1), WayTimes(4.0, 6.0, 1.0, 0.3)]
    assert WayTimes.one_after_another(parts) == WayTimes(6.0, 11.0, 0.75, 0.2)
    assert WayTimes.side_by_side(parts) == WayTimes(4.0, 6.0, 0.75, 0.2)
    continued = WayTimes(None, 5.0, None, None)
    assert WayTimes.one_after_another([*parts, continued]).seconds is None
    assert continued.over(parts[0]) is None
    assert parts[1].over(parts[0]) == 2.0
    assert "no time" in continued.text()


def test_time_that_another_guest_took_is_told(tmp_path: Path) -> None:
    """As a share of all time of the processors since; None on a system that does not tell."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    before = HostLoad.now(stat)
    stat.write_text("cpu  140 0 60 830 50 0 0 20 0 0\n")
    after = HostLoad.now(stat)
    assert before is not None
    assert after is not None
    assert after.shares_since(before) == (0.5, 0.2)
    assert HostLoad.now(tmp_path / "none") is None


@pytest.mark.exhaustive
def test_a_second_call_goes_on_where_the_first_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In processes of their own; what was ended in the middle goes on, without a time."""
    words = ["--out", str(tmp_path), "--problems", "2", "--ways", "one,pair", "--cores", "2"]
    assert workers.main(words) == 0
    first = json.loads((tmp_path / RECORD).read_text())["runs"]
    assert workers.main(words) == 0
    assert json.loads((tmp_path / RECORD).read_text())["runs"] == first
    del first["one"]
    (tmp_path / RECORD).write_text(json.dumps({**json.loads((tmp_path / RECORD).read_text()), "runs": first}))
    assert workers.main(words) == 0
    assert json.loads((tmp_path / RECORD).read_text())["runs"]["one"]["seconds"] is None
    assert "all equal" in capsys.readouterr().out
