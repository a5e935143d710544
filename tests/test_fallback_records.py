"""What settings, journals, bills and resumed runs have of a backend that ran in the default's place."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from fallback_tools import INPUT, call, header
from fallback_tools import _installed as _installed  # noqa: PLC0414  the fixture
from picky import REASON, Picky

from treeagent import (
    Agent,
    Event,
)
from treeagent.runtime.journal import recorded_run


@pytest.mark.parametrize(
    ("model", "judge", "ran", "judged"),
    [
        ("mini", "round", "picky", "steady"),
        ("round", "other", "steady", "picky"),
        ("round", "round-files", "steady", "steady"),
    ],
)
def test_each_of_two_models_has_the_backend_that_can_run_it(
    model: str, judge: str, ran: str, judged: str, tmp_path: Path
) -> None:
    """The evaluator's too; a resumed run opens the same two."""
    journal = tmp_path / "run.jsonl"
    agent = Agent("game24", model=model, evaluator_model=judge)
    settings = agent.solve(INPUT, journal=journal).settings
    assert [settings[key]["name"] for key in ("backend", "evaluator_model")] == [ran, judged]
    assert [settings[key]["model"] for key in ("backend", "evaluator_model")] == [model, judge]
    for key, name in (("backend", ran), ("evaluator_model", judged)):
        assert ("instead_of" in settings[key]) == (name == "steady")
    again, _ = Agent.from_journal(journal)
    assert (again.backend.name, again.backend.model) == (ran, model)
    assert (again.judging.name, again.judging.model) == (judged, judge)
    assert again.settings == settings


def test_two_models_on_the_default_are_recorded_as_with_a_named_one(tmp_path: Path) -> None:
    """The evaluator's model by its name."""
    settings = Agent("game24", evaluator_model="other").solve(INPUT, journal=tmp_path / "run.jsonl").settings
    assert settings["evaluator_model"] == "other"
    again, _ = Agent.from_journal(tmp_path / "run.jsonl")
    assert (again.backend.name, again.judging.name, again.judging.model) == ("picky", "picky", "other")


def test_resume_uses_the_backend_of_the_journal_and_keeps_the_reason(tmp_path: Path) -> None:
    """Whatever could run the model today."""
    journal = tmp_path / "run.jsonl"
    words = ["--task", "game24", "--model", "round", "--input", INPUT, "--journal", str(journal), "-q"]
    assert call("solve", *words, "--max-calls", "3").exit_code == 1
    result = call("resume", str(journal), "--max-calls", "500", "-q")
    assert result.exit_code == 0
    assert f"backend steady, model round, as picky cannot run it: {REASON}" in result.stdout
    assert Picky.answers == 0
    end = json.loads(journal.read_text().splitlines()[-1])
    assert end["settings"]["backend"]["instead_of"] == {"name": "picky", "reason": REASON}
    old = tmp_path / "old.jsonl"  # of the time before, when the fallback was the default
    Agent("game24", backend="steady").solve(INPUT, journal=old)
    assert Agent.from_journal(old)[0].backend.name == "steady"


def test_a_run_that_ended_while_the_model_was_loaded_can_be_resumed(tmp_path: Path) -> None:
    """Its journal says that nothing was decided, so that the fallback still counts."""
    journal = tmp_path / "run.jsonl"
    agent = Agent("game24", model="slow")

    async def interrupted() -> str:
        run = agent.run(INPUT, journal=journal)
        asyncio.get_running_loop().call_soon(run.stop)
        return (await run.result()).ended

    assert asyncio.run(interrupted()) == "interrupted"
    assert recorded_run(journal).settings.backend.fallback == "steady"
    journal.write_text(journal.read_text().replace('"slow"', '"round"'))
    again, text = Agent.from_journal(journal)
    result = asyncio.run(again.run(text, journal=journal, resume=True).result())
    assert result.solved
    assert result.settings["backend"]["instead_of"]["reason"] == REASON


def test_the_line_of_another_backend_does_not_open_the_default(tmp_path: Path) -> None:
    """A journal that was edited names what it names."""
    journal = tmp_path / "run.jsonl"
    Agent("game24", backend="steady").solve(INPUT, journal=journal)
    journal.write_text(journal.read_text().replace('"name": "steady",', '"name": "steady", "fallback": "x",', 1))
    assert Agent.from_journal(journal)[0].backend.name == "steady"


def test_the_bill_names_the_backend_that_ran(tmp_path: Path) -> None:
    """``solve`` in its text and its JSON; control characters of a model's files do not reach the terminal."""
    words = ["solve", "--task", "game24", "--input", INPUT, "-q"]
    assert "\nbackend picky, model mini\n" in call(*words).stdout
    fallen = call(*words, "--model", "round")
    assert f"\nbackend steady, model round, as picky cannot run it: {REASON}\n" in fallen.stdout
    settings = json.loads(call(*words, "--model", "round", "--evaluator-model", "mini", "--json").stdout)["settings"]
    assert settings["backend"]["instead_of"] == {"name": "picky", "reason": REASON}
    assert (
        "evaluator's backend picky, model mini" in call(*words, "--model", "round", "--evaluator-model", "mini").stdout
    )
    named = call(*words, "--model", "round", "--backend", "picky")
    assert named.exit_code == 3
    assert "Error: the model cannot run in picky" in named.stderr


def test_eval_names_the_backend_and_continues_its_folder_with_it(tmp_path: Path) -> None:
    """Also a folder whose backend was the default of another time; a changed reason is no other evaluation."""
    data = tmp_path / "hands.txt"
    data.write_text(f"{INPUT}\n4 5 6 10\n")
    out = tmp_path / "out"
    words = ["eval", "--task", "game24", "--data", str(data), "--model", "round", "--out", str(out), "--quiet"]
    first = call(*words, "--limit", "2")
    assert first.exit_code == 0, first.output
    assert f"backend steady, model round, as picky cannot run it: {REASON}" in first.stdout
    again = call(*words, "--limit", "2", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["settings"]["backend"]["instead_of"]["reason"] == REASON
    assert header(out / "outcomes.jsonl")["backend"]["instead_of"]["name"] == "picky"
    assert header(out / "journals" / "000000.jsonl")["backend"]["name"] == "steady"
    assert call(*words, "--limit", "2", "--backend", "steady").exit_code == 0
    other = call(*words, "--limit", "2", "--backend", "helpers:Oracle")
    assert other.exit_code == 2
    assert "its backend.name is 'steady'" in other.stderr
    assert Picky.answers == 0


def test_events_begin_with_settings_that_hold(tmp_path: Path) -> None:
    """The first line is written after the load, which decides what it says."""
    events: list[Event] = []
    Agent("game24", model="round").solve(INPUT, on_event=events.append)
    assert events[0].type == "run"
    assert events[0].data["settings"]["backend"]["name"] == "steady"
    assert "fallback" not in events[0].data["settings"]["backend"]
