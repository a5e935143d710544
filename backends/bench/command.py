"""``treeagent bench``: the speed of one workload of tree-search requests in many modes. Light until it is called."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from treeagent import extras
from treeagent.cli.output_files import check_plot, check_writable
from treeagent.errors import ConfigError, UnknownNameError
from treeagent.request import Sampling

from .config.methods import SUITES
from .config.modes import MODES, PEERS
from .config.plan import BenchOptions, BenchSettings, PeerEnvironment, make_grid
from .workloads.prompts import KINDS


def bench(
    model: Annotated[str, typer.Option("--model", "-m", help="A name, folder, .gguf file or hub id.")] = "smollm2",
    draft: Annotated[
        str | None, typer.Option(help="A small model with the same tokenizer, for the modes that draft with one.")
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option("--workload", "-w", metavar="KIND,KIND", help="Kinds of built-in prompts; of: "
                     f"{', '.join(KINDS)}. Default: game24; with --suite papers gsm8k,writing,blocksworld."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own prompts: one a line, or a JSON list of texts.")
    ] = None,
    branches: Annotated[
        str | None,
        typer.Option(
            metavar="N,N", help="Numbers of prompts that are live at once, measured in turn. "
            "Default: 16, or all of a file; with --scaling 1,2,4 ... 256.",
        ),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Send prompts one at a time: a single live branch, the cache is kept.")
    ] = False,
    modes: Annotated[
        str | None,
        typer.Option(metavar="A,B", help=f"Modes to run; default: all that the models allow. Of: {', '.join(MODES)}. "
                     "Those of the engine accept options, as in seed@drafter=rsd-s:3x4@verify=recursive."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="Mode that speed-ups are measured against; default: transformers-serial or "
                     "the first mode."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="Mode whose tokens the others must equal; default: transformers-serial, or "
                     "backend-transformers above temperature 0, with --scaling and with --suite. Run untimed unless "
                     "it is a mode."),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare tokens with the reference.")] = True,
    repeat: Annotated[
        int, typer.Option(min=1, metavar="N", help="Alternating runs; medians are shown. With --suite each repeat "
                          "uses the prompts and noise of the next seed.")
    ] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most new tokens of each prompt.")] = 64,
    temperature: Annotated[
        str | None, typer.Option(metavar="T,T", help="Sampling temperatures; 0 is greedy. Default: 0; with --suite "
                                 "papers 0,0.2,1.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample among the K most probable tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample among the most probable tokens that have this probability together.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the built-in prompts and of all sampling.")] = 5,
    warm_seed: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Fill the drafters' tables from prompts of this seed before each run, "
                     "untimed."),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Show the time per token from 1 to 256 branches; default mode: seed.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"A fixed set of methods; of: {', '.join(SUITES)} (speculative methods of "
                     "the literature, a table for every workload and temperature)."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Methods to run with --suite papers, by their names in its tables (AR is "
                     "always included)."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16, float16 or int8.")] = "float32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: cuda if available.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="torch thread count; default: torch's own.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Send prompts through the model's chat template.")] = False,
    peers: Annotated[
        str | None,
        typer.Option(metavar="NAME=PYTHON[@MODEL],...", help="Other engines to run as modes: the Python of an engine's "
                     f"environment and, in the engine's own format, the model; of: {', '.join(PEERS)}."),
    ] = None,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Run every mode in a process of its own, so that its memory is its own.")
    ] = False,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Load a mode anew for every run, if not all fit into memory together.")
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything that was measured.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a plot: .png, .svg or .pdf.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:  # fmt: skip
    """Measure the speed of a fixed workload of tree-search prompts: transformers, the plain backend, the engine.

    All prompts are different, every run starts cold, and tokens are compared wherever decoding is exact. Exit codes:
    0 all tokens are as they must be; 1 a mode differs from the reference; 2, 3 and 130 as for 'solve', 3 also if a
    mode fails.
    """
    extras.require("the command 'bench'", "torch", "transformers")
    settings = BenchSettings(
        model=model, draft=draft, device=device, dtype=dtype, threads=threads, chat=chat, warm_seed=warm_seed,
        sequential=sequential, reopen=reopen, scaling=scaling, isolate=isolate,
        peers=dict(map(_peer, _words(peers) or ())),
    )  # fmt: skip
    options = BenchOptions(
        settings=settings, workloads=_words(workload), prompts_file=prompts, seed=seed, branches=_counts(branches),
        temperatures=_temperatures(temperature), sampling=_sampling(top_k, top_p, max_tokens), suite=suite,
        methods=_words(methods), modes=_words(modes), baseline=baseline, reference=reference, check=check,
        repeat=repeat,
    )  # fmt: skip
    grid = make_grid(options)
    if json is not None:
        check_writable(json, "--json")
    if plot is not None:
        check_plot(plot, "speed")

    from .suite import run_grid  # noqa: PLC0415  # brings torch, which --help can do without

    raise typer.Exit(run_grid(grid, json=json, plot=plot, quiet=quiet))


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _peer(text: str) -> tuple[str, PeerEnvironment]:
    name, _, places = text.partition("=")
    python, _, model = places.partition("@")
    if name not in PEERS:
        raise UnknownNameError("engine", name, PEERS, " Expected --peers NAME=PYTHON or NAME=PYTHON@MODEL.")
    if not python:
        raise ConfigError(f"--peers {text}: expected {name}=PYTHON or {name}=PYTHON@MODEL")
    return name, PeerEnvironment(Path(python), Path(model) if model else None)


def _counts(text: str | None) -> tuple[int, ...] | None:
    words = _words(text)
    try:
        return None if words is None else tuple(int(word) for word in words)
    except ValueError:
        raise ConfigError(f"--branches {text}: expected whole numbers, such as 1,4,16") from None


def _temperatures(text: str | None) -> tuple[float, ...] | None:
    words = _words(text)
    try:
        numbers = None if words is None else tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if numbers is not None and not (numbers and all(0 <= number < math.inf for number in numbers)):
        raise ConfigError(f"--temperature {text}: expected numbers from 0, such as 0 or 0,0.2,1")
    return numbers


def _sampling(top_k: int | None, top_p: float | None, max_tokens: int) -> Sampling:
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"--top-p must be above 0 and at most 1, not {top_p}")
    return Sampling(top_k=top_k, top_p=top_p, max_tokens=max_tokens)
