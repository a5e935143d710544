"""Modes of the benchmark that carry options of the engine in their names."""

from __future__ import annotations

import pytest

from treeagent.backends.bench.modes import OPTIONS, find
from treeagent.backends.seed.engine import SeedBackend
from treeagent.errors import ConfigError, UnknownNameError


def test_a_mode_of_the_engine_may_carry_options() -> None:
    """They reach the engine, decide whether a draft model is needed, and whether samples can be compared."""
    mode = find("seed@drafter=rsd-s:3x4@verify=recursive@draft_tokens=12")
    assert mode.options == {"drafter": "rsd-s:3x4", "verify": "recursive", "draft_tokens": 12}
    assert mode.drafts
    assert not mode.keyed
    assert find("seed-fcfs@drafter=ngram").options == {"policy": "fcfs", "drafter": "ngram"}
    assert find("seed@verify=coupled").keyed
    assert not find("seed@drafter=ngram").drafts


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("seed@draft_token=3", "Did you mean 'draft_tokens'"),
        ("seed@draft_tokens=many", "expected a number"),
        ("transformers-serial@policy=fcfs", "takes no options"),
        ("sed@policy=fcfs", "no mode"),
    ],
)
def test_an_option_of_a_mode_that_means_nothing_is_refused(name: str, reason: str) -> None:
    """Before anything is loaded."""
    with pytest.raises((ConfigError, UnknownNameError), match=reason):
        find(name)


def test_options_of_modes_are_options_of_the_engine() -> None:
    """Of the same types."""
    assert {name: SeedBackend.options[name] for name in OPTIONS} == dict(OPTIONS)
