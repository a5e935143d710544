"""What a benchmark measures: a grid of cells, checked before anything is loaded.

A cell is a workload at a temperature with a number of branches; every mode runs in every cell. The grid is carried out
as plans: a plan is one set of prompts at one temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from treeagent.errors import ConfigError, UnknownNameError
from treeagent.request import Key, Sampling

from ..workloads import prompts as workload
from .methods import BASELINE, SUITES, TEMPERATURES, WORKLOADS, Method, select_methods
from .modes import PEER, PLAIN, SERIAL, Mode, chosen, find

PromptKind = TypeVar("PromptKind")

EXACT = ("float32", "float64")
"""Types of numbers in which every lossless way to decode gives the same tokens, but for ties."""
DOUBLINGS = tuple(2**power for power in range(9))
"""Branches of ``--scaling``: 1 to 256."""


@dataclass(frozen=True, slots=True)
class PeerEnvironment:
    """Where another engine is installed."""

    python: Path
    """The interpreter of its environment."""
    model: Path | None = None
    """The model in the engine's own format; None: the benchmark's model."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is the same in all cells."""

    model: str = "smollm2"
    title: str | None = None
    """The model's name in reports, where that of its folder says nothing."""
    draft: str | None = None
    device: str | None = None
    dtype: str = "float32"
    threads: int | None = None
    """torch thread count; None: torch's default."""
    chat: bool = False
    """Whether prompts pass through the model's chat template."""
    warm_seed: int | None = None
    """Seed of the prompts that the drafters' tables learn from before each run, untimed."""
    sequential: bool = False
    """Whether prompts are sent one at a time instead of all at once."""
    isolate: bool = False
    """Whether every mode runs in a process of its own."""
    peers: Mapping[str, PeerEnvironment] = field(default_factory=dict)
    """Other engines by mode."""
    reopen: bool = False
    """Whether a mode is loaded anew for every run, so that no two are in memory."""
    scaling: bool = False
    """Whether the report shows the time per token instead of speed-ups."""

    @property
    def reference_dtype(self) -> str:
        """The type of numbers of the reference: that of the benchmark if it is exact."""
        return self.dtype if self.dtype in EXACT else "float32"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What the user asked for; None stands for a default that depends on the rest."""

    settings: BenchSettings = field(default_factory=BenchSettings)
    workloads: tuple[str, ...] | None = None
    prompts_file: Path | None = None
    seed: int = 5
    branches: tuple[int, ...] | None = None
    temperatures: tuple[float, ...] | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=64))
    """With any temperature; each cell has its own."""
    suite: str | None = None
    methods: tuple[str, ...] | None = None
    """Labels of the suite's methods."""
    modes: tuple[str, ...] | None = None
    baseline: str | None = None
    reference: str | None = None
    check: bool = True
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """One set of prompts at one temperature, run by all modes."""

    settings: BenchSettings
    workload: str
    """Kind of the prompts, or the file they come from."""
    seed: int
    """Seed of the built-in prompts and of all sampling."""
    prompts: tuple[str, ...]
    """As many as the largest of ``branches``; smaller ones take the first."""
    warm: tuple[str, ...]
    """Prompts of ``warm_seed``; empty without one."""
    branches: tuple[int, ...]
    sampling: Sampling
    modes: tuple[Mode, ...]
    baseline: str
    """Mode that speed-ups are measured against."""
    reference: str | None
    """Mode whose tokens the others are compared with; None: no tokens are compared."""
    repeats: tuple[int, ...]
    """Numbers of the repeats that use these prompts, from 0."""

    def dtype(self, mode: Mode) -> str:
        """The type of numbers of a mode."""
        return mode.dtype or self.settings.dtype

    def batches(self, mode: Mode, prompts: Sequence[PromptKind]) -> list[Sequence[PromptKind]]:
        """The prompts in the groups that a mode sends together."""
        size = mode.at_once or (1 if self.settings.sequential else len(prompts))
        return [prompts[start : start + size] for start in range(0, len(prompts), size)]

    def comparable(self, mode: Mode) -> bool:
        """Whether the mode draws the same tokens as the reference by design."""
        beams = 1 if self.reference is None else find(self.reference).num_beams
        return mode.num_beams == beams and (mode.keyed or self.sampling.temperature == 0)

    def exact(self, mode: Mode) -> bool:
        """Whether any difference from the reference is an error."""
        return self.comparable(mode) and self.dtype(mode) in EXACT and mode.family != PEER

    @property
    def scored(self) -> bool:
        """Whether outputs are scored by their log-probability, since some are the best of several beams."""
        return any(mode.num_beams > 1 for mode in self.modes)

    @property
    def untimed_reference(self) -> bool:
        """Whether the reference needs a run of its own, since no timed run is the reference."""
        exact = self.settings.dtype == self.settings.reference_dtype
        timed = exact and any(mode.name == self.reference for mode in self.modes)
        return self.reference is not None and not timed

    @property
    def steps(self) -> int:
        """Number of runs, the reference's included."""
        return len(self.branches) * len(self.repeats) * len(self.modes) + self.untimed_reference

    def key(self, number: int, *, warm: bool = False) -> Key:
        """The sampling key of the prompt of that number."""
        warm_seed = self.settings.warm_seed
        return Key(warm_seed if warm and warm_seed is not None else self.seed, "propose", str(number))


