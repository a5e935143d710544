"""The engine behind a server: what the measurement counts as left over."""

from __future__ import annotations

import pytest

from treeagent import Agent, Budget
from treeagent.backends.bench import served
from treeagent.backends.seed.backend import SeedBackend


def test_clients_that_leave_leave_nothing_in_the_engine() -> None:
    """Answers are those of the agent alone, and no key or value is lost or referred to."""
    assert served.main(["--clients", "8", "--leaving", "0.5", "--calls", "3", "--seeds", "2"]) == 0


def test_clients_that_wait_too_long_end_the_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, and the server ends with what still runs."""
    assert served.main(["--clients", "2", "--leaving", "0", "--calls", "2", "--limit", "0.001"]) == 1
    assert capsys.readouterr().out == "not all of 2 clients had their answers within 0.001 s\n"


def test_what_a_request_forgot_is_seen() -> None:
    """A text that is still referred to, and slots that nobody knows."""
    backend = SeedBackend("mini")
    Agent("game24", "io", backend=backend, budget=Budget(calls=1)).solve("4 9 10 13")
    assert not served.held_memory(backend).leaks
    assert backend.core.parts is not None
    forest = backend.core.parts.scheduler.runner.forest
    node = next(forest.nodes())
    forest.retain(node)
    assert served.held_memory(backend).references == 1
    forest.release(node, keep=True)
    assert not served.held_memory(backend).leaks
    forest.pool.allocate(2)
    assert served.held_memory(backend).lost == 2
