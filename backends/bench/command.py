"""``treeagent bench``: how fast one workload of tree-search requests runs, in many ways. Light until it is called."""

from __future__ import annotations

import json as writer
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from treeagent import extras
from treeagent.backend import Sampling
from treeagent.errors import ConfigError

from .config import methods as family
from .config.modes import MODES, PLAIN
from .config.plan import PLOTS, plan, writable
from .workloads.prompts import KINDS

T = TypeVar("T")

EQUAL, DIFFERENT, FAILED = 0, 1, 3
"""Exit codes, beside 2 for wrong usage and 130 for Ctrl-C."""


def bench(
    model: Annotated[str, typer.Option("--model", "-m", help="A name, folder, .gguf file or hub id.")] = "smollm2",
    draft: Annotated[
        str | None, typer.Option(help="A small model with the same tokenizer, for the modes that draft with one.")
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option("--workload", "-w", metavar="KIND", help=f"Built-in prompts; one of: {', '.join(KINDS)}. "
                     "Default: game24; with --seeds gsm8k,writing,blocksworld, or others with commas."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prompts of your own: one a line, or a JSON list of texts.")
    ] = None,
    branches: Annotated[
        str | None,
        typer.Option(
            metavar="N,N", help="How many prompts are live at once; several numbers are measured in turn. "
            "Default: 16, or all of a file; with --scaling 1,2,4 ... 256.",
        ),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Send prompts one at a time: a single live branch, the cache is kept.")
    ] = False,
    modes: Annotated[
        str | None,
        typer.Option(metavar="A,B", help=f"Ways to run; default: all that can. Of: {', '.join(MODES)}. Those of the "
                     "engine may carry options, as in seed@drafter=rsd-s:3x4@verify=recursive."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="What speed-ups are measured against: else transformers-serial or the "
                     "first mode."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="Whose tokens the others' must equal: else transformers-serial, or "
                     "backend-transformers above temperature 0 and with --scaling. Run untimed unless it is a mode."),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare tokens with the reference.")] = True,
    repeat: Annotated[
        int, typer.Option(min=1, metavar="N", help="Alternating runs; medians are shown. With --seeds each takes "
                          "prompts and noise of its own, those of the next seed.")
    ] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="New tokens of each prompt, at most.")] = 64,
    temperature: Annotated[
        str | None, typer.Option(metavar="T", help="0 is greedy, and the default; with --seeds 0,0.2,1, or others "
                                 "with commas.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw among the best K tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the best tokens that make up this share.")] = None,
    seed: Annotated[int, typer.Option(help="Of the built-in prompts and of all sampling.")] = 5,
    warm_seed: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Let the drafters' tables learn from prompts of another seed before each "
                     "run, untimed."),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Show the time per token from 1 to 256 branches; default mode: seed.")
    ] = False,
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Compare SeeD and its relatives: a table of speculative methods for every "
                           "kind of task and temperature.")
    ] = False,
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Of --seeds these only, as the tables call them, and the baseline AR."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch, in all modes; default: its own.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Send prompts through the model's chat template.")] = False,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Load modes anew for every run, where not all fit into memory together.")
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything that was measured.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, as .png, .svg or .pdf.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:  # fmt: skip
    """Measure how fast a fixed workload of tree-search prompts runs: transformers, the plain backend, the engine.

    All prompts are different, every run starts cold, and tokens are compared wherever decoding is exact. Exit codes:
    0 all tokens as they should be; 1 a mode differs from the reference; 2, 3 and 130 as for 'solve', 3 also when a
    mode fails.
    """
    extras.require("the command 'bench'", "torch", "transformers")
    if plot is not None:
        extras.require("option --plot", "matplotlib")
    settings: dict[str, Any] = {
        "model": model, "draft": draft, "device": device, "dtype": dtype, "threads": threads, "chat": chat,
        "file": prompts, "warm_seed": warm_seed, "branches": _counts(branches), "reference": reference, "check": check,
        "sequential": sequential, "reopen": reopen, "scaling": scaling,
    }  # fmt: skip
    kinds, temperatures = _words(workload), _temperatures(temperature)
    sampling = _sampling(top_k, top_p, max_tokens)
    if seeds:
        if taken := [name for name, given in (("--modes", modes), ("--baseline", baseline), ("--prompts", prompts),
                                              ("--scaling", scaling or None)) if given is not None]:  # fmt: skip
            raise ConfigError(f"--seeds has methods and prompts of its own; leave out {' and '.join(taken)}")
        if len(settings["branches"] or "1") != 1:
            raise ConfigError(f"--seeds takes one number of branches, not --branches {branches}")
        if kinds == []:
            raise ConfigError(f"--workload names no kind. Valid: {', '.join(KINDS)}.")
        chosen = family.methods(draft, _words(methods))
        cells = family.cells(
            lambda kind, drawing, first, order: plan(
                **{**settings, "reference": reference or PLAIN}, kind=kind, sampling=drawing, seed=first, repeat=1,
                modes=order, baseline=family.BASELINE,
            ),
            [method.name for method in chosen], family.WORKLOADS if kinds is None else kinds,
            family.TEMPERATURES if temperatures is None else temperatures, sampling, seed, repeat,
        )  # fmt: skip
        writable(json, "--json")
        writable(plot, "--plot", PLOTS)

        from .comparing import compare  # noqa: PLC0415  # torch

        good = compare(cells, chosen, json=json, plot=plot, quiet=quiet)
        raise typer.Exit(FAILED if good is None else EQUAL if good else DIFFERENT)
    if methods is not None:
        raise ConfigError("--methods chooses among those of --seeds; other benchmarks have --modes")
    made = plan(
        **settings, kind=_single(["game24"] if kinds is None else kinds, "--workload"), seed=seed, repeat=repeat,
        sampling=replace(sampling, temperature=_single(temperatures or [0.0], "--temperature")), modes=_words(modes),
        baseline=baseline,
    )  # fmt: skip
    writable(json, "--json")
    writable(plot, "--plot", PLOTS)

    from rich.console import Console  # noqa: PLC0415  # these bring torch, which --help can do without

    from .measure import Bench  # noqa: PLC0415
    from .progress import Board  # noqa: PLC0415
    from .results import record, report  # noqa: PLC0415
    from .results import rows as summary  # noqa: PLC0415

    began = datetime.now(timezone.utc)
    work = Bench(made, Board(quiet=quiet))
    interrupted: KeyboardInterrupt | None = None
    try:
        work.measure()
    except KeyboardInterrupt as stopped:
        interrupted = stopped
        if not work.runs:
            raise
    rows = summary.rows(made, work.runs, work.reference)
    if interrupted is None:
        rows = [
            row if row.difference is None else replace(row, difference=work.explained(row.difference)) for row in rows
        ]
    shown = report.table(made, rows)
    console = Console(width=max(Console().width, Console(width=1000).measure(shown).maximum))  # figures are never cut
    typer.echo(report.title(made))
    console.print(shown)
    typer.echo(report.caption(made))
    for line in report.remarks(rows, cpu=work.device.type == "cpu"):
        typer.echo(line)
    try:
        if json is not None:
            content = writer.dumps(record.to_json(work, rows, began), indent=1)
            json.write_text(content + "\n", encoding="utf-8")
        if plot is not None:
            from .results.plot import draw  # noqa: PLC0415  # matplotlib

            draw(made, rows, plot)
    except OSError as error:
        raise ConfigError(f"what was measured cannot be written: {error}") from error
    if interrupted is not None:
        raise interrupted
    if any(row.wrong for row in rows):
        raise typer.Exit(DIFFERENT)
    raise typer.Exit(FAILED if any(row.error is not None for row in rows) else EQUAL)


def _words(given: str | None) -> list[str] | None:
    return None if given is None else [word.strip() for word in given.split(",") if word.strip()]


def _counts(given: str | None) -> list[int] | None:
    words = _words(given)
    try:
        return None if words is None else [int(word) for word in words]
    except ValueError:
        raise ConfigError(f"--branches {given}: expected whole numbers, such as 1,4,16") from None


def _temperatures(given: str | None) -> list[float] | None:
    words = _words(given)
    try:
        found = None if words is None else [float(word) for word in words]
    except ValueError:
        found = [math.nan]
    if found is not None and not (found and all(0 <= number < math.inf for number in found)):
        raise ConfigError(f"--temperature {given}: expected a number from 0, or with --seeds several, such as 0,0.2,1")
    return found


def _single(given: Sequence[T], option: str) -> T:
    if len(given) != 1:
        raise ConfigError(f"{option} {','.join(map(str, given))}: expected one; several are for --seeds")
    return given[0]


def _sampling(top_k: int | None, top_p: float | None, max_tokens: int) -> Sampling:
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"--top-p must be above 0 and at most 1, not {top_p}")
    return Sampling(top_k=top_k, top_p=top_p, max_tokens=max_tokens)
