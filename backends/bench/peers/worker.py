"""The process in which a peer runs: ``PYTHON worker.py SCRIPT``. It needs nothing but Python and what SCRIPT imports.

It speaks lines of JSON. The first line that it reads is the job: ``model`` (a path), ``dtype``, ``threads``,
``at_once`` (most prompts that come together), ``context`` (most tokens of a prompt and its completion), ``eos`` (token
ids that end a text) and ``options``. It replies with ``version``, once the model is loaded. Each further line asks for
a run: ``batches`` (lists of prompts, each a list of token ids) and ``max_tokens``. It replies with ``outputs`` (token
ids of each prompt in turn), ``seconds``, ``cpu_seconds`` and ``peak_bytes``, from a cold cache; or with ``error``.

SCRIPT defines ``open_peer(job)``, which returns an object with ``version``, ``reset()`` and
``complete(prompts, max_tokens)``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def reset_peak() -> bool:
    """Restart the count of peak resident memory; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Peak resident memory since :func:`reset_peak`, or since the process began; None where it is unknown."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def run(peer: Any, request: Json) -> Json:
    """One timed run."""
    peer.reset()
    known = reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    outputs = [tokens for batch in request["batches"] for tokens in peer.complete(batch, request["max_tokens"])]
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "outputs": outputs, "seconds": seconds, "cpu_seconds": cpu_seconds,
        "peak_bytes": peak_bytes() if known else None,
    }  # fmt: skip


def load(script: Path) -> Any:
    """The module of a peer, which must not see this folder's files as libraries."""
    spec = importlib.util.spec_from_file_location(f"peer_{script.stem}", script)
    if spec is None or spec.loader is None:
        raise ImportError(f"{script} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Serve one job until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines print on standard output
    sys.path.pop(0)

    def reply(content: Json) -> None:
        print(json.dumps(content), file=replies, flush=True)

    peer: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if peer is None:
                peer = load(Path(sys.argv[1])).open_peer(request)
                answer = {"version": peer.version, "load_peak_bytes": peak_bytes()}
            else:
                answer = run(peer, request)
        except Exception as error:  # noqa: BLE001  # a plug-in's boundary: a peer raises what its engine raises
            answer = {"error": f"{type(error).__name__}: {error}"}
        reply(answer)


if __name__ == "__main__":
    main()