@dataclass(frozen=True, slots=True)
class BenchGrid:
    """A whole benchmark."""

    settings: BenchSettings
    workloads: tuple[str, ...]
    temperatures: tuple[float, ...]
    branches: tuple[int, ...]
    sampling: Sampling
    seed: int
    repeat: int
    modes: tuple[Mode, ...]
    baseline: str
    reference: str | None
    suite: str | None
    """Name of the suite; its repeats use prompts of different seeds."""
    methods: tuple[Method, ...]
    """The rows of every table, one for each mode."""
    plans: tuple[BenchPlan, ...]
    """In the order of workloads, temperatures and repeats."""


def make_grid(options: BenchOptions) -> BenchGrid:
    """The checked grid of what the user asked for. Raises ConfigError, UnknownNameError."""
    methods: tuple[Method, ...] = ()
    if options.suite is not None:
        options, methods = _suite(options)
    elif options.methods is not None:
        raise ConfigError("--methods selects methods of a suite; it needs --suite papers. Otherwise use --modes.")
    draft, scaling = options.settings.draft, options.settings.scaling
    workloads = tuple(dict.fromkeys(("game24",) if options.workloads is None else options.workloads))
    if options.prompts_file is not None:
        workloads = (str(options.prompts_file),)
    if not workloads:
        raise ConfigError(f"--workload names no kind. Valid: {', '.join(workload.KINDS)}.")
    temperatures = tuple(dict.fromkeys((0.0,) if options.temperatures is None else options.temperatures))
    modes = chosen(["seed"] if scaling and options.modes is None else options.modes, draft, options.settings.peers)
    baseline = options.baseline
    if baseline is None:
        baseline = SERIAL if any(mode.name == SERIAL for mode in modes) else modes[0].name
    elif all(mode.name != baseline for mode in modes):
        modes = (*chosen([baseline], draft, options.settings.peers), *modes)
    if max(temperatures) > 0 and (greedy := [mode.name for mode in modes if mode.family == PEER]):
        raise ConfigError(f"{', '.join(greedy)}: other engines are measured at temperature 0 only")
    reference = _reference(options, sampled=max(temperatures) > 0)
    texts = None if options.prompts_file is None else workload.read_prompts(options.prompts_file)
    branches = _branches(options, None if texts is None else len(texts))

    def planned(kind: str, temperature: float, seed: int, repeats: Sequence[int]) -> BenchPlan:
        prompts = tuple(workload.builtin_prompts(kind, branches[-1], seed) if texts is None else texts[: branches[-1]])
        warm = _warm(kind, options, seed, prompts)
        sampling = replace(options.sampling, temperature=temperature)
        return BenchPlan(
            options.settings, kind, seed, prompts, warm, branches, sampling, modes, baseline, reference, tuple(repeats)
        )

    sets = [(options.seed, range(options.repeat))]
    if options.suite is not None:
        sets = [(options.seed + number, range(number, number + 1)) for number in range(options.repeat)]
    plans = [planned(kind, heat, seed, each) for kind in workloads for heat in temperatures for seed, each in sets]
    return BenchGrid(
        options.settings, workloads, temperatures, branches, options.sampling, options.seed, options.repeat, modes,
        baseline, reference, options.suite, methods or tuple(Method(each.name, each.name, each.what) for each in modes),
        tuple(plans),
    )  # fmt: skip


