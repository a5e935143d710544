"""Two registered backends, one of which cannot run every model, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from picky import REASON, Picky
from typer.testing import CliRunner

from treeagent import (
    Agent,
    Key,
    Request,
    UnsupportedModelError,
)
from treeagent.cli import app
from treeagent.runtime import factory

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


def header_of(agent: Agent) -> dict[str, Any]:
    """The backend in the settings of an agent."""
    settings: dict[str, Any] = agent.settings["backend"]
    return settings


def refuse() -> None:
    """As a backend that cannot run any model."""
    raise UnsupportedModelError("no", REASON)
