"""The default backend, and the one that runs in its place where it cannot run a model."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from fallback_tools import INPUT, asked, header, header_of, refuse, said
from fallback_tools import _installed as _installed  # noqa: PLC0414  the fixture
from helpers import Oracle
from picky import FAILURES, REASON, Picky

from treeagent import (
    Agent,
    Backend,
    ConfigError,
    ModelError,
    PluginError,
    UnsupportedModelError,
)
from treeagent.runtime import factory
from treeagent.runtime.fallback_backend import FallbackBackend


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


def test_what_the_fallback_cannot_load_either_is_its_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing claims that it runs the model."""
    monkeypatch.setattr(Picky, "check_model", lambda _: refuse())
    with pytest.raises(ModelError, match="the model 'square' is square"):
        Agent("game24", model="square").solve(INPUT)
    assert said(caplog) == []


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
