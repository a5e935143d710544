"""Several plans in turn with the same modes in memory: kinds of task, temperatures, and repeats on fresh prompts."""

from __future__ import annotations

from collections.abc import Sequence

from treeagent.errors import TreeagentError

from ..local.base import find_device
from .config.methods import Cell
from .measure import Bench
from .progress import BenchProgress
from .runners.pool import LoadedModes


class WorkloadGrid:
    """Carries out the plans of all cells. What has been measured is in ``benches`` also when it was interrupted."""

    def __init__(self, planned: Sequence[Cell], board: BenchProgress) -> None:
        self.cells = tuple(planned)
        self._board = board
        self._loaded = LoadedModes(find_device(planned[0].plans[0].device))
        self.benches = [[Bench(plan, board, self._loaded) for plan in cell.plans] for cell in planned]
        """For each cell one a repeat."""
        self.failures: dict[tuple[int, int], str] = {}
        """Cell and repeat, and why no mode at all could run there."""
        board.expect(sum(bench.steps for benches in self.benches for bench in benches))

    @property
    def measured(self) -> bool:
        """Whether any run succeeded."""
        return any(run.measurement for benches in self.benches for bench in benches for run in bench.runs)

    def measure(self) -> None:
        """Run everything. Raises TreeagentError when nothing at all could run; other failures are kept."""
        last: TreeagentError | None = None
        try:
            for place, cell in enumerate(self.cells):
                for repeat, bench in enumerate(self.benches[place]):
                    self._board.say(f"{cell.workload}, temperature {cell.temperature:g}, seed {bench.plan.seed}")
                    try:
                        bench.measure()
                    except TreeagentError as error:
                        self.failures[place, repeat], last = str(error), error
                        self._board.say(f"  nothing could run here: {error}")
        finally:
            self._loaded.close()
        if last is not None and not self.measured:
            raise last

    def failures_of(self, place: int) -> dict[int, str]:
        """The failures of one cell, by repeat."""
        return {repeat: why for (cell, repeat), why in self.failures.items() if cell == place}
