"""The measurements of one GPU: each is a command of its own, the most wanted first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

PYTHON = (sys.executable, "-m")
GPU = (*PYTHON, "treeagent.backends.bench.gpu")
DRY = 10
"""How many times as long a measurement may take on a CPU, where it is a dry run."""
SIXTEEN = 16
"""Branches of the measurements that have bars."""
TESTS = ("test_triton_attention", "test_triton_choice", "test_triton_layers", "test_seed_tiles")
"""Files of tests that hold the kernels against the host."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What is measured; the defaults are those of the page."""

    out: Path
    """Folder of the results."""
    model: str = "smollm2"
    """The small model, which drafts for the widened one."""
    like: str = "llama-7b"
    device: str = "cuda"
    branches: tuple[int, ...] = (1, 4, 16, 64)
    max_tokens: int = 64
    workload: str = "game24"
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    scratch: Path | None = None
    """Folder for the widened checkpoint; None: the folder of the results."""

    @property
    def wide(self) -> Path:
        """The widened checkpoint."""
        return (self.scratch or self.out) / "widened"


@dataclass(frozen=True, slots=True)
class GpuStep:
    """One measurement."""

    name: str
    what: str
    """For the page."""
    command: tuple[str, ...]
    least: float
    """Seconds without which it is not begun."""
    most: float
    """Seconds after which it is interrupted; what it has by then counts."""
    environment: dict[str, str] = field(default_factory=dict)


def gpu_steps(options: GpuOptions) -> list[GpuStep]:
    """All of them, in order; on a GPU their limits add up to ten minutes, with two dtypes."""
    times = DRY if options.device == "cpu" else 1
    return [replace(step, most=times * step.most) for step in _steps(options)]


def _steps(options: GpuOptions) -> Iterator[GpuStep]:
    small, wide, out, device = options.model, str(options.wide), options.out, options.device
    first, *others = options.dtypes
    yield GpuStep(
        "trees", "trees of the GPU in float32 against those of the CPU, and seconds of `solve` after load",
        (*GPU, "--trees", str(out / "gpu-trees.json"), "--device", device), 15, 25,
    )  # fmt: skip
    tests = [Path(__file__).parents[3] / "tests" / f"{name}.py" for name in TESTS]
    if all(path.exists() for path in tests):
        chosen = () if device == "cpu" else ("-m", "gpu and not exhaustive")  # what only a GPU can say
        pytest = (*PYTHON, "pytest", "-q", "-n", str(min(12, os.cpu_count() or 1)), *chosen, *map(str, tests))
        yield GpuStep("kernels", "the tests of the kernels", pytest, 20, 40, {"TREEAGENT_TEST_DEVICE": device})
    yield _passes(options, "small", first, 25)
    widen = (*PYTHON, "treeagent.backends.bench.widen", "--model", small, "--like", options.like, "--out", wide)
    yield GpuStep("widen", "the widened target, and its check", (*widen, "--device", device), 40, 70)
    yield _passes(options, "wide", first, 45)
    yield _branches(options, "wide", first, 80)
    yield _branches(options, "small", first, 45)
    drafted = ("--draft", small, "--no-check")
    modes = "transformers-static,seed-nodraft,seed-model"
    words = _bench(options, "gpu-static", wide, first, modes, *drafted, branches=SIXTEEN)
    yield GpuStep("static", "the widened model against transformers' compiled mode", words, 40, 75)
    modes = "seed-serial@drafter=model,seed-fcfs@drafter=model,seed-model"
    words = _bench(options, "gpu-schedules", wide, first, modes, *drafted, branches=SIXTEEN)
    yield GpuStep("schedules", "rounds against the paper's own schedule, and both against serial", words, 20, 45)
    beams = "seed-nodraft@num_beams=4,seed-model@num_beams=4,"
    beams += "seed@drafter=model@beam_draft=8x3@verify=recursive@num_beams=4"
    words = _bench(options, "gpu-beams", wide, first, beams, *drafted, "--temperature", "1", branches=4)
    yield GpuStep("beams", "speculative beams (DSBD) against plain beams", words, 20, 45)
    for dtype in others:
        yield _branches(options, "small", dtype, 35)
        yield _passes(options, "small", dtype, 15)
    exits = "seed-nodraft,seed-model,seed@drafter=model@exit=adaptive,seed@drafter=model@exit=2"
    words = _bench(options, "gpu-exits", "mini", "float32", exits, "--draft", "mini-sorted", workload="mini")
    yield GpuStep("exits", "a draft model of several exits", words, 10, 20)
    suite = ("--suite", "papers", *drafted, "--temperature", "0", "--workload", "gsm8k")
    words = _bench(options, "gpu-papers", wide, first, None, *suite, branches=SIXTEEN)
    yield GpuStep("papers", "the methods of papers, the small model drafting for the widened one", words, 25, 35)


def _passes(options: GpuOptions, name: str, dtype: str, most: float) -> GpuStep:
    """Single passes of the small or the widened model."""
    model = options.model if name == "small" else str(options.wide)
    words = ("--passes", str(options.out / f"gpu-passes-{name}-{dtype}.json"), "--model", model, "--dtype", dtype)
    what = f"{_said(name)} in {dtype}: passes against the bounds of memory and arithmetic"
    return GpuStep(f"passes-{name}-{dtype}", what, (*GPU, *words, "--device", options.device), 10, most)


def _branches(options: GpuOptions, name: str, dtype: str, most: float) -> GpuStep:
    """The small or the widened model against those modes of transformers that need no compiling.

    The reference is batched: decoding 64 prompts one after another would take longer than all the rest.
    """
    drafted = name == "wide"
    modes = f"transformers-batched,transformers-continuous,seed-nodraft,seed{'-model' * drafted}"
    small = (options.model, ("--reference", "transformers-batched"))
    model, more = (str(options.wide), ("--draft", options.model, "--no-check")) if drafted else small
    words = _bench(options, f"gpu-branches-{name}-{dtype}", model, dtype, modes, *more)
    what = f"{_said(name)} in {dtype}: branches against the modes of transformers"
    return GpuStep(f"branches-{name}-{dtype}", what, words, 20, most)


def _bench(
    options: GpuOptions,
    file: str,
    model: str,
    dtype: str,
    modes: str | None,
    *more: str,
    branches: int | None = None,
    workload: str | None = None,
) -> tuple[str, ...]:
    """``treeagent bench`` that writes a file."""
    counts = options.branches if branches is None else (branches,)
    if "--workload" not in more:
        more = ("--workload", workload or options.workload, *more)
    if modes is not None:
        more = ("--modes", modes, *more)
    return (
        *(*PYTHON, "treeagent", "bench", "--model", model, "--dtype", dtype, "--device", options.device),
        *("--branches", ",".join(map(str, counts)), "--max-tokens", str(options.max_tokens), "--quiet"),
        *("--json", str(options.out / f"{file}.json"), *more),
    )


def _said(name: str) -> str:
    return "the small model" if name == "small" else "the widened model"
