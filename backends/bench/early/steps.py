"""The measurements, in the order of their worth: what a session has no time for at the end is worth least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from treeagent.errors import ConfigError

from .cases import HANDS, Workload

SETTINGS: tuple[int | str, ...] = (0, "auto", 8)
"""Of ``speculate``, on the engine."""
PARTS = ("simulated", "engine", "bound", "neither", "together")
MANY = ("dfs", "bfs")
"""Searches that solve all inputs at once."""
ALONE = ("dfs", "mcts")
"""Searches that are also measured without token speculation."""
Measure = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    workload: Workload
    parts: tuple[str, ...]
    searches: tuple[str, ...]
    prices: tuple[float, ...]
    """Of a further row on the simulated engine."""
    repeats: int
    inputs: int
    many: int
    """Inputs at once."""
    threads: int | None = None
    """Of torch, on the engine; None: as many as it takes by itself."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a part that does not exist."""
        if unknown := set(self.parts) - set(PARTS):
            raise ConfigError(f"--parts {sorted(unknown)[0]}: expected some of {','.join(PARTS)}")

    def steps(self) -> Iterator[tuple[str, Measure]]:
        """Names of measurements, and what makes them."""
        if "simulated" in self.parts:
            yield from self._simulated()
        if set(self.parts) - {"simulated"}:
            yield from self._on_engine()

    def _simulated(self) -> Iterator[tuple[str, Measure]]:
        from ...seed.backend import SeedBackend  # noqa: PLC0415  # brings torch, which --help can do without
        from .simulated_runs import SimulatedRuns  # noqa: PLC0415

        simulated = SimulatedRuns(SeedBackend("mini", drafter="none"))
        for name in self.searches:
            for each in self.prices:
                yield f"simulated {name} each={each:g}", partial(simulated.row, name, HANDS, "auto", each)

    def _on_engine(self) -> Iterator[tuple[str, Measure]]:
        from .engine_runs import EngineRuns  # noqa: PLC0415
        from .timed_chain import TimedChains  # noqa: PLC0415

        trees: dict[str, str] = {}
        engine = EngineRuns(self.workload, trees, threads=self.threads)
        without = EngineRuns(self.workload, trees, "none", threads=self.threads)
        chains = TimedChains(engine.model, self.workload)
        few, many, model = self.workload.inputs(self.inputs), self.workload.inputs(self.many), self.workload.model
        for repeat in range(self.repeats):
            for name in self.searches if "engine" in self.parts else ():
                for speculate in SETTINGS:
                    yield f"{model} {name} speculate={speculate} {repeat}", partial(engine.row, name, few, speculate)
            for name in self.searches if "bound" in self.parts and not repeat else ():
                yield f"{model} {name} bound", partial(chains.row, name, few)
            for name in self._of(ALONE, "neither"):
                yield f"{model} {name} neither {repeat}", partial(without.row, name, few, 0)
            for name in self._of(MANY, "together"):
                for speculate in SETTINGS[:2]:
                    said = f"{model} {name} together={self.many} speculate={speculate} {repeat}"
                    yield said, partial(engine.many, name, many, speculate)

    def _of(self, names: tuple[str, ...], part: str) -> tuple[str, ...]:
        return tuple(name for name in names if name in self.searches) if part in self.parts else ()
