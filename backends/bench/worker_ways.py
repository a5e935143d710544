"""Runs of ``treeagent eval`` in processes of their own, kept in a folder with what each took."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .host_load import HostLoad

TIMES = ("seconds",)
"""Fields of an outcome that differ between two runs of one problem."""
RECORD = "workers.json"


@dataclass(frozen=True, slots=True)
class WayTimes:
    """What a way took."""

    seconds: float | None
    """Of the evaluation without its start; None where it was ended in the middle and went on later."""
    whole: float
    """Of the command, from start to exit."""
    busy: float | None
    """Part of the time of all processors of the host in which some process ran, another one's included."""
    stolen: float | None
    """Part in which another guest of the same machine ran."""
    deaths: int = 0
    """Replicas that were killed."""

    @classmethod
    def one_after_another(cls, parts: Sequence[WayTimes]) -> WayTimes:
        """Of parts that ran one after another."""
        seconds = [part.seconds for part in parts]
        known = None if None in seconds else sum(each for each in seconds if each is not None)
        return cls(known, sum(part.whole for part in parts), _mean(parts, "busy"), _mean(parts, "stolen"))

    @classmethod
    def side_by_side(cls, parts: Sequence[WayTimes]) -> WayTimes:
        """Of parts that ran at the same time; the slowest counts."""
        seconds = [part.seconds for part in parts]
        known = None if None in seconds else max(each for each in seconds if each is not None)
        return cls(known, max(part.whole for part in parts), _mean(parts, "busy"), _mean(parts, "stolen"))

    def over(self, other: WayTimes) -> float | None:
        """The ratio of the seconds; None where one is unknown."""
        return None if self.seconds is None or not other.seconds else self.seconds / other.seconds

    def text(self) -> str:
        """In one line."""
        known = "no time, as it was continued" if self.seconds is None else f"{self.seconds:8.1f} s"
        start = "" if self.seconds is None else f", start {self.whole - self.seconds:5.1f} s"
        host = "" if self.stolen is None else f", host {self.busy:.0%} busy, {self.stolen:.1%} stolen"
        return f"{known}{start}{host}" + (f", {self.deaths} killed" if self.deaths else "")


def _mean(parts: Sequence[WayTimes], name: str) -> float | None:
    values = [getattr(part, name) for part in parts]
    return None if None in values else sum(values) / len(values)


