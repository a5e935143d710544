"""What is to be measured, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from treeagent.backend import Key, Sampling
from treeagent.errors import ConfigError

from ..workloads import prompts as workload
from .modes import PLAIN, SERIAL, Mode, chosen, find

EXACT = ("float32", "float64")
"""Types of numbers in which every lossless way to decode gives the same tokens, but for ties."""
DOUBLINGS = tuple(2**power for power in range(9))
"""Branches of ``--scaling``: 1 to 256."""
PLOTS = (".png", ".svg", ".pdf")


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


def plan(
    *,
    model: str,
    draft: str | None,
    device: str | None,
    dtype: str,
    threads: int | None,
    chat: bool,
    kind: str,
    file: Path | None,
    seed: int,
    warm_seed: int | None,
    branches: Sequence[int] | None,
    sampling: Sampling,
    modes: Sequence[str] | None,
    baseline: str | None,
    reference: str | None,
    check: bool,
    repeat: int,
    sequential: bool,
    reopen: bool,
    scaling: bool,
) -> Plan:
    """A checked plan; None stands for a default. Raises ConfigError."""
    named = chosen(["seed"] if scaling and modes is None else modes, draft)
    if baseline is None:
        baseline = SERIAL if any(mode.name == SERIAL for mode in named) else named[0].name
    elif all(mode.name != baseline for mode in named):
        named = (*chosen([baseline], draft), *named)
    if reference is None:
        # Serial decoding of 256 prompts would take longer than all the rest, so a batched reference serves there.
        reference = PLAIN if sampling.temperature > 0 or scaling else SERIAL
    held = find(reference)
    if sampling.temperature > 0 and not held.keyed:
        raise ConfigError(
            f"--reference {reference} cannot be compared with at a temperature above 0: it draws noise of its own. "
            f"Expected {PLAIN} or a mode of the engine."
        )
    chosen([reference], draft)
    prompts, counts = _prompts(kind, file, seed, branches, scaling=scaling)
    warm: tuple[str, ...] = ()
    if warm_seed is not None:
        warm = _warm(kind, file, seed, warm_seed, prompts)
    return Plan(
        model, draft, device, dtype, threads, chat, str(file) if file is not None else kind, seed, prompts, warm_seed,
        warm, counts, sampling, named, baseline, reference if check else None, repeat, sequential, reopen, scaling,
    )  # fmt: skip


def _prompts(
    kind: str, file: Path | None, seed: int, branches: Sequence[int] | None, *, scaling: bool
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Prompts, and how many of them each run takes."""
    given = None if file is None else workload.read_prompts(file)
    if branches is None:
        most = None if given is None else len(given)
        counts = [count for count in DOUBLINGS if most is None or count <= most] if scaling else [most or 16]
    else:
        counts = sorted(set(branches))
    if not counts or counts[0] < 1:
        raise ConfigError(f"--branches must be whole numbers from 1, not {','.join(map(str, counts)) or 'nothing'}")
    if given is None:
        return tuple(workload.prompts(kind, counts[-1], seed)), tuple(counts)
    if counts[-1] > len(given):
        raise ConfigError(f"--branches {counts[-1]} needs as many prompts; {file} has {len(given)}")
    return tuple(given[: counts[-1]]), tuple(counts)


def _warm(kind: str, file: Path | None, seed: int, warm_seed: int, prompts: Sequence[str]) -> tuple[str, ...]:
    if file is not None:
        raise ConfigError("--warm-seed takes built-in prompts of another seed; it cannot be used with --prompts")
    if warm_seed == seed:
        raise ConfigError(f"--warm-seed {warm_seed} is the seed of the measured prompts; warm up with another one")
    known = set(prompts)
    return tuple(text for text in workload.prompts(kind, len(prompts), warm_seed) if text not in known)


def writable(path: Path | None, option: str, suffixes: Sequence[str] = ()) -> None:
    """Make sure that a file can be written after the runs, so that none is in vain. Raises ConfigError."""
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise ConfigError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: expected a file in a folder that exists")
