"""Measure on one GPU what the documents need, within a budget of time, and go on where an earlier run ended.

    python -m treeagent.backends.bench.gpu --budget 600

Writes gpu.json, the state of every measurement, and a file for each of them into --out; "python tests/test_results.py"
fills the pages from them. Run it again to measure what is open. Exit codes: 0 all is measured; 4 something is open or
failed; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from treeagent.errors import ConfigError, TreeagentError

from ..options import add_budget, add_device, add_max_tokens, add_model, add_out
from .session import DONE, GpuSession
from .steps import GpuOptions, gpu_steps

OPEN = 4
"""Exit code while something is open."""


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m treeagent.backends.bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_budget(parser, 600)
    add_out(parser, "folder of the results, with which a later call goes on", "docs/results")
    parser.add_argument(
        "--scratch", type=Path, metavar="PATH", help="folder for the widened checkpoint, 13 GiB (default: --out)"
    )
    add_device(parser, "cuda")
    add_model(parser, "smollm2", "the small model: smollm2, mini or a folder")
    parser.add_argument(
        "--like", default="llama-7b", metavar="SHAPE", help="shape of the widened model (default: llama-7b)"
    )
    parser.add_argument("--workload", default="game24", help="prompts of treeagent bench (default: game24)")
    parser.add_argument(
        "--branches", default="1,4,16,64", metavar="N,N", help="prompts that are live at once (default: 1,4,16,64)"
    )
    add_max_tokens(parser, 64)
    parser.add_argument(
        "--dtypes", default="bfloat16,float32", metavar="A,B", help="numbers of the weights (default: bfloat16,float32)"
    )
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="names of measurements; default: all")
    parser.add_argument("--again", action="store_true", help="measure anew what is measured already")
    parser.add_argument("--list", action="store_true", help="show the state of every measurement, and measure nothing")
    for name in ("--passes", "--trees", "--dtype"):  # one measurement, in a process of its own
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    try:
        return _one(options) if options.passes or options.trees else _all(options)
    except TreeagentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _all(options: argparse.Namespace) -> int:
    try:
        branches = tuple(int(word) for word in options.branches.split(","))
    except ValueError:
        raise ConfigError(f"--branches {options.branches}: expected whole numbers, such as 1,4,16") from None
    if not options.budget > 0:
        raise ConfigError(f"--budget must be positive, not {options.budget:g}")
    chosen = GpuOptions(
        options.out, options.model, options.like, options.device, branches, options.max_tokens, options.workload,
        tuple(options.dtypes.split(",")), options.scratch,
    )  # fmt: skip
    steps, only = gpu_steps(chosen), [name for name in options.only.split(",") if name]
    if unknown := sorted(set(only) - {step.name for step in steps}):
        raise ConfigError(f"no measurement is called {unknown[0]!r}: {', '.join(step.name for step in steps)}")
    session = GpuSession(options.out, steps)
    if not options.list:
        from ...local.base import find_device  # noqa: PLC0415  # brings torch, which --help can do without

        find_device(options.device)
        asked = [replace(step, least=0.0) if step.name in only else step for step in steps]
        wanted = [step for step in asked if not only or step.name in only]
        session.measure(
            options.budget, lambda line: print(line, file=sys.stderr, flush=True), wanted, again=options.again
        )
    for name, outcome in session.outcomes.items():
        took = "" if outcome.seconds is None else f" ({outcome.seconds:.0f} s)"
        print(f"{outcome.state:8} {name}: {outcome.what}{took}")
        if outcome.state not in (DONE, "open") and outcome.said:
            print("         " + (outcome.said.strip().splitlines() or [""])[-1])
    return 0 if session.whole else OPEN


def _one(options: argparse.Namespace) -> int:
    content: dict[str, Any]
    if options.trees:
        from .trees import compare_trees  # noqa: PLC0415

        content, path = compare_trees(options.device), Path(options.trees)
    else:
        from .passes import measure_passes  # noqa: PLC0415

        content, path = measure_passes(options.model, options.dtype or "float32", options.device), Path(options.passes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the results cannot be written to {path}: {error}") from error
    return 0 if all(content.get("same", [True])) else 1


if __name__ == "__main__":
    sys.exit(main())
