"""What requests that are sent early gain, and the least time that is possible.

    python -m treeagent.backends.bench.early --model smollm2 --parts engine,bound,neither,together --out early.json

"simulated" needs no quiet machine: passes of an engine whose further rows cost --each of a pass, without drafts, on
Game of 24 with the model mini, beside the longest chain of requests that depend on each other. The others measure
seconds of the engine: one problem at a time with early requests and without (engine), that chain and all requests at
once as if none needed another (bound), neither early requests nor drafts (neither), and --many problems at once
(together). What --out holds already is not measured again. Exit codes: 0 all is measured; 4 the time was over; 2 for
wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from treeagent.errors import ConfigError, TreeagentError

from ..options import add_budget, add_model, add_out, add_repeat, add_threads
from .cases import HANDS, OPTIONS, WORKLOADS, workload
from .steps import PARTS, Plan
from .summary import summary, table

OPEN = 4
"""Exit code while something is open."""
DEFAULT = "simulated,engine"
"""Parts that are measured where none are named."""


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    names = ",".join(OPTIONS)
    parser = argparse.ArgumentParser(
        prog="python -m treeagent.backends.bench.early",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_out(parser, "file of results, with which a later call goes on", "early.json")
    add_budget(parser, 600)
    add_model(parser, "mini", f"of the engine: {' or '.join(WORKLOADS)}")
    parser.add_argument("--parts", default=DEFAULT, metavar="A,B", help=f"of {','.join(PARTS)} (default: {DEFAULT})")
    parser.add_argument("--searches", default=names, metavar="A,B", help=f"some of them (default: {names})")
    parser.add_argument(
        "--each", default="0,0.1,0.3", metavar="SHARE,SHARE",
        help="what a further row of the simulated engine costs, in passes (default: 0,0.1,0.3)",
    )  # fmt: skip
    add_repeat(parser, 5, "runs of the engine")
    add_threads(parser)
    parser.add_argument(
        "--inputs", type=int, default=len(HANDS), metavar="N", help=f"problems one by one (default: {len(HANDS)})"
    )
    parser.add_argument("--many", type=int, default=24, metavar="N", help="problems at once (default: 24)")
    options = parser.parse_args(words)
    try:
        return _measure(options)
    except TreeagentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace) -> int:
    ends, held = time.monotonic() + options.budget, _read(options.out)
    rows, code = held["rows"], 0
    for name, measure in _plan(options).steps():
        if name in rows:
            continue
        if time.monotonic() > ends:
            code = OPEN
            break
        rows[name] = measure()
        print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
        _write(options.out, held, options.threads)
    print(table(rows))
    return code


def _plan(options: argparse.Namespace) -> Plan:
    try:
        prices = tuple(float(word) for word in options.each.split(","))
    except ValueError:
        raise ConfigError(f"--each {options.each}: expected numbers, such as 0,0.1,0.3") from None
    parts, searches = tuple(options.parts.split(",")), tuple(options.searches.split(","))
    return Plan(
        workload(options.model), parts, searches, prices, options.repeat, options.inputs, options.many, options.threads
    )


def _read(path: Path) -> dict[str, Any]:
    """What a file holds; its rows by name. Raises ConfigError."""
    if not path.exists():
        return {"kind": "early", "began": datetime.now(timezone.utc).isoformat(timespec="seconds"), "rows": {}}
    try:
        held = dict(json.loads(path.read_bytes()))
        held["rows"] = dict(held["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no file of this command ({error}); remove it, or give another --out") from error
    return held


def _write(path: Path, held: dict[str, Any], threads: int | None) -> None:
    import torch  # noqa: PLC0415  # --help can do without

    from ..results.record import machine  # noqa: PLC0415

    held |= {"machine": machine(threads, torch.device("cpu"), None), "summary": summary(held["rows"])}
    try:
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
