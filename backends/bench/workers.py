"""One evaluation in one process, in shards and on Ray: ``python -m treeagent.backends.bench.workers``.

Runs the command ``treeagent eval`` five ways and compares the outcomes of all problems, their times left out: in one
process, in 4 shards that are merged, on 2 replicas on Ray, and on 2 replicas that are killed twice from outside.
Prints a line for each way as soon as it is known; exits with 1 where an outcome differs. ``seconds`` are those of the
evaluation without its start; processes of one way share the cores that the one process has.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

TIMES = ("seconds",)
"""Fields of an outcome that differ between two runs of one problem."""
SHARDS, REPLICAS = 4, 2


class Evaluations:
    """The command with its settings, and the folder of its results."""

    def __init__(self, words: Sequence[str], cores: int, folder: Path) -> None:
        self._words, self._cores, self._folder = words, cores, folder

    def run(self, name: str, *extra: str, processes: int = 1, deaths: int = 0) -> tuple[float, float]:
        """Seconds of an evaluation into the folder ``name``, and of its command from start to exit.

        ``processes`` share the cores. So often (``deaths``) a replica is killed while it runs. Raises
        CalledProcessError.
        """
        out = self._folder / name
        threads = max(1, self._cores // processes)
        command = [sys.executable, "-m", "treeagent", "eval", *self._words, "--quiet", "--json", "--out", str(out)]
        command += ["--set", f"backend.threads={threads}", *extra]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # no shell
        killer = threading.Thread(target=_kill_replicas, args=(process, out / "outcomes.jsonl", deaths), daemon=True)
        killer.start()
        text, _ = process.communicate()
        killer.join()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, text)
        return float(json.loads(text)["seconds"]), time.perf_counter() - began

    def merge(self, names: Sequence[str], to: str) -> None:
        """Join the outcomes of shards. Raises CalledProcessError."""
        folders = [str(self._folder / name) for name in names]
        command = [sys.executable, "-m", "treeagent", "merge", *folders, "--out", str(self._folder / to)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # no shell

    def outcomes(self, name: str) -> dict[int, dict[str, object]]:
        """The outcomes of a folder by problem, without times."""
        lines = (self._folder / name / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
        records = (json.loads(line) for line in lines)
        return {
            record["number"]: {key: value for key, value in record.items() if key not in TIMES}
            for record in records
            if "number" in record
        }


def _kill_replicas(process: subprocess.Popen[str], outcomes: Path, deaths: int) -> None:
    """Kill a replica of a running command after some outcomes, and again for each further death."""
    for number in range(1, deaths + 1):
        while process.poll() is None and _lines(outcomes) < 4 * number:
            time.sleep(0.05)
        replicas: list[int] = []
        while process.poll() is None and not replicas:
            replicas = _replicas()
            time.sleep(0.05)
        if replicas:
            os.kill(replicas[0], signal.SIGKILL)
            print(f"  killed a replica, process {replicas[0]}", flush=True)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _replicas() -> list[int]:
    """Processes of Ray on this machine that solve problems."""
    numbers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::Replica.solve"):
                numbers.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return sorted(numbers)


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="game24")
    parser.add_argument("--search", default="bfs")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    words = ["--task", chosen.task, "--search", chosen.search, "--backend", "seed", "--model", chosen.model]
    words += ["--limit", str(chosen.problems)]
    with tempfile.TemporaryDirectory() as folder:
        work = Evaluations(words, chosen.cores, Path(folder))
        seconds, whole = work.run("one")
        reference = work.outcomes("one")
        print(
            f"one process         {seconds:8.1f} s, {whole:8.1f} s with its start; {len(reference)} outcomes",
            flush=True,
        )
        equal = _report(work, "shards", reference, *_shards(work))
        ray = ("--workers", "ray", "--replicas", str(REPLICAS))
        equal &= _report(work, "ray", reference, *work.run("ray", *ray, processes=REPLICAS))
        equal &= _report(work, "killed", reference, *work.run("killed", *ray, processes=REPLICAS, deaths=2))
    return 0 if equal else 1


def _shards(work: Evaluations) -> tuple[float, float]:
    """Run all shards one after another and merge them; the seconds of all."""
    names = [f"shard{number}" for number in range(SHARDS)]
    runs = [work.run(name, "--shard", f"{number}/{SHARDS}") for number, name in enumerate(names)]
    work.merge(names, "shards")
    return sum(seconds for seconds, _ in runs), sum(whole for _, whole in runs)


def _report(
    work: Evaluations, name: str, reference: dict[int, dict[str, object]], seconds: float, whole: float
) -> bool:
    """Print a way's times and differences; whether there are none."""
    outcomes = work.outcomes(name)
    differ = sorted(n for n in reference.keys() | outcomes.keys() if reference.get(n) != outcomes.get(n))
    verdict = "all equal" if not differ else f"{len(differ)} differ: {differ[:10]}"
    print(f"{name:19} {seconds:8.1f} s, {whole:8.1f} s with its start; {verdict}", flush=True)
    return not differ


if __name__ == "__main__":
    sys.exit(main())
