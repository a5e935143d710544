"""The table of moved modules in the change log."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

LOG = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()
ROWS = re.findall(r"^\| (`treeagent\..*?) \| (`treeagent\..*?) \|$", LOG, re.MULTILINE)


def resolves(path: str) -> bool:
    """Whether a dotted path names a module, or a class in one."""
    module, _, last = path.rpartition(".")
    return find_spec(module if last[0].isupper() else path) is not None


@pytest.mark.parametrize("now", [now for _, now in ROWS])
def test_the_new_paths_exist(now: str) -> None:
    """Every dotted path in the second column can be imported."""
    paths = re.findall(r"`(treeagent[\w.]+)`", now)
    assert paths
    assert all(resolves(path) for path in paths)
