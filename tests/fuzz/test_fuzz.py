"""Short runs of the fuzzer; ``python tests/fuzz/fuzz.py`` runs for as long as one likes.

The default run has its cases in this process: a worker of its own for each kind would import everything again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import files
import pytest
from fuzz import FIRST_CASE, SECONDS, run_case, supervise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treeagent import TreeagentError

CASES = {
    "tasks": 10, "journals": 10, "outcomes": 60, "data": 15, "completions": 6, "requests": 4, "replies": 8,
    "arguments": 8,
}  # fmt: skip
"""Cases of each kind in the default run, less than a second of each."""


@pytest.mark.parametrize("kind", CASES)
def test_mutations_end_cleanly_or_as_an_error_of_the_hierarchy(kind: str) -> None:
    """No case raises anything else, takes ten seconds of the processor, or a gibibyte."""
    limits = [FIRST_CASE, *[SECONDS] * (CASES[kind] - 1)]
    failures = [(seed, run_case(kind, seed, limit)) for seed, limit in enumerate(limits)]
    assert [failure for failure in failures if failure[1] is not None] == []


def test_a_worker_runs_its_cases() -> None:
    """The command's own way: all seeds are run and reported by a process that may be stopped."""
    failures: list[str] = []
    count = supervise(
        "outcomes", 0, CASES["outcomes"], None, lambda seed, text: failures.append(f"seed {seed}: {text}")
    )
    assert (count, failures) == (CASES["outcomes"], [])


@given(draw=st.randoms(note_method_calls=False))
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_hypothesis_finds_no_confused_completion(draw: Random) -> None:
    """The same case with random numbers of hypothesis, which shrinks what it finds."""
    with tempfile.TemporaryDirectory() as folder:
        files.completion_case(draw, Path(folder))


def test_the_fuzzer_reports_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that raises, and an error without a message, are failures; a clean error is none."""

    def raising(error: Exception) -> str | None:
        def case(_draw: Random, _folder: Path) -> None:
            raise error

        monkeypatch.setattr("fuzz.targets", lambda: {"outcomes": case})
        return run_case("outcomes", 0)

    assert "ZeroDivisionError" in (raising(ZeroDivisionError()) or "")
    assert "without a message" in (raising(TreeagentError("")) or "")
    assert raising(TreeagentError("the file is not one of ours")) is None
