"""Predict what drafts can gain: ``python -m treeagent.backends.bench.draft_bound --model smollm2 --draft twin``.

For each number of branches the prompts of a workload are completed without drafts, while a draft model, a head or a
table drafts at every place (:mod:`.draft_record`). What would have been right, and the seconds of passes, give the
speed-up of every fixed depth, and of a choice that knows beforehand what is right (:mod:`.draft_replay`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import torch

from treeagent.reply import Round
from treeagent.request import Key, Request, Sampling

from ..local import model_thread
from ..seed.backend import SeedBackend
from ..seed.executor.cost_table import CostTable
from ..seed.executor.model_runner import ModelRunner
from ..seed.executor.pass_cost import PassCost
from ..seed.executor.pass_work import PassWork
from ..seed.executor.trial_pass import TrialPass, make_slots, run_trial, trial_segments
from ..seed.executor.weights import WeightCache
from .draft_record import RecordedText, RecordingDrafter
from .draft_replay import RoundSeconds, fixed, hindsight, perfect, replay
from .options import add_max_tokens, add_model, add_out, add_threads
from .results.record import machine
from .workloads.prompts import KINDS, builtin_prompts

DEPTH = 6
"""Tokens that are drafted at every place."""
UNLIKELY = 0.02
"""Tokens of a table that are accepted more rarely are left out, as its trees are wide."""
PASSES = [TrialPass(rows, nodes=nodes) for nodes in (0, 1, 2, 3) for rows in (1, 2, 4, 8, 16, 32)]
REPEATS = 4
"""How often each is made; the least time counts."""
SEED = 5
"""Of the prompts, as in ``treeagent bench``."""


@dataclass(frozen=True, slots=True)
class DraftBound:
    """What drafts can gain for some prompts at once."""

    workload: str
    branches: int
    passes: list[float]
    """Predicted seconds of a pass of the target with 0, 1, 2 ... drafted tokens for every branch."""
    levels: list[float]
    """Seconds of the first level of a draft for all branches, and of a further one, the choice of tokens included."""
    listening: float
    """Seconds that the drafter takes of each pass of the target."""
    prompts: float
    """Seconds of the rounds that read the prompts."""
    reading: float
    """Seconds in which the drafter reads the prompts."""
    accepted: list[float | None]
    """By position in a draft: the share of right tokens where those before were right."""
    decoding: dict[str, float]
    """Seconds without drafts over those with, by depth and with ``hindsight``, after the prompts."""
    whole: dict[str, float]
    """The same with the prompts."""
    perfect: float
    """The speed-up after the prompts if all that is drafted were right, and drafting took no time."""

    @property
    def best(self) -> str:
        """The fixed depth that takes the least time."""
        return max((name for name in self.whole if name.isdigit()), key=self.whole.__getitem__)


def shares(texts: Sequence[RecordedText]) -> list[float | None]:
    """See :attr:`DraftBound.accepted`."""
    right = [own for text in texts for own in text.right]
    tried = [sum(own >= depth for own in right) for depth in range(DEPTH + 1)]
    return [tried[depth + 1] / tried[depth] if tried[depth] else None for depth in range(DEPTH)]


def measured_passes(runner: ModelRunner) -> PassCost:
    """Seconds of the target's passes, measured now: a stored table is enough to draft by, not to compare with."""
    times: list[tuple[PassWork, float]] = []
    with runner.profiling():
        make_slots(runner, PASSES)
        for trial in PASSES:
            with trial_segments(runner, trial) as segments:
                runs = [run_trial(runner, segments) for _ in range(REPEATS)]
            times.append((runs[0][0], min(seconds for _, seconds in runs)))
    return PassCost(CostTable.fit(times))


