"""The public data sets, where they are: in $TREEAGENT_SHARED, or in the folder ``shared`` beside the checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("TREEAGENT_SHARED") or Path(__file__).parents[2] / "shared")


def shared(path: str) -> Path:
    """A file or folder below ``shared/data``; the test is skipped where it is absent."""
    found = SHARED / "data" / path
    if not found.exists():
        pytest.skip(f"{found} is not there; $TREEAGENT_SHARED names the folder of the public data sets")
    return found


def rows(path: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in shared(path).read_text(encoding="utf-8").splitlines()]