def _suite(options: BenchOptions) -> tuple[BenchOptions, tuple[Method, ...]]:
    """The options with the suite's modes, workloads and temperatures, and its methods."""
    if options.suite not in SUITES:
        raise UnknownNameError("suite", str(options.suite), SUITES)
    fixed = {
        "--modes": options.modes, "--baseline": options.baseline, "--prompts": options.prompts_file,
        "--scaling": options.settings.scaling or None,
    }  # fmt: skip
    if refused := [name for name, value in fixed.items() if value is not None]:
        raise ConfigError(f"--suite {options.suite} has its own modes and prompts; leave out {' and '.join(refused)}")
    methods = select_methods(options.settings.draft, options.methods)
    filled = replace(
        options,
        modes=tuple(method.name for method in methods),
        baseline=BASELINE,
        reference=options.reference or PLAIN,
        workloads=WORKLOADS if options.workloads is None else options.workloads,
        temperatures=TEMPERATURES if options.temperatures is None else options.temperatures,
    )
    return filled, methods


def _reference(options: BenchOptions, *, sampled: bool) -> str | None:
    """The mode that tokens are compared with; one for all cells."""
    reference = options.reference
    if reference is None:
        # Serial decoding of 256 prompts would take longer than all the rest, so a batched reference serves there.
        reference = PLAIN if sampled or options.settings.scaling else SERIAL
    if sampled and not find(reference).keyed:
        raise ConfigError(
            f"--reference {reference} cannot be compared with at a temperature above 0: it draws noise of its own. "
            f"Expected {PLAIN} or a mode of the engine."
        )
    chosen([reference], options.settings.draft, options.settings.peers)
    return reference if options.check else None


def _branches(options: BenchOptions, available: int | None) -> tuple[int, ...]:
    """Numbers of branches in ascending order, at most the ``available`` prompts of a file."""
    if options.branches is None:
        doublings = [count for count in DOUBLINGS if available is None or count <= available]
        counts = doublings if options.settings.scaling else [available or 16]
    else:
        counts = sorted(set(options.branches))
    if not counts or counts[0] < 1:
        raise ConfigError(f"--branches must be whole numbers from 1, not {','.join(map(str, counts)) or 'nothing'}")
    if available is not None and counts[-1] > available:
        raise ConfigError(f"--branches {counts[-1]} needs as many prompts; {options.prompts_file} has {available}")
    return tuple(counts)


def _warm(kind: str, options: BenchOptions, seed: int, prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts of the warm-up seed that are not among the measured ones."""
    warm_seed = options.settings.warm_seed
    if warm_seed is None:
        return ()
    if options.prompts_file is not None:
        raise ConfigError("--warm-seed takes built-in prompts of another seed; it cannot be used with --prompts")
    if warm_seed == seed:
        raise ConfigError(f"--warm-seed {warm_seed} is the seed of the measured prompts; warm up with another one")
    known = set(prompts)
    return tuple(text for text in workload.builtin_prompts(kind, len(prompts), warm_seed) if text not in known)
