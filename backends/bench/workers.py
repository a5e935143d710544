"""One evaluation in one process, in shards and on Ray: ``python -m treeagent.backends.bench.workers --out FOLDER``.

Runs the command ``treeagent eval`` in ways that share the same cores: in one process (``one``), in 4 shards one after
another that are merged (``shards``), in 2 shards side by side (``pair``), on 2 replicas on Ray (``ray``), and on 2
replicas of which one is killed twice from outside (``killed``). Prints a line for each way as soon as it is known, and
keeps it in FOLDER/workers.json: the same command goes on where it was ended. A way that was ended in the middle goes on
too, and has no time then; ``--again ray`` measures it anew.

``seconds`` are those of the evaluation; the start (imports, Ray, loading) is beside them. One process and two replicas
have equal cores but not equal batches and threads, so that their ratio holds more than what Ray costs; the ratio to the
pair of shards, whose processes are like replicas, holds Ray and the balance of the two alone.

Exits with 1 where an outcome differs, a command fails, or a replica was not killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .worker_ways import Evaluations, WayTimes

SHARDS, REPLICAS, DEATHS = 4, 2, 2
AT_ONCE = 16
"""Problems at one time, of all processes."""
WAYS = ("one", "shards", "pair", "ray", "killed")


def measure(work: Evaluations, way: str, cores: int) -> WayTimes:
    """The times of a way, from the record where it has ended before. Raises CalledProcessError."""
    ray = ("--workers", "ray", "--replicas", str(REPLICAS))
    half = (max(1, cores // REPLICAS), AT_ONCE // REPLICAS)
    if way == "one":
        return work.run(way, threads=cores, at_once=AT_ONCE)
    if way == "ray":
        return work.run(way, *ray, threads=half[0], at_once=AT_ONCE)
    if way == "killed":
        return work.run(way, *ray, threads=half[0], at_once=AT_ONCE, deaths=DEATHS)
    count = SHARDS if way == "shards" else REPLICAS
    shards = {f"{way}-{part}": ("--shard", f"{part}/{count}") for part in range(count)}
    if way == "shards":
        parts = [work.run(name, *words, threads=cores, at_once=AT_ONCE) for name, words in shards.items()]
        times = WayTimes.one_after_another(parts)
    else:
        times = WayTimes.side_by_side(work.run_together(shards, threads=half[0], at_once=half[1]))
    work.merge(list(shards), way)
    return times


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m treeagent.backends.bench.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the outcomes and of workers.json")
    parser.add_argument("--task", default="game24")
    parser.add_argument("--search", default="bfs")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--problems", type=int, default=100, help="the first so many (100)")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads of all processes (all cores)")
    parser.add_argument("--ways", default=",".join(WAYS), help="default: all, with one first")
    parser.add_argument("--again", default="", metavar="WAY,WAY", help="measure these anew")
    chosen = parser.parse_args(words)
    ways, again = chosen.ways.split(","), [name for name in chosen.again.split(",") if name]
    if unknown := sorted({*ways, *again} - {*WAYS}):
        parser.error(f"no way is called {unknown[0]!r}; the ways: {', '.join(WAYS)}")
    command = ["--task", chosen.task, "--search", chosen.search, "--backend", "seed", "--model", chosen.model]
    command += ["--limit", str(chosen.problems)]
    settings = {"command": command, "cores": chosen.cores}
    try:
        work = Evaluations(chosen.out, settings)
    except ValueError as error:
        parser.error(str(error))
    for way in again:
        work.forget(way)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a limit of time ends the commands too
    try:
        return _measure_all(work, ways, chosen.cores)
    except KeyboardInterrupt:
        print(f"ended; the same command goes on from {chosen.out}", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        print(f"failed with exit code {error.returncode}: {' '.join(error.cmd)}", file=sys.stderr)
        return 1


def _measure_all(work: Evaluations, ways: Sequence[str], cores: int) -> int:
    good, times = True, {}
    for way in ways:
        times[way] = measure(work, way, cores)
        differ = work.differing("one", way)
        missed = way == "killed" and times[way].deaths < DEATHS
        good &= not differ and not missed
        verdict = f"{len(differ)} differ from one: {differ[:10]}" if differ else "all equal"
        verdict += ", too few replicas were killed" if missed else ""
        print(f"{way:7} {times[way].text()}; {work.count(way)} outcomes, {verdict}", flush=True)
    for way in ("one", "pair"):
        ratio = times["ray"].over(times[way]) if {"ray", way} <= times.keys() else None
        if ratio is not None:
            print(f"ray over {way}: {ratio - 1:+.1%} beyond the start")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
