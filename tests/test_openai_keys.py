"""The key of the backend ``openai``: named where it is refused, and nowhere to be read."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from failing_server import REQUEST, SECRET, Case
from failing_server import case as case  # noqa: PLC0414  the fixture
from openai_server import error

from treeagent.errors import ConfigError


def test_unauthorised_names_the_variable_and_never_the_key(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the server quotes it."""
    monkeypatch.setenv("MY_KEY", SECRET)
    refusal = error(401, f"Incorrect API key provided: {SECRET}, or sk-abcd****wxyz.")
    text = case.fails(refusal, key_variable="MY_KEY")
    assert case.server.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert "key_variable" in text
    assert "sk-" not in text


def test_the_key_is_nowhere_to_be_read(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in what a journal keeps, not in the object's own words, and not in the environment of anything else."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    backend = case.backend()
    asyncio.run(backend.generate(REQUEST))
    assert SECRET not in json.dumps(backend.describe()) + repr(backend) + str(backend.meter()()) + repr(REQUEST)
    assert backend.describe()["options"].get("key_variable") is None
    assert os.environ["OPENAI_API_KEY"] == SECRET


def test_a_variable_that_is_named_must_be_set(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default one may be missing, because local servers need none."""
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        case.backend(key_variable="NO_SUCH_KEY")
    case.ask()
    assert "authorization" not in case.server.asked[0].headers
    monkeypatch.setenv("NO_SUCH_KEY", "sk-ünïcode")
    with pytest.raises(ConfigError, match="control characters") as caught:
        case.backend(key_variable="NO_SUCH_KEY")
    assert "sk-" not in str(caught.value)
