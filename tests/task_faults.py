"""What tests of task files share: every problem of a text, and a checker that counts how often it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from treeagent import Checker, ConfigError, YamlTask

PATH = Path("own.yaml")


def faults(text: str, **how: Any) -> list[tuple[int | None, str, str]]:
    """Line, key and message of every problem of a file; each shows as file:line:key."""
    with pytest.raises(ConfigError) as caught:
        YamlTask(text, PATH, **how)
    for problem in caught.value.problems:
        assert str(problem).startswith("own.yaml:")
        assert problem.line is None or f"own.yaml:{problem.line}" in str(caught.value)
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


class Loud(Checker):
    """Counts how often it is made."""

    made = 0

    def __init__(self) -> None:
        Loud.made += 1