def bound(
    backend: SeedBackend, target: PassCost, draft: PassCost | None, workload: str, branches: int, most: int
) -> DraftBound:
    """Complete prompts of a kind, all at once, up to ``most`` tokens each.

    ``target``, ``draft``: seconds of passes of the target, and of the draft model if there is one.
    """
    prompts = builtin_prompts(workload, branches, SEED)
    short, _ = record(backend, prompts, 1, most)
    long, rounds = record(backend, prompts, DEPTH, most)
    begun = short.draft_seconds()
    more = max(0.0, long.draft_seconds() - begun) / (DEPTH - 1)

    def level(number: int, rows: int) -> float:
        share = rows / branches if draft is None else draft(rows) / draft(branches)
        return share * (more if number else begun)

    first = sum(
        each.seconds
        - long.draft_seconds_in(each.began, each.began + each.seconds)
        - (target(each.rows) if each.rows else 0)
        for each in rounds
        if each.read
    )
    texts, reading = long.texts(), long.reading_seconds()
    seconds = RoundSeconds(target, level, long.listening_seconds())
    plain = replay(texts, RoundSeconds(target, level), fixed(0))
    choices = {str(depth): fixed(depth) for depth in range(1, DEPTH + 1)} | {"hindsight": hindsight(seconds)}
    took = {name: replay(texts, seconds, choose) for name, choose in choices.items()}
    return DraftBound(
        workload,
        branches,
        [target(branches, branches * depth) for depth in range(DEPTH + 1)],
        [begun, more],
        seconds.listening,
        first,
        reading,
        shares(texts),
        {name: plain / own for name, own in took.items()},
        {name: (first + plain) / (first + reading + own) for name, own in took.items()},
        perfect(target, branches, DEPTH),
    )


def record(backend: SeedBackend, prompts: Sequence[str], depth: int, most: int) -> tuple[RecordingDrafter, list[Round]]:
    """What is drafted for all prompts at once, and the rounds in which it was."""
    backend.reset()
    parts = backend.core.parts
    assert parts is not None  # noqa: S101  # it is loaded
    drafter = parts.scheduler.speculator.drafter
    assert drafter is not None  # noqa: S101  # the options name one
    recorder = RecordingDrafter(drafter, depth, UNLIKELY if parts.draft_runner is None else 0.0)
    model_thread.run(lambda: parts.scheduler.speculator.start(recorder))
    rounds, sampling = backend.core.rounds(), Sampling(max_tokens=most)
    requests = [Request(text, Key(0, "propose", str(place)), sampling) for place, text in enumerate(prompts)]

    async def ask() -> None:
        await asyncio.gather(*map(backend.generate, requests))

    asyncio.run(ask())
    return recorder, rounds()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_model(parser, "mini")
    parser.add_argument("--draft", help="a draft model, a head, or twin (default: the token table ngram)")
    parser.add_argument("--dtype", default="float32", help="numbers of the weights (default: float32)")
    parser.add_argument("--workload", default="gsm8k", help=f"kinds of the prompts, of {', '.join(KINDS)}")
    parser.add_argument("--branches", default="1,4,16", help="numbers of prompts at once (default: 1,4,16)")
    add_max_tokens(parser, 64)
    add_threads(parser)
    add_out(parser, "file of results")
    chosen = parser.parse_args()
    common: dict[str, Any] = {
        "draft": chosen.draft, "dtype": chosen.dtype, "threads": chosen.threads, "chat": False, "shelf": WeightCache(),
        "drafter": "model" if chosen.draft else "ngram",
    }  # fmt: skip
    timed = SeedBackend(chosen.model, **common)
    timed.load()
    parts = timed.core.parts
    assert parts is not None  # noqa: S101  # it is loaded
    draft = parts.draft.cost
    backend = SeedBackend(chosen.model, draft_tokens=DEPTH, **common)
    backend.load()
    loaded = backend.core.parts
    assert loaded is not None  # noqa: S101  # it is loaded
    target = model_thread.run(lambda: measured_passes(loaded.scheduler.runner))
    bounds = []
    print("prompts      branches  accepted at 1, 2, 3  best depth  speed-up: decoding, whole, hindsight  perfect")
    for workload in chosen.workload.split(","):
        for branches in map(int, chosen.branches.split(",")):
            found = bound(backend, target, draft, workload, branches, chosen.max_tokens)
            bounds.append(found)
            accepted = " ".join("   -" if own is None else f"{own:4.0%}" for own in found.accepted[:3])
            gains = (found.decoding[found.best], found.whole[found.best], found.whole["hindsight"], found.perfect)
            shown = "  ".join(f"{own:6.2f}" for own in gains)
            print(f"{workload:12} {branches:8}  {accepted:>19}  {found.best:>10}  {shown}", flush=True)
    if chosen.out is not None:
        report: dict[str, Any] = {
            "kind": "draft bounds",
            "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        report |= {"model": chosen.model, "draft": chosen.draft, "dtype": chosen.dtype, "max_tokens": chosen.max_tokens}
        report |= {
            "machine": machine(chosen.threads, torch.device("cpu"), None),
            "bounds": [asdict(each) for each in bounds],
        }
        chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
