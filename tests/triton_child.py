"""A child process that answers questions of the fixtures ``interpreter`` and ``ask`` with :mod:`triton_cases`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import triton_cases

Ask = Callable[[str, Any], dict[str, Any]]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no triton: pip install triton")


@contextmanager
def child(**environment: str) -> Iterator[Ask]:
    """Asks a child process, which ends with the block."""
    around = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(Path(triton_cases.__file__))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=around
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(name: str, argument: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps([name, argument]) + "\n")
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            assert "traceback" not in answer, answer["traceback"]
            return answer

        yield ask
        process.stdin.close()
