"""Drafts that were drawn at random are verified whole however short memory is; the law of the text depends on it.

The models are tables of logits, so that thousands of rounds take seconds; everything else is the engine's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from device import DEVICE
from seed_tools import Open, ask, clean, request, scheduler, tokenizer_size

from treeagent.backends.seed.drafters.hybrid import HybridDrafter
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.kv_cache.pool import Slots
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.scheduler.beam_job import BeamJob
from treeagent.backends.seed.scheduler.decode_job import DecodeJob
from treeagent.backends.seed.speculation.speculator import Speculator
from treeagent.request import Request

pytestmark = pytest.mark.usefixtures("fixed_times")

ROUNDS = 600
"""Of each case; thousands of all."""
DRAFTERS = {"ngram+model": 4, "ngram+rsd-c:2x2": 6, "ngram+rsd-s:3x2": 6}
"""With the nodes of a whole draft."""


def lookup(runner: ModelRunner, table: torch.Tensor) -> Callable[[Sequence[Segment]], tuple[torch.Tensor, list[range]]]:
    """A forward whose logits are a row of ``table`` (V, V), by the last token."""

    def forward(segments: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        tokens: list[int] = []
        rows = []
        for segment in segments:
            rows.append(range(len(tokens), len(tokens) + len(segment.wanted)))
            tokens += [segment.tokens[i] for i in segment.wanted]
        runner.passes += 1
        runner.seconds += 0.001
        return table[torch.tensor(tokens, dtype=torch.long, device=table.device)], rows

    return forward


class Count:
    """Counts what becomes of the drafts that a draft model draws."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.pending: dict[SequenceState, list[int]] = {}

    def watch(self, drafter: HybridDrafter, patch: pytest.MonkeyPatch) -> None:
        """Note each drawn draft, and whether the pass that verifies it computes all of it."""
        propose, forget = drafter.model.propose, Speculator.forget
        segments = {BeamJob: BeamJob.segments, DecodeJob: DecodeJob.segments}

        def proposing(rows: Sequence[SequenceState], *arguments: Any) -> list[Draft]:
            drafts = propose(rows, *arguments)
            for row, draft in zip(rows, drafts, strict=True):
                if len(draft) and (draft.law is not None or row.group is not None):
                    self.pending[row] = list(draft.tokens)
            return drafts

        def verifying(job: BeamJob | DecodeJob, slots: Sequence[Slots]) -> list[Segment]:
            for row, draft in zip(job.sequences, job.next_drafts(), strict=True):
                if row in self.pending:
                    whole = self.pending.pop(row) == draft.tokens
                    self.ends[f"{'beam' if row.group else 'single'} {'whole' if whole else 'lost'}"] += 1
            return segments[type(job)](job, slots)

        def forgetting(speculator: Speculator, rows: Sequence[SequenceState]) -> None:
            for row in rows:
                self.ends["preempted"] += self.pending.pop(row, None) is not None
            forget(speculator, rows)

        patch.setattr(drafter.model, "propose", proposing)
        patch.setattr(BeamJob, "segments", verifying)
        patch.setattr(DecodeJob, "segments", verifying)
        patch.setattr(Speculator, "forget", forgetting)

    @property
    def lost(self) -> int:
        """Drafts that were dropped or cut after they had been drawn."""
        return self.ends["single lost"] + self.ends["beam lost"] + len(self.pending)


def batches() -> Iterator[list[Request]]:
    """Texts of different length and number, and some beams."""
    for turn in range(10**6):
        texts = [request(i % 4, 100 * turn + i, 2, temperature=1.0, max_tokens=10 + 7 * i) for i in range(6)]
        yield [*texts, request(1, 100 * turn + 9, num_beams=3, temperature=0.7, max_tokens=14)]


def play(opened: Open, pair: Path, name: str, policy: str, least: int = ROUNDS) -> tuple[Count, dict[str, Any]]:
    """What becomes of drawn drafts in at least so many rounds with little memory, and the engine's figures."""
    backend = opened(
        draft=str(pair / "model-draft"), drafter=name, verify="recursive", policy=policy, draft_tokens=DRAFTERS[name]
    )
    torch.manual_seed(0)
    target = torch.randn(tokenizer_size(), tokenizer_size(), dtype=torch.float64, device=DEVICE) * 2
    target[:, 0] = -3.0  # texts rarely end
    relative = target + 0.7 * torch.randn_like(target)
    count, read, parts = Count(), backend.meter(), backend.core.parts
    assert parts is not None
    assert parts.draft_runner is not None
    with pytest.MonkeyPatch.context() as patch:
        for runner, table in ((parts.scheduler.runner, target), (parts.draft_runner, relative)):
            patch.setattr(runner, "forward", lookup(runner, table))
        drafter = parts.scheduler.speculator.drafter
        assert isinstance(drafter, HybridDrafter)
        count.watch(drafter, patch)
        for turn, requests in enumerate(batches()):
            pool = parts.scheduler.runner.forest.pool
            pool.limit = (120, 150, 190, 240)[turn % 4]
            ask(backend, *requests)
            clean(backend)
            if scheduler(backend).counters.rounds >= least:
                break
    return count, read()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", ["rounds", "fcfs"])
@pytest.mark.parametrize("name", DRAFTERS)
def test_no_drawn_draft_is_dropped_or_cut(opened: Open, pair: Path, name: str, policy: str) -> None:
    """Of hundreds that were drawn beside a table while memory was full; single texts and beams."""
    count, figures = play(opened, pair, name, policy)
    assert count.lost == 0
    assert count.ends["single whole"] > 100
    assert count.ends["beam whole"] > 10
    assert figures["preempted"] > 10


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", DRAFTERS)
def test_without_bounds_drawn_drafts_would_be_lost(
    opened: Open, pair: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count sees an engine that sets no memory aside before it draws."""
    monkeypatch.setattr(Speculator, "_nodes_drawn", lambda *_: 0)
    assert play(opened, pair, name, "rounds", 150)[0].lost > 0
