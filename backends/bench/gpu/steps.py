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
FIXED = "transformers-batched,transformers-static,transformers-continuous,seed-nodraft"


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
    """All of them, in order."""
    times = DRY if options.device == "cpu" else 1
    return [replace(step, most=times * step.most) for step in _steps(options)]


def _steps(options: GpuOptions) -> Iterator[GpuStep]:
    small, wide, out, device = options.model, str(options.wide), options.out, options.device
    tests = Path(__file__).parents[3] / "tests"

    yield GpuStep(
        "trees", "trees of the GPU in float32 against those of the CPU, and seconds of `solve` after load",
        (*GPU, "--trees", str(out / "gpu-trees.json"), "--device", device), 15, 60,
    )  # fmt: skip
    widen = (*PYTHON, "treeagent.backends.bench.widen", "--model", small, "--like", options.like, "--out", wide)
    yield GpuStep("widen", "the widened target, and its check", (*widen, "--device", device), 40, 150)
    for name, model in (("small", small), ("wide", wide)):
        for dtype in options.dtypes:
            passes = ("--passes", str(out / f"gpu-passes-{name}-{dtype}.json"), "--model", model, "--dtype", dtype)
            what = f"{_said(name)} in {dtype}: passes against the bounds of memory and arithmetic"
            yield GpuStep(f"passes-{name}-{dtype}", what, (*GPU, *passes, "--device", device), 10, 60)
    for name, model in (("small", small), ("wide", wide)):
        for dtype in options.dtypes:
            modes = FIXED + (",seed" if name == "small" else ",seed-model")
            file = f"gpu-branches-{name}-{dtype}"
            words = _bench(options, file, model, dtype, modes, *(("--draft", small) if name == "wide" else ()))
            what = f"{_said(name)} in {dtype}: branches against the modes of transformers"
            yield GpuStep(file.removeprefix("gpu-"), what, words, 20, 90)
    beams = "seed-nodraft@num_beams=4,seed-model@num_beams=4,"
    beams += "seed@drafter=model@beam_draft=8x3@verify=recursive@num_beams=4"
    drafted = ("--draft", small, "--temperature", "1", "--no-check")
    words = _bench(options, "gpu-beams", wide, options.dtypes[0], beams, *drafted, branches=4)
    yield GpuStep("beams", "speculative beams (DSBD) against plain beams", words, 20, 75)
    exits = "seed-nodraft,seed-model,seed@drafter=model@exit=adaptive,seed@drafter=model@exit=2"
    words = _bench(options, "gpu-exits", "mini", "float32", exits, "--draft", "mini-sorted", workload="mini")
    yield GpuStep("exits", "a draft model of several exits", words, 15, 45)
    suite = ("--suite", "papers", "--draft", small, "--temperature", "0", "--workload", "gsm8k", "--no-check")
    words = _bench(options, "gpu-papers", wide, options.dtypes[0], None, *suite, branches=16)
    yield GpuStep("papers", "the methods of papers, the small model drafting for the widened one", words, 40, 150)
    if tests.is_dir():
        files = sorted(str(path) for path in tests.glob("test_seed_*.py") if "docs" not in path.name)
        pytest = (*PYTHON, "pytest", "-q", "-x", "-n", str(min(12, os.cpu_count() or 1)), *files)
        yield GpuStep("tests", "the tests of the engine", pytest, 30, 150, {"TREEAGENT_TEST_DEVICE": device})


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
        more = ("--modes", modes, "--reopen", *more)
    return (
        *(*PYTHON, "treeagent", "bench", "--model", model, "--dtype", dtype, "--device", options.device),
        *("--branches", ",".join(map(str, counts)), "--max-tokens", str(options.max_tokens), "--quiet"),
        *("--json", str(options.out / f"{file}.json"), *more),
    )


def _said(name: str) -> str:
    return "the small model" if name == "small" else "the widened model"
