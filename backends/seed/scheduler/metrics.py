"""What the engine counts, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from treeagent.reply import Round

from ..records import Draft
from ..verifiers.base import Verification
from . import ratio_bins

DEPTHS = 16
"""Draft positions, and exits of a draft model, that are counted apart."""


@dataclass(slots=True)
class Counters:
    """Sums since the engine was loaded; the figures of a period are differences of two of these."""

    rounds: int = 0
    """Target passes."""
    read: int = 0
    """Prompt tokens computed."""
    row_passes: int = 0
    """Rows verified, summed over rounds."""
    tokens: int = 0
    """Tokens committed, end-of-text tokens included."""
    drafted: int = 0
    accepted: int = 0
    forced: int = 0
    """Those of ``drafted`` that a constraint all but forces."""
    forced_accepted: int = 0
    tried_by_position: list[int] = field(default_factory=lambda: [0] * DEPTHS)
    """Drafted nodes whose parent was accepted, by depth."""
    accepted_by_position: list[int] = field(default_factory=lambda: [0] * DEPTHS)
    prefix_tokens_reused: int = 0
    """Prompt tokens that were cached already when their request was admitted."""
    prefix_tokens_computed: int = 0
    """Prompt tokens that had to be computed."""
    seconds: float = 0.0
    """Time of rounds."""
    target_seconds: float = 0.0
    """Of it in target passes."""
    draft_seconds: float = 0.0
    """Of it in the draft model's passes."""
    draft_passes: int = 0
    draft_exits: list[int] = field(default_factory=lambda: [0] * DEPTHS)
    """Tokens that ended at each exit of the draft model, prompts not counted."""
    predicted_seconds: float = 0.0
    """Time of verifying passes as predicted from what they computed."""
    verified_seconds: float = 0.0
    """Their measured time. Passes that also computed prompts are left out of both."""
    ratios: list[int] = field(default_factory=lambda: [0] * ratio_bins.SIZE)
    """The same passes by measured over predicted time."""
    preempted: int = 0
    """Jobs whose keys and values were freed for want of memory, and computed again later."""
    judgements: int = 0
    """Texts whose rewards a process reward model has read."""
    judgement_tokens: int = 0
    """Tokens that were computed for them."""
    early_rows: int = 0
    """Rows of requests sent early, verified beside others, summed over rounds."""
    early_set_aside: int = 0
    """How often such a row was left out of a pass after it had been in one."""
    early_tokens_wasted: int = 0
    """Tokens of early requests that were cancelled before they were wanted for certain."""

    def copy(self) -> Counters:
        """As they are now."""
        return Counters(**{f.name: _copy(getattr(self, f.name)) for f in fields(self)})

    def since(self, before: Counters) -> Counters:
        """The difference."""
        return Counters(**{f.name: _minus(getattr(self, f.name), getattr(before, f.name)) for f in fields(self)})

    def as_rounds(self, began: float, seconds: float) -> list[Round]:
        """The difference that one call of passes made, as a record for each of them.

        Of several passes each took its part of the time, and rows leave from one to the next.
        """
        count, sums = self.rounds, (self.row_passes, self.read, self.drafted, self.accepted, self.tokens)
        each = seconds / count
        return [
            Round(began + at * each, each, *((total + count - 1 - at) // count for total in sums))
            for at in range(count)
        ]

    def add_prompt(self, tokens: int, reused: int) -> None:
        """Count the prompt of an admitted branch, of which so many tokens were cached."""
        self.prefix_tokens_reused += reused
        self.prefix_tokens_computed += tokens - reused

    def add_judgement(self, tokens: int) -> None:
        """Count a text whose rewards a process reward model has read, for which so many tokens were computed."""
        self.judgements += 1
        self.judgement_tokens += tokens

    def add_preemption(self) -> None:
        """Count a preempted job."""
        self.preempted += 1

    def add_early(self, rows: int, set_aside: int) -> None:
        """Count the early rows in a pass, and those that were in the last one and not in this."""
        self.early_rows += rows
        self.early_set_aside += set_aside

    def add_early_waste(self, tokens: int) -> None:
        """Count the tokens of an early request that was given up."""
        self.early_tokens_wasted += tokens

    def add_pass(self, prompt_tokens: int) -> None:
        """Count a target pass that computed so many prompt tokens."""
        self.rounds += 1
        self.read += prompt_tokens

    def add_steps(self, passes: int, early_rows: int) -> None:
        """Count passes that were made in one call, and the ``early_rows`` of all but the first."""
        self.rounds += passes
        self.early_rows += early_rows

    def count_steps(self, passes: int, committed: int) -> None:
        """Count a row of so many of these passes, of which so many tokens were ``committed``."""
        self.row_passes += passes
        self.tokens += committed

    def add_prediction(self, rows: int, predicted: float, seconds: float) -> None:
        """Count the predicted and the measured time of a pass without prompt tokens."""
        self.ratios[ratio_bins.place(rows, seconds / predicted)] += 1
        self.predicted_seconds += predicted
        self.verified_seconds += seconds

    def add_round(self, seconds: float, target_seconds: float) -> None:
        """Count the time of a round, and of the target pass in it."""
        self.seconds += seconds
        self.target_seconds += target_seconds

    def add_drafting(self, seconds: float, passes: int, exits: Sequence[int]) -> None:
        """Count the draft model's work in a round; ``exits``: tokens that ended at each of its exits."""
        self.draft_seconds += seconds
        self.draft_passes += passes
        for place, tokens in enumerate(exits):
            self.draft_exits[min(place, DEPTHS - 1)] += tokens

    def count(self, draft: Draft, verification: Verification, committed: int) -> Sequence[tuple[float, bool]]:
        """Count a verified draft, of which so many tokens were ``committed``.

        Returns (confidence, accepted) of every drafted token whose parent was accepted.
        """
        self.tokens += committed
        self.row_passes += 1
        if not draft.tokens:
            return ()
        accepted = set(verification.accepted)
        self.drafted += len(draft)
        self.accepted += len(accepted)
        self.forced += draft.forced
        self.forced_accepted += sum(node < draft.forced for node in accepted)
        outcomes = []
        levels = set()
        depths: dict[int, int] = {-1: -1}
        for node, parent in enumerate(draft.parents):
            depths[node] = depths[parent] + 1
            if parent == -1 or parent in accepted:
                outcomes.append((draft.confidence[node], node in accepted))
                levels.add(depths[node])
        for depth in levels:
            self.tried_by_position[min(depth, DEPTHS - 1)] += 1
        for node in accepted:
            self.accepted_by_position[min(depths[node], DEPTHS - 1)] += 1
        return outcomes

    def count_beams(self, drafted: int, steps: int, *, ended: bool) -> list[bool]:
        """Count a pass over a group of beams: a group counts as one row, a step and a drafted layer as one token.

        Returns for every drafted layer that was verified whether it was accepted; where the last step ``ended`` all
        beams, it is unknown for that step's layer.
        """
        tried = min(steps - ended, drafted)
        self.tokens += steps
        self.row_passes += 1
        self.drafted += drafted
        self.accepted += steps - 1
        for depth in range(tried):
            self.tried_by_position[min(depth, DEPTHS - 1)] += 1
        for depth in range(steps - 1):
            self.accepted_by_position[min(depth, DEPTHS - 1)] += 1
        return [depth < steps - 1 for depth in range(tried)]

    def figures(self) -> dict[str, Any]:
        """All figures of a report, by name; unknown is None."""
        left = sum(self.draft_exits)
        exits = max((i + 1 for i, tokens in enumerate(self.draft_exits) if tokens), default=0)
        reached = max((i + 1 for i, tried in enumerate(self.tried_by_position) if tried), default=0)
        kinds = ratio_bins.by_rows(self.ratios)
        every = [sum(counts) for counts in zip(*kinds, strict=True)]
        outside = self.seconds - self.target_seconds - self.draft_seconds
        return {
            "tokens": self.tokens,
            "tokens_per_second": _ratio(self.tokens, self.seconds),
            "seconds": round(self.seconds, 4),
            "rounds": self.rounds,
            "rows_per_round": _ratio(self.row_passes, self.rounds),
            "block_efficiency": _ratio(self.tokens, self.row_passes),
            "drafted": self.drafted,
            "accepted": self.accepted,
            "forced": self.forced,
            "forced_accepted": self.forced_accepted,
            "acceptance": _ratio(self.accepted, self.drafted),
            "acceptance_by_position": [
                _ratio(good, tried)
                for good, tried in zip(self.accepted_by_position[:reached], self.tried_by_position, strict=False)
            ],
            "prefix_tokens_reused": self.prefix_tokens_reused,
            "prefix_tokens_computed": self.prefix_tokens_computed,
            "prefix_reuse": _ratio(self.prefix_tokens_reused, self.prefix_tokens_reused + self.prefix_tokens_computed),
            "target_seconds": round(self.target_seconds, 4),
            "draft_seconds": round(self.draft_seconds, 4),
            "draft_passes": self.draft_passes,
            "draft_exits": [_ratio(tokens, left) for tokens in self.draft_exits[:exits]],
            "overhead": _ratio(outside, self.seconds),
            "measured_over_predicted": _ratio(self.verified_seconds, self.predicted_seconds),
            "measured_over_predicted_quantiles": [ratio_bins.quantile(every, share) for share in (0.1, 0.5, 0.9)],
            "measured_over_predicted_by_rows": [ratio_bins.quantile(counts, 0.5) for counts in kinds],
            "preempted": self.preempted,
            "judgements": self.judgements,
            "tokens_per_judgement": _ratio(self.judgement_tokens, self.judgements),
            "early_rows": self.early_rows,
            "early_set_aside": self.early_set_aside,
            "early_tokens_wasted": self.early_tokens_wasted,
        }


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _copy(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _minus(now: Any, before: Any) -> Any:
    if isinstance(now, list):
        return [a - b for a, b in zip(now, before, strict=True)]
    return now - before