class Evaluations:
    """The command with its settings, and the folder of its results."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """``settings`` has the words of the ``command``. Raises ValueError for a folder of other settings."""
        self._folder, self._path = folder, folder / RECORD
        self._words: list[str] = settings["command"]
        self._state: dict[str, Any] = {"settings": dict(settings), "runs": {}}
        self._writing = threading.Lock()
        if self._path.exists():
            self._state = json.loads(self._path.read_text(encoding="utf-8"))
            if self._state["settings"] != settings:
                raise ValueError(f"{self._path} is of other settings: {self._state['settings']}; give another --out")

    def run(self, name: str, *extra: str, threads: int, at_once: int, deaths: int = 0) -> WayTimes:
        """An evaluation into the folder ``name``, or what it took when it ran before.

        So often (``deaths``) a replica is killed while it runs: one, and then the one that takes its place. Raises
        CalledProcessError.
        """
        if name in self._state["runs"]:
            return WayTimes(**self._state["runs"][name])
        out = self._folder / name
        fresh = not out.exists()
        command = [sys.executable, "-m", "treeagent", "eval", *self._words, "--quiet", "--json", "--out", str(out)]
        command += ["--set", f"backend.threads={threads}", "--at-once", str(at_once), *extra]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        host, began = HostLoad.now(), time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
        killer = ReplicaKiller(process, out / "outcomes.jsonl", deaths, int(self._words[-1]))
        try:
            text, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.terminate()  # it keeps what it has
                process.wait()
            killer.join()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, text)
        whole, after = time.perf_counter() - began, HostLoad.now()
        busy, stolen = (None, None) if host is None or after is None else after.shares_since(host)
        times = WayTimes(json.loads(text)["seconds"] if fresh else None, whole, busy, stolen, killer.killed)
        self._keep(name, times)
        return times

    def run_together(self, shards: Mapping[str, Sequence[str]], *, threads: int, at_once: int) -> list[WayTimes]:
        """As :meth:`run`, all at the same time."""
        if any(name not in self._state["runs"] for name in shards):
            for name in shards:  # one that has ended before would leave the others alone on the host
                if (self._folder / name).exists():
                    self.forget(name)
        with ThreadPoolExecutor(len(shards)) as pool:
            running = [pool.submit(self.run, name, *words, threads=threads, at_once=at_once)
                       for name, words in shards.items()]  # fmt: skip
            return [each.result() for each in running]

    def forget(self, way: str) -> None:
        """Remove what a way, and its parts, have given."""
        for name in [name for name in self._names() if name == way or name.startswith(f"{way}-")]:
            shutil.rmtree(self._folder / name, ignore_errors=True)
            self._state["runs"].pop(name, None)
        self._write()

    def merge(self, names: Sequence[str], to: str) -> None:
        """Join the outcomes of shards. Raises CalledProcessError."""
        shutil.rmtree(self._folder / to, ignore_errors=True)
        folders = [str(self._folder / name) for name in names]
        command = [sys.executable, "-m", "treeagent", "merge", *folders, "--out", str(self._folder / to)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # no shell

    def count(self, name: str) -> int:
        """The number of outcomes of a way."""
        return len(self._outcomes(name))

    def differing(self, one: str, other: str) -> list[int]:
        """Problems whose outcomes differ, times left out."""
        left, right = self._outcomes(one), self._outcomes(other)
        return sorted(number for number in left.keys() | right.keys() if left.get(number) != right.get(number))

    def _outcomes(self, name: str) -> dict[int, dict[str, object]]:
        lines = (self._folder / name / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
        records = (json.loads(line) for line in lines)
        return {
            record["number"]: {key: value for key, value in record.items() if key not in TIMES}
            for record in records
            if "number" in record
        }

    def _names(self) -> list[str]:
        folders = [path.name for path in self._folder.iterdir() if path.is_dir()] if self._folder.exists() else []
        return sorted({*self._state["runs"], *folders})

    def _keep(self, name: str, times: WayTimes) -> None:
        with self._writing:
            self._state["runs"][name] = asdict(times)
            self._write()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._state, indent=1) + "\n", encoding="utf-8")
        part.replace(self._path)


class ReplicaKiller:
    """A thread that kills one replica of a running command again and again, spread over its problems."""

    def __init__(self, process: subprocess.Popen[str], outcomes: Path, deaths: int, problems: int) -> None:
        self.killed = 0
        self._process, self._outcomes = process, outcomes
        self._after = [problems * number // (deaths + 1) for number in range(1, deaths + 1)]
        self._thread = threading.Thread(target=self._kill, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for it; it ends with the command."""
        self._thread.join()

    def _kill(self) -> None:
        seen: set[int] = set()
        for count in self._after:
            while self._process.poll() is None and _lines(self._outcomes) <= count:  # the first line is no outcome
                time.sleep(0.05)
            chosen: list[int] = []
            while self._process.poll() is None and not chosen:
                time.sleep(0.05)
                there = replicas_of(self._process.pid)
                chosen = [number for number, solves in there.items() if solves and number not in seen]
            if not chosen:
                return
            seen.update(there)  # so that the next one is the one that takes its place
            os.kill(chosen[0], signal.SIGKILL)
            self.killed += 1


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def replicas_of(command: int) -> dict[int, bool]:
    """Processes of Ray's replicas whose ancestor is a command, by number, and whether they solve a problem now."""
    parents: dict[int, int] = {}
    replicas: dict[int, bool] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            title = (folder / "cmdline").read_bytes()
            if title.startswith(b"ray::Replica"):
                replicas[number] = title.startswith(b"ray::Replica.solve")
        except (OSError, IndexError):  # it has ended
            continue
    return {number: replicas[number] for number in sorted(replicas) if command in _ancestors(number, parents)}


def _ancestors(number: int, parents: Mapping[int, int]) -> set[int]:
    found: set[int] = set()
    while number in parents and number not in found:
        found.add(number)
        number = parents[number]
    return found
