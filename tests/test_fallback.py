"""The default backend, and the one that runs in its place where it cannot run a model: plug-ins without a model."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from picky import FAILURES, REASON, Picky
from typer.testing import CliRunner

from treeagent import (
    Agent,
    Backend,
    ConfigError,
    Event,
    Key,
    ModelError,
    PluginError,
    Request,
    UnsupportedModelError,
)
from treeagent.cli import app
from treeagent.runtime import factory
from treeagent.runtime.fallback_backend import FallbackBackend
from treeagent.runtime.journal import recorded_run

INPUT = "4 9 10 13"
ENTRY_POINTS = "[treeagent.backends]\npicky = picky:Picky\nsteady = picky:Steady\n"


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are registered, and the first one is the default."""
    info = tmp_path_factory.mktemp("site") / "picky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: picky\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setattr(factory, "DEFAULT_BACKEND", "picky")
    monkeypatch.setattr(Picky, "answers", 0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of the logger."""
    return [record.getMessage() for record in caplog.records if record.name == "treeagent"]


def call(*words: str) -> Any:
    """A command in this process; anything but a documented exit is raised."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def header(path: Path) -> dict[str, Any]:
    """The settings in the first line of a journal or of an evaluation."""
    settings: dict[str, Any] = json.loads(path.read_text().splitlines()[0])["settings"]
    return settings


def asked(place: str) -> Request:
    """A request for steps."""
    return Request("Numbers: 4 5 6 10\n", Key(0, "propose", place))


def test_without_a_name_the_default_backend_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of a fallback, and the journal is that of a named backend."""
    result = Agent("game24").solve(INPUT, journal=tmp_path / "run.jsonl")
    named = Agent("game24", backend="picky").solve(INPUT, journal=tmp_path / "named.jsonl")
    assert result.solved
    assert Picky.answers == named.usage.calls + result.usage.calls
    assert result.settings["backend"] == {"name": "picky", "model": "mini", "options": {}}
    assert header(tmp_path / "run.jsonl") == header(tmp_path / "named.jsonl")
    assert said(caplog) == []


@pytest.mark.parametrize("model", ["round", "round-files"])
def test_a_model_that_it_cannot_run_runs_on_the_fallback(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its files show it or its load; one line says so, and the settings of a run have the reason."""
    agent = Agent("game24", model=model)
    for number in range(2):
        result = agent.solve(INPUT, journal=tmp_path / f"{number}.jsonl")
        assert result.solved
        ran = {"name": "steady", "model": model, "options": {}, "instead_of": {"name": "picky", "reason": REASON}}
        assert result.settings["backend"] == ran == header(tmp_path / f"{number}.jsonl")["backend"]
    assert Picky.answers == 0
    assert said(caplog) == [f"picky cannot run {model}: {REASON}; steady runs it"]
    assert agent.backend.name == "steady"


def test_a_named_backend_has_no_fallback() -> None:
    """Its error is the user's answer."""
    with pytest.raises(UnsupportedModelError, match="cannot run in picky"):
        Agent("game24", backend="picky", model="round").solve(INPUT)
    Agent("game24", backend="picky", model="round-files").solve(INPUT)  # files are looked at for the default alone


@pytest.mark.parametrize("model", FAILURES)
def test_no_other_error_leads_to_the_fallback(model: str, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file, a lack of memory, a fault and a wrong option are as they are with the backend named."""
    agent, named = Agent("game24", model=model), Agent("game24", backend="picky", model=model)
    for one in (agent, named):
        with pytest.raises((ModelError, PluginError, ConfigError), match="the disk is on fire") as raised:
            one.solve(INPUT)
        assert isinstance(raised.value, FAILURES[model] if model in ("damaged", "wrong") else PluginError)
        assert "the backend 'picky'" in str(raised.value) or not isinstance(raised.value, PluginError)
    assert said(caplog) == []
    assert header_of(agent) == header_of(named) | {"fallback": "steady"}


def header_of(agent: Agent) -> dict[str, Any]:
    """The backend in the settings of an agent."""
    settings: dict[str, Any] = agent.settings["backend"]
    return settings


def test_what_the_fallback_cannot_load_either_is_its_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing claims that it runs the model."""
    monkeypatch.setattr(Picky, "check_model", lambda _: refuse())
    with pytest.raises(ModelError, match="the model 'square' is square"):
        Agent("game24", model="square").solve(INPUT)
    assert said(caplog) == []


def refuse() -> None:
    """As a backend that cannot run any model."""
    raise UnsupportedModelError("no", REASON)


def test_an_option_that_only_the_default_has_is_not_dropped() -> None:
    """It works there; where the model needs the fallback, the error names both facts."""
    agent = Agent("game24", options={"backend.draft": "small"})
    assert agent.solve(INPUT).settings["backend"]["options"] == {"draft": "small"}
    with pytest.raises(UnsupportedModelError) as raised:
        Agent("game24", model="round", options={"backend.draft": "small"}).solve(INPUT)
    assert f"picky cannot run round: {REASON}" in str(raised.value)
    assert "steady cannot take its place with these options" in str(raised.value)
    assert "'draft'" in str(raised.value)


def test_an_option_that_only_the_fallback_has_is_an_error_that_names_it() -> None:
    """At once; an option that neither has is the default's error alone."""
    with pytest.raises(ConfigError, match=r"'max_batch'.*The backend 'steady' takes these options; name it"):
        Agent("game24", options={"backend.max_batch": "3"})
    with pytest.raises(ConfigError) as raised:
        Agent("game24", options={"backend.max_bach": "3"})
    assert "steady" not in str(raised.value)


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


@pytest.mark.parametrize("model", ["mini", "round"])
def test_requests_before_any_load_decide_together(model: str, caplog: pytest.LogCaptureFixture) -> None:
    """From several event loops at once, one of them after the other; the line comes once."""
    backend = factory.open_backend(None, model, {})
    assert isinstance(backend, FallbackBackend)
    texts: list[str] = []

    async def many() -> None:
        replies = await asyncio.gather(*(backend.generate(asked(str(place))) for place in range(4)))
        texts.extend(reply.completions[0].text for reply in replies)

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(many())
    expected = asyncio.run(Oracle().generate(asked("0"))).completions[0].text
    assert texts == [expected] * 16
    assert backend.name == ("picky" if model == "mini" else "steady")
    assert len(said(caplog)) == (model == "round")


def test_the_weights_of_the_first_are_freed_before_the_fallback_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of a large model would not fit."""
    alive: list[Any] = []
    monkeypatch.setattr(Picky, "ballast", lambda weights: alive.append(weakref.ref(weights)))
    seen: list[bool] = []
    opening = factory.open_backend

    def noted(name: Any, *how: Any) -> Backend:
        seen.extend(ref() is not None for ref in alive if name == "steady")
        return opening(name, *how)

    monkeypatch.setattr(factory, "open_backend", noted)
    gc.disable()  # a chance collection would hide it
    try:
        backend = opening(None, "round", {})
        backend.load()
        other = opening(None, "round", {})
        asyncio.run(other.aload())
    finally:
        gc.enable()
    assert len(seen) == 3  # once for the first load, twice for the second
    assert not any(seen)
    assert (backend.name, other.name) == ("steady", "steady")


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


def test_a_warning_holds_nothing_that_controls_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason may quote a model's configuration."""

    def refuse_loudly(_: Picky) -> None:
        raise UnsupportedModelError("no", "layers of kind \x1b[2J\n")

    monkeypatch.setattr(Picky, "check_model", refuse_loudly)
    factory.open_backend(None, "mini", {}).load()
    [line] = said(caplog)
    assert line.isprintable()


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
