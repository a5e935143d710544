"""What early requests gain on Game of 24 with the model mini, and the least time that is possible.

    python -m treeagent.backends.bench.early --out early.json

The part "simulated" needs no quiet machine: passes of an engine whose further rows cost --each of a pass, without
drafts, beside the longest chain of requests that depend on each other. The part "engine" measures seconds. What
--out holds already is not measured again. Exit codes: 0 all is measured; 4 the time was over; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from treeagent.errors import ConfigError, TreeagentError

from .cases import HANDS, OPTIONS

OPEN = 4
"""Exit code while something is open."""
SETTINGS: tuple[int | str, ...] = (0, "auto", 8)
"""Of ``speculate``, on the engine."""
Measure = Callable[[], dict[str, Any]]


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m treeagent.backends.bench.early",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("early.json"), help="file of results (default: early.json)")
    parser.add_argument("--budget", type=float, default=600.0, metavar="SECONDS", help="default: 600")
    parser.add_argument("--parts", default="simulated,engine", metavar="A,B", help="default: simulated,engine")
    parser.add_argument("--searches", default=",".join(OPTIONS), metavar="A,B", help=f"default: {','.join(OPTIONS)}")
    parser.add_argument("--each", default="0,0.1,0.3", metavar="SHARE,SHARE", help="default: 0,0.1,0.3")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of the engine's runs (default: 5)")
    parser.add_argument("--hands", type=int, default=len(HANDS), metavar="N", help=f"default: {len(HANDS)}")
    options = parser.parse_args(words)
    try:
        return _measure(options)
    except TreeagentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace) -> int:
    ends, rows = time.monotonic() + options.budget, _read(options.out)
    for name, measure in _steps(options):
        if name in rows:
            continue
        if time.monotonic() > ends:
            return OPEN
        rows[name] = measure()
        print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
        _write(options.out, rows)
    return 0


def _steps(options: argparse.Namespace) -> Iterator[tuple[str, Measure]]:
    """Names of measurements, and what makes them."""
    from ...seed.backend import SeedBackend  # noqa: PLC0415  # brings torch, which --help can do without
    from .engine_runs import EngineRuns  # noqa: PLC0415
    from .simulated_runs import SimulatedRuns  # noqa: PLC0415

    parts, names, hands = options.parts.split(","), options.searches.split(","), HANDS[: options.hands]
    if unknown := set(parts) - {"simulated", "engine"}:
        raise ConfigError(f"--parts {sorted(unknown)[0]}: expected simulated, engine or both")
    try:
        prices = [float(word) for word in options.each.split(",")]
    except ValueError:
        raise ConfigError(f"--each {options.each}: expected numbers, such as 0,0.1,0.3") from None
    if "simulated" in parts:
        simulated = SimulatedRuns(SeedBackend("mini", drafter="none"))
        for name in names:
            for each in prices:
                yield f"simulated {name} each={each:g}", partial(simulated.row, name, hands, "auto", each)
    if "engine" in parts:
        engine = EngineRuns(SeedBackend("mini"))
        for repeat in range(options.repeats):
            for name in names:
                for speculate in SETTINGS:
                    yield f"engine {name} speculate={speculate} {repeat}", partial(engine.row, name, hands, speculate)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_bytes())["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no file of this command ({error}); remove it, or give another --out") from error


def _write(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    try:
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps({"kind": "early", "rows": rows}, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
