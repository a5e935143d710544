"""Feed mutated files, completions, requests, replies and arguments to treeagent.

    python tests/fuzz/fuzz.py --seconds 3600            # all kinds in turn, on one core
    python tests/fuzz/fuzz.py tasks --count 10000       # seeds 0 to 9,999 of one kind
    python tests/fuzz/fuzz.py tasks --first 4711 --count 1

A case fails when it raises anything but the error hierarchy, takes over 10 seconds of the
processor or a minute in all, or grows the process by over 1 GiB.
Cases run in a worker process, which is stopped and started again when a case hangs. The command prints the seed of each
failure and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

SECONDS = 10.0
"""Time limit of a case, in seconds of the processor, which do not depend on what else the machine does."""
HANG = 60.0
"""Time limit of a case by the clock: one that takes longer waits for something that does not come."""
GROWTH = 1 << 30
"""Most bytes by which a case may raise the process's peak memory."""
FIRST_CASE = 60.0
"""Time limit of a worker's first case, which imports and loads what its kind needs."""


@cache
def targets() -> dict[str, Callable[[random.Random, Path], None]]:
    """The kinds of cases by name; each takes its own random numbers and an empty folder."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    import files
    import services

    return {
        "tasks": files.task_case,
        "journals": files.journal_case,
        "outcomes": files.outcomes_case,
        "data": files.data_case,
        "completions": files.completion_case,
        "requests": services.request_case,
        "replies": services.reply_case,
        "arguments": services.argument_case,
    }


def run_case(kind: str, seed: int, limit: float = SECONDS) -> str | None:
    """Run one case; its failure as text, None for a clean end or an error of the hierarchy in ``limit`` seconds."""
    from treeagent.errors import TreeagentError

    case = targets()[kind]
    before, began = _peak(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            case(random.Random(f"{kind} {seed}"), Path(folder))
        except TreeagentError as error:
            if not str(error).strip():
                return f"{type(error).__name__} without a message"
        except Exception:  # noqa: BLE001  the boundary that the command exists for
            return traceback.format_exc()
    if (grown := _peak() - before) > GROWTH:
        return f"memory grew by {grown >> 20} MiB"
    if (seconds := time.process_time() - began) > limit:
        return f"took {seconds:.1f} s"
    return None


def _peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def work(kind: str, first: int, count: int) -> None:
    """The worker: run cases in order and write a JSON line after each."""
    out = sys.stdout
    sys.stdout = sys.stderr  # what a case prints is no protocol
    for seed in range(first, first + count):
        failure = run_case(kind, seed, FIRST_CASE if seed == first else SECONDS)
        print(json.dumps({"seed": seed, "failure": failure}), file=out, flush=True)


def supervise(kind: str, first: int, count: int, until: float | None, report: Callable[[int, str], None]) -> int:
    """Run cases ``first`` to ``first + count`` in workers until a time; report each failure, return the cases run."""
    seed = first
    while seed < first + count and (until is None or time.monotonic() < until):
        seed = _one_worker(kind, seed, first + count - seed, until, report)
    return seed - first


def _one_worker(kind: str, first: int, count: int, until: float | None, report: Callable[[int, str], None]) -> int:
    """Run one worker until it ends or hangs; the seed to go on with."""
    command = [sys.executable, str(Path(__file__)), kind, "--worker", "--first", str(first), "--count", str(count)]
    seed = first
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        assert worker.stdout is not None
        ready = selectors.DefaultSelector()
        ready.register(worker.stdout, selectors.EVENT_READ)
        while seed < first + count and (until is None or time.monotonic() < until):
            if not ready.select(FIRST_CASE + HANG if seed == first else HANG):
                report(seed, "hangs")
                seed += 1
                break
            line = worker.stdout.readline()
            if not line:
                report(seed, f"the worker died with exit status {worker.wait()}")
                seed += 1
                break
            if (failure := json.loads(line)["failure"]) is not None:
                report(seed, failure)
            seed += 1
        worker.kill()
    return seed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="kinds of cases; default: all")
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--count", type=int, default=1_000_000, help="cases of each kind, at most")
    parser.add_argument("--seconds", type=float, help="time for all kinds together")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    kinds = chosen.kinds or list(targets())
    if unknown := set(kinds) - set(targets()):
        parser.error(f"no kind is called {sorted(unknown)}; kinds: {', '.join(targets())}")
    if chosen.worker:
        work(kinds[0], chosen.first, chosen.count)
        return 0
    failures = 0

    def report(seed: int, failure: str) -> None:
        nonlocal failures
        failures += 1
        print(f"-- {kind} seed {seed}\n{failure.rstrip()}", flush=True)

    began = time.monotonic()
    for place, kind in enumerate(kinds):
        until = None if chosen.seconds is None else began + chosen.seconds * (place + 1) / len(kinds)
        before = failures
        count = supervise(kind, chosen.first, chosen.count, until, report)
        print(f"{kind}: {count:,} cases from seed {chosen.first}, {failures - before} failures", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
