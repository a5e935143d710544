"""``treeagent bench``: how fast one workload of tree-search requests runs, in many ways. Light until it is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from treeagent import extras
from treeagent.backend import Sampling
from treeagent.errors import ConfigError, UnknownNameError

from .config.methods import TEMPERATURES, WORKLOADS, Cell, Method, cells, runnable
from .config.modes import MODES
from .config.plan import PLOTS, BenchSettings, plan, writable
from .workloads.prompts import KINDS

T = TypeVar("T")

SUITES = ("papers",)
"""Groups of methods that ``--suite`` knows."""


def bench(
    model: Annotated[str, typer.Option("--model", "-m", help="A name, folder, .gguf file or hub id.")] = "smollm2",
    draft: Annotated[
        str | None, typer.Option(help="A small model with the same tokenizer, for the modes that draft with one.")
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option("--workload", "-w", metavar="KIND", help=f"Built-in prompts; one of: {', '.join(KINDS)}. "
                     "Default: game24; with --suite papers gsm8k,writing,blocksworld, or others with commas."),
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
        int, typer.Option(min=1, metavar="N", help="Alternating runs; medians are shown. With --suite papers every run "
                          "has its own prompts and noise, those of the next seed.")
    ] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="New tokens of each prompt, at most.")] = 64,
    temperature: Annotated[
        str | None, typer.Option(metavar="T", help="0 is greedy, and the default; with --suite papers 0,0.2,1, or "
                                 "others with commas.")
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
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="papers: compare the speculative methods of the literature, with a table for "
                     "every kind of task and temperature."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="With --suite papers: these methods only, by their names in the "
                     "tables, and the baseline AR."),
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
    settings = BenchSettings(
        model=model, draft=draft, device=device, dtype=dtype, threads=threads, chat=chat, file=prompts, seed=seed,
        warm_seed=warm_seed, branches=_counts(branches), sampling=_sampling(top_k, top_p, max_tokens),
        modes=_words(modes), baseline=baseline, reference=reference, check=check, repeat=repeat,
        sequential=sequential, reopen=reopen, scaling=scaling,
    )  # fmt: skip
    kinds, temperatures = _words(workload), _temperatures(temperature)
    if suite is None:
        if methods is not None:
            raise ConfigError("--methods chooses among those of --suite papers; other benchmarks have --modes")
        kind = _single(["game24"] if kinds is None else kinds, "--workload")
        sampling = replace(settings.sampling, temperature=_single(temperatures or [0.0], "--temperature"))
        planned = plan(replace(settings, kind=kind, sampling=sampling))
    else:
        grid, chosen = _papers(suite, settings, kinds, temperatures, _words(methods))
    writable(json, "--json")
    writable(plot, "--plot", PLOTS)

    from .session import Outputs, run_modes, run_papers  # noqa: PLC0415  # torch, which --help can do without

    outputs = Outputs(json, plot, quiet)
    raise typer.Exit(run_modes(planned, outputs) if suite is None else run_papers(grid, chosen, outputs))


def _papers(
    suite: str,
    settings: BenchSettings,
    kinds: Sequence[str] | None,
    temperatures: Sequence[float] | None,
    labels: Sequence[str] | None,
) -> tuple[list[Cell], tuple[Method, ...]]:
    """The cells and methods of ``--suite papers``. Raises ConfigError."""
    if suite not in SUITES:
        raise UnknownNameError("suite", suite, SUITES)
    options = {
        "--modes": settings.modes, "--baseline": settings.baseline, "--prompts": settings.file,
        "--scaling": settings.scaling or None,
    }  # fmt: skip
    if taken := [name for name, value in options.items() if value is not None]:
        raise ConfigError(f"--suite papers has its own methods and prompts; leave out {' and '.join(taken)}")
    if settings.branches is not None and len(settings.branches) != 1:
        counts = ",".join(map(str, settings.branches))
        raise ConfigError(f"--suite papers takes one number of branches, not --branches {counts}")
    if kinds is not None and not kinds:
        raise ConfigError(f"--workload names no kind. Valid: {', '.join(KINDS)}.")
    methods = runnable(settings.draft, labels)
    found = cells(
        settings, methods, WORKLOADS if kinds is None else kinds, TEMPERATURES if temperatures is None else temperatures
    )
    return found, methods


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _counts(text: str | None) -> list[int] | None:
    words = _words(text)
    try:
        return None if words is None else [int(word) for word in words]
    except ValueError:
        raise ConfigError(f"--branches {text}: expected whole numbers, such as 1,4,16") from None


def _temperatures(text: str | None) -> list[float] | None:
    words = _words(text)
    try:
        numbers = None if words is None else [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if numbers is not None and not (numbers and all(0 <= number < math.inf for number in numbers)):
        raise ConfigError(
            f"--temperature {text}: expected a number from 0, or with --suite papers several, such as 0,0.2,1"
        )
    return numbers


def _single(values: Sequence[T], option: str) -> T:
    if len(values) != 1:
        raise ConfigError(f"{option} {','.join(map(str, values))}: expected one; several are for --suite papers")
    return values[0]


def _sampling(top_k: int | None, top_p: float | None, max_tokens: int) -> Sampling:
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"--top-p must be above 0 and at most 1, not {top_p}")
    return Sampling(top_k=top_k, top_p=top_p, max_tokens=max_tokens)
