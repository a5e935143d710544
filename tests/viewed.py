"""A journal, and the page that ``treeagent view`` makes of it, as its scripts read it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ORACLE, call

from treeagent.runtime.journal import read
from treeagent.viewer.run_data import run_data


def load(path: Path) -> Any:
    """The run of a journal."""
    return run_data(read(path), path.name)


def data(html: str, id: str) -> Any:
    """A block of data as the page reads it."""
    [block] = re.findall(rf'<script type="application/json" id="{id}">(.*?)</script>', html, re.DOTALL)
    return json.loads(block)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(path))
    return path
