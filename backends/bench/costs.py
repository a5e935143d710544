"""Compare measured with predicted pass times: ``python -m treeagent.backends.bench.costs``.

Makes passes of the engine ``seed`` for several numbers of rows at a short and a long context, without drafts and with.
None of them is among those that the prediction was fitted to. Prints for each the median of its measured seconds, the
prediction and their ratio, and, for passes with drafts, the seconds of a drafted token.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..models import catalog
from ..models.loader import load_model
from ..seed.executor.model_runner import ModelRunner
from ..seed.executor.pass_cost import PassCost
from ..seed.executor.profiler import profile_cost
from ..seed.executor.trial_pass import TrialPass, make_slots, run_trial, trial_segments
from ..seed.executor.weights import WeightCache
from .options import add_model, add_threads

ROWS = (1, 4, 16, 64, 128, 250)
CONTEXTS = {"short": (200, 40), "long": (1000, 200)}
"""Shared and mean private context tokens of a row."""
DRAFTED = {1: 10, 4: 5, 16: 2, 64: 1}
"""Mean drafted tokens of a row, by rows."""
REPEATS = 5
SLOTS = 30_000
"""The most private context tokens of all rows of a pass; with more rows each has less."""


@dataclass(frozen=True, slots=True)
class PassTime:
    """One size of passes."""

    context: str
    rows: int
    nodes: int
    """Drafted tokens of all rows."""
    measured: float
    """Median seconds."""
    predicted: float


def trials() -> Iterator[tuple[str, TrialPass]]:
    """The passes, each with the name of its context."""
    for name, (shared, private) in CONTEXTS.items():
        for rows in ROWS:
            plain = TrialPass(rows, private=min(private, SLOTS // rows), shared=shared)
            yield name, plain
            if rows in DRAFTED:
                yield name, replace(plain, nodes=DRAFTED[rows])


def measure(runner: ModelRunner, cost: PassCost) -> Iterator[PassTime]:
    """The times of all passes. The prediction follows the machine's speed, as in use."""
    with runner.profiling():
        make_slots(runner, [trial for _, trial in trials()])
        for name, trial in trials():
            with trial_segments(runner, trial) as segments:
                run_trial(runner, segments)
                times, predictions = [], []
                for _ in range(REPEATS):
                    work, seconds = run_trial(runner, segments)
                    times.append(seconds)
                    predictions.append(cost.record(work, seconds))
            nodes = trial.tokens() - trial.rows
            yield PassTime(name, trial.rows, nodes, statistics.median(times), statistics.median(predictions))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_model(parser, "mini")
    parser.add_argument("--dtype", default="float32", help="numbers of the weights (default: float32)")
    add_threads(parser)
    chosen = parser.parse_args()
    import torch  # noqa: PLC0415

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    device, where = torch.device("cpu"), catalog.resolve(chosen.model)
    weights = WeightCache().take(where, chosen.dtype, device, lambda: load_model(where, chosen.dtype, device))
    runner = ModelRunner(weights, 1 << 40)
    cost, plain = profile_cost(runner, chosen.dtype), 0.0
    print("context  rows  drafted  measured ms  predicted ms  ratio  ms of a drafted token, measured and predicted")
    for time in measure(runner, cost):
        measured, predicted = 1e3 * time.measured, 1e3 * time.predicted
        line = f"{time.context:>7} {time.rows:5} {time.nodes:8} {measured:12.2f} {predicted:13.2f}"
        line += f" {measured / predicted:6.2f}"
        if time.nodes:
            more = 1e3 * (cost(time.rows, time.nodes) - cost(time.rows))
            line += f" {(measured - plain) / time.nodes:8.3f} {more / time.nodes:8.3f}"
        plain = measured
        print(line, flush=True)


if __name__ == "__main__":
    main()
