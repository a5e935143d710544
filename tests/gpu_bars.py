"""The bars of the engine on a GPU beside what was measured, from the files of one folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "gpu-bars"
"""What a document quotes."""
OPEN = "not measured yet"

Report = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One line of the table."""

    what: str
    wanted: str
    file: str
    """Without its end."""
    measure: Callable[[Report], float | None]
    """The figure; None where the file does not have it."""
    least: float | None = None
    most: float | None = None
    shown: str = ".2f"

    def line(self, folder: Path) -> str:
        """In Markdown."""
        path, said = folder / f"{self.file}.json", OPEN
        figure = self.measure(json.loads(path.read_text())) if path.exists() else None
        if figure is not None:
            met = (self.least is None or figure >= self.least) and (self.most is None or figure <= self.most)
            verdict = "" if self.least is None and self.most is None else ": met" if met else ": not met"
            said = f"{figure:{self.shown}}".replace("%", " %") + verdict
        return f"| {self.what} | `{self.step}` | {self.wanted} | {said} |"

    @property
    def step(self) -> str:
        """The name of the measurement that writes the file."""
        return self.file.removeprefix("gpu-")


def times_of_bound(report: Report) -> float | None:
    """How many times its bound a pass of 16 rows takes."""
    return next((1 / line["share"] for line in report["passes"] if line["rows"] == 16), None)


def reading(report: Report) -> float | None:
    """The least share of the time that reading the weights once would take, of passes of 1 to 16 rows."""
    return min((line["reading_share"] for line in report["passes"] if line["rows"] <= 16), default=None)


def rows_of(report: Report, branches: int = 16) -> dict[str, dict[str, Any]]:
    """The rows with figures of so many branches, by mode."""
    rows = [row for cell in report["cells"] if cell["branches"] == branches for row in cell["rows"]]
    return {row["mode"]: row for row in rows if row["tokens_per_second"]}


def ratio(own: Sequence[str], others: Sequence[str], branches: int = 16) -> Callable[[Report], float | None]:
    """The most tokens per second of some modes over the most of others, in one run."""

    def measure(report: Report) -> float | None:
        rows = rows_of(report, branches)
        ours, theirs = ([rows[mode]["tokens_per_second"] for mode in modes if mode in rows] for modes in (own, others))
        return max(ours) / max(theirs) if ours and theirs else None

    return measure


def outside(report: Report) -> float | None:
    """The largest share of the time outside passes, of the engine's modes."""
    shares = [row["overhead"] for row in rows_of(report).values() if row["overhead"] is not None]
    return max(shares, default=None)


def log_probability(report: Report) -> float | None:
    """How much less probable speculative beams are than plain ones, in natural logarithms of an output."""
    rows = rows_of(report, 4)
    plain, ours = (rows.get(mode, {}).get("score") for mode in (BEAMS, DSBD))
    return None if plain is None or ours is None else float(plain["mean"] - ours["mean"])


def seconds(report: Report) -> float | None:
    """Of `solve` on the device, of the last puzzle."""
    return float(report["seconds"][report["device"]][-1])


BATCHED, STATIC, CONTINUOUS = "transformers-batched", "transformers-static", "transformers-continuous"
NODRAFT, DRAFTED = "seed-nodraft", "seed-model"
SERIAL, FCFS = "seed-serial@drafter=model", "seed-fcfs@drafter=model"
BEAMS = "seed-nodraft@num_beams=4"
DSBD = "seed@drafter=model@beam_draft=8x3@verify=recursive@num_beams=4"
SMALL, WIDE = "SmolLM2", "the widened 7B in bfloat16"

BARS = (
    *(
        Bar(f"{SMALL} in {dtype}: a pass of 16 rows, over its bound", "at most 3 times", f"gpu-passes-small-{dtype}",
            times_of_bound, most=3)
        for dtype in ("bfloat16", "float32")
    ),
    *(
        Bar(f"{SMALL} in {dtype}, 16 branches, over transformers' batches", "at least 10 times",
            f"gpu-branches-small-{dtype}", ratio((NODRAFT, "seed"), (BATCHED,)), least=10)
        for dtype in ("bfloat16", "float32")
    ),
    Bar(f"{WIDE}: passes of 1 to 16 rows, reading the weights once", "at least 70 % of the time",
        "gpu-passes-wide-bfloat16", reading, least=0.7, shown=".0%"),
    *(
        Bar(f"{WIDE}, 16 branches without drafts, over {mode}", "at least 1.5 times", file,
            ratio((NODRAFT,), others), least=1.5)
        for mode, file, others in (
            ("transformers' modes", "gpu-branches-wide-bfloat16", (BATCHED, CONTINUOUS)),
            ("transformers' compiled mode", "gpu-static", (STATIC,)),
        )
    ),
    *(
        Bar(f"{WIDE}, 16 branches with drafts, over {mode}", "at least 2 times", file,
            ratio((DRAFTED,), others), least=2)
        for mode, file, others in (
            ("transformers' modes", "gpu-branches-wide-bfloat16", (BATCHED, CONTINUOUS)),
            ("transformers' compiled mode", "gpu-static", (STATIC,)),
        )
    ),
    Bar("DSBD over plain beams", "at least 1.5 times", "gpu-beams", ratio((DSBD,), (BEAMS,), 4), least=1.5),
    Bar("log p of an output of plain beams, less that of DSBD", "0 but for chance", "gpu-beams", log_probability),
    Bar("rounds over the paper's own schedule", "more than 1", "gpu-schedules", ratio((DRAFTED,), (FCFS,)), least=1),
    Bar("rounds over serial speculation", "more than 1", "gpu-schedules", ratio((DRAFTED,), (SERIAL,)), least=1),
    *(
        Bar(f"{what}, 16 branches: time outside passes", "at most 10 %", f"gpu-branches-{file}", outside, most=0.1,
            shown=".0%")
        for what, file in (
            (f"{SMALL} in bfloat16", "small-bfloat16"),
            (f"{SMALL} in float32", "small-float32"),
            (WIDE, "wide-bfloat16"),
        )
    ),
    Bar("`solve` of one puzzle with `mini` after load, in seconds", "at most 0.3", "gpu-trees", seconds, most=0.3),
    Bar("share of trees that are those of the CPU", "all", "gpu-trees",
        lambda report: sum(report["same"]) / len(report["same"]), least=1, shown=".0%"),
)  # fmt: skip


def bars(folder: Path) -> str:
    """The table."""
    return (
        "\n".join(
            ["| bar | `--only` | wanted | measured |", "| --- | --- | --- | --- |", *(bar.line(folder) for bar in BARS)]
        )
        + "\n"
    )
