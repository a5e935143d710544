"""What is to be measured, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from treeagent.backend import Key, Sampling
from treeagent.errors import ConfigError

from ..workloads.prompts import builtin_prompts, read_prompts
from .modes import PLAIN, SERIAL, Mode, chosen, find

EXACT = ("float32", "float64")
"""Types of numbers in which every lossless way to decode gives the same tokens, but for ties."""
DOUBLINGS = tuple(2**power for power in range(9))
"""Branches of ``--scaling``: 1 to 256."""
PLOTS = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """The options of the command; None stands for a default that depends on the others."""

    model: str
    draft: str | None = None
    device: str | None = None
    dtype: str = "float32"
    threads: int | None = None
    chat: bool = False
    kind: str = "game24"
    """Kind of built-in prompts, where there is no ``file``."""
    file: Path | None = None
    """Prompts of the user."""
    seed: int = 5
    warm_seed: int | None = None
    branches: Sequence[int] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    modes: Sequence[str] | None = None
    baseline: str | None = None
    reference: str | None = None
    check: bool = True
    """Whether tokens are compared with those of the reference."""
    repeat: int = 1
    sequential: bool = False
    reopen: bool = False
    scaling: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A benchmark."""

    model: str
    draft: str | None
    device: str | None
    dtype: str
    threads: int | None
    """None: as many as torch takes by itself."""
    chat: bool
    """Whether prompts pass through the model's chat template."""
    workload: str
    """Kind of the prompts, or the file they come from."""
    seed: int
    prompts: tuple[str, ...]
    """As many as the largest of ``branches``; smaller ones take the first."""
    warm_seed: int | None
    warm: tuple[str, ...]
    """Prompts of another seed that the drafters' tables learn from before each run, untimed."""
    branches: tuple[int, ...]
    sampling: Sampling
    modes: tuple[Mode, ...]
    baseline: str
    """Mode that speed-ups are measured against."""
    reference: str | None
    """Mode whose tokens the others are held against; None: no tokens are compared."""
    repeat: int
    sequential: bool
    """Whether prompts are sent one at a time instead of all at once."""
    reopen: bool
    """Whether a mode is loaded anew for every run, so that no two are in memory."""
    scaling: bool

    @property
    def reference_dtype(self) -> str:
        """The type of numbers of the reference: that of the benchmark if it is exact."""
        return self.dtype if self.dtype in EXACT else "float32"

    def comparable(self, mode: Mode) -> bool:
        """Whether the mode means to draw the same tokens as the reference."""
        beams = 1 if self.reference is None else find(self.reference).num_beams
        return mode.num_beams == beams and (mode.keyed or self.sampling.temperature == 0)

    @property
    def scored(self) -> bool:
        """Whether outputs are worth different amounts, as some are the best of several beams."""
        return any(mode.num_beams > 1 for mode in self.modes)

    def exact(self, mode: Mode) -> bool:
        """Whether any difference from the reference is an error."""
        return self.comparable(mode) and self.dtype in EXACT

    def key(self, number: int, *, warm: bool = False) -> Key:
        """The key of the prompt of that number."""
        return Key(self.warm_seed if warm and self.warm_seed is not None else self.seed, "propose", str(number))


def plan(settings: BenchSettings) -> Plan:
    """A checked plan. Raises ConfigError."""
    draft, sampling, scaling = settings.draft, settings.sampling, settings.scaling
    modes = chosen(["seed"] if scaling and settings.modes is None else settings.modes, draft)
    baseline, reference = settings.baseline, settings.reference
    if baseline is None:
        baseline = SERIAL if any(mode.name == SERIAL for mode in modes) else modes[0].name
    elif all(mode.name != baseline for mode in modes):
        modes = (*chosen([baseline], draft), *modes)
    if reference is None:
        # Serial decoding of 256 prompts would take longer than all other runs together.
        reference = PLAIN if sampling.temperature > 0 or scaling else SERIAL
    [reference_mode] = chosen([reference], draft)
    if sampling.temperature > 0 and not reference_mode.keyed:
        raise ConfigError(
            f"--reference {reference} cannot be used at a temperature above 0: it draws noise of its own. "
            f"Expected {PLAIN} or a mode of the engine."
        )
    prompts, branches = _prompts(settings)
    return Plan(
        model=settings.model, draft=draft, device=settings.device, dtype=settings.dtype, threads=settings.threads,
        chat=settings.chat, workload=settings.kind if settings.file is None else str(settings.file),
        seed=settings.seed, prompts=prompts, warm_seed=settings.warm_seed, warm=_warm(settings, prompts),
        branches=branches, sampling=sampling, modes=modes, baseline=baseline,
        reference=reference if settings.check else None, repeat=settings.repeat, sequential=settings.sequential,
        reopen=settings.reopen, scaling=scaling,
    )  # fmt: skip


def _prompts(settings: BenchSettings) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Prompts, and how many of them each run takes."""
    own = None if settings.file is None else read_prompts(settings.file)
    most = None if own is None else len(own)
    if settings.branches is not None:
        counts = sorted(set(settings.branches))
    elif settings.scaling:
        counts = [count for count in DOUBLINGS if most is None or count <= most]
    else:
        counts = [most or 16]
    if not counts or counts[0] < 1:
        raise ConfigError(f"--branches must be whole numbers from 1, not {','.join(map(str, counts)) or 'nothing'}")
    if own is None:
        return tuple(builtin_prompts(settings.kind, counts[-1], settings.seed)), tuple(counts)
    if counts[-1] > len(own):
        raise ConfigError(f"--branches {counts[-1]} needs as many prompts; {settings.file} has {len(own)}")
    return tuple(own[: counts[-1]]), tuple(counts)


def _warm(settings: BenchSettings, prompts: Sequence[str]) -> tuple[str, ...]:
    """Prompts of the seed for warming, without those that are measured."""
    seed = settings.warm_seed
    if seed is None:
        return ()
    if settings.file is not None:
        raise ConfigError("--warm-seed takes built-in prompts of another seed; it cannot be used with --prompts")
    if seed == settings.seed:
        raise ConfigError(f"--warm-seed {seed} is the seed of the measured prompts; expected another one")
    measured = set(prompts)
    return tuple(text for text in builtin_prompts(settings.kind, len(prompts), seed) if text not in measured)


def writable(path: Path | None, option: str, suffixes: Sequence[str] = ()) -> None:
    """Make sure that a file can be written after the runs, so that none is in vain. Raises ConfigError."""
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise ConfigError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: expected a file in a folder that exists")
