"""Drafter with a small model: all sequences in one pass per level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ....sampling.philox import Floats
from ...executor.model_runner import ModelRunner
from ...kv_cache.radix_tree import OutOfMemory
from ...records import BeamGroup, Draft, SequenceState
from ..base import EMPTY_LOAD, Drafter, RoundLoad
from .beam_tree import BeamGrowth, BeamShape
from .draft_cache import DraftCache, DraftReader
from .prefill_policy import PrefillPolicy
from .tree_builder import TreeBuilder
from .tree_shapes import Shape


@dataclass(frozen=True, slots=True)
class DraftPolicies:
    """Decisions by measured times and recent acceptance; None decides for the draft."""

    chain_depth: Callable[[int, RoundLoad], int] | None = None
    """The most profitable number of levels for a number of sequences, next to a load."""
    level_pays: Callable[[int, int, float, RoundLoad], bool] | None = None
    """Whether another level pays: number of sequences, nodes to extend, sum of their values, and the load."""
    prefill: PrefillPolicy | None = None
    """Whether prompts of new sequences are computed; None computes all."""


class ModelDrafter(Drafter):
    """Drafts of a given shape by a model with the vocabulary of the target."""

    def __init__(
        self,
        runner: ModelRunner,
        vocabulary: int,
        shape: Shape,
        beams: BeamShape | None = None,
        policies: DraftPolicies | None = None,
        reader: DraftReader | None = None,
    ) -> None:
        """``reader`` reads sequences with the runner; None: one with a cache of its own."""
        self.runner = runner
        self.vocabulary = vocabulary
        """Number of token ids of the target; models with one tokenizer may be padded to different sizes."""
        self.shape = shape
        self.beams = beams
        """How groups of beams are drafted; None does not draft for them."""
        self.name = shape.name
        self.policies = policies or DraftPolicies()
        self._cache = DraftCache(runner) if reader is None else reader

    @property
    def seconds(self) -> float:  # type: ignore[override]  # counted by the runner
        """Seconds spent in passes."""
        return self.runner.seconds

    @property
    def passes(self) -> int:  # type: ignore[override]  # counted by the runner
        """Number of passes."""
        return self.runner.passes

    @property
    def exit_counts(self) -> Sequence[int]:  # type: ignore[override]  # counted by the runner
        """See :attr:`ModelRunner.exit_counts`."""
        return self.runner.exit_counts

    def nodes_drawn(self, depth: int) -> int:
        """See :class:`Drafter`."""
        return self.shape.nodes_drawn(depth)

    def beam_nodes(self, group: BeamGroup) -> int:
        """See :class:`Drafter`."""
        return 0 if self.beams is None else self.beams.nodes(group)

    def propose(
        self, rows: Sequence[SequenceState], floor: float, depth: int, load: RoundLoad = EMPTY_LOAD
    ) -> list[Draft]:
        """See :class:`Drafter`; empty drafts when memory is short or drafting does not pay, given ``load`` as well."""
        left_out = self._without_prefill(rows, load)
        single = sum(row.group is None for row in rows) - len(left_out)
        load = replace(load, rows=load.rows + len(left_out), tokens=load.tokens + len(left_out))
        if self.shape.depth is not None:
            depth = min(depth, self.shape.depth)
        elif self.policies.chain_depth is not None:
            depth = min(depth, self.policies.chain_depth(single, load)) if single else 0
        elif single and not self._level_pays(single, single, float(single), load):
            depth = 0
        builders = [
            TreeBuilder(row, 0, Draft())
            if row.group is not None
            else self.shape.new(row, 0 if row in left_out else self._levels(row, depth))
            for row in rows
        ]
        growths = self._groups(builders, replace(load, rows=load.rows + single, tokens=load.tokens + single))
        growing = [builder for builder in builders if builder.levels > 0]
        try:
            if growing:
                self._grow(growing, growths, floor, single, load)
        except OutOfMemory:
            for row in rows:
                self.forget(row)
        return [builder.draft for builder in builders]

    def _level_pays(self, rows: int, nodes: int, value: float, load: RoundLoad) -> bool:
        pays = self.policies.level_pays
        return pays is None or pays(rows, nodes, value, load)

    def _groups(self, builders: Sequence[TreeBuilder], load: RoundLoad) -> dict[BeamGroup, BeamGrowth]:
        """The empty drafts of all groups among the rows, with their depth."""
        members: dict[BeamGroup, list[TreeBuilder]] = {}
        for builder in builders:
            if builder.row.group is not None:
                members.setdefault(builder.row.group, []).append(builder)
        depth = 0 if self.beams is None or not members else self.beams.depth(list(members), load)
        for group, own in members.items():
            levels = min(self._levels(builder.row, depth) for builder in own)
            group.clear_layers()
            for builder in own:
                builder.limit_levels(levels)
        return {group: BeamGrowth(group, own) for group, own in members.items()}

    def _without_prefill(self, rows: Sequence[SequenceState], load: RoundLoad) -> set[SequenceState]:
        """New single rows whose prompts the model should not compute."""
        single = [row for row in rows if row.group is None]
        fresh = [row for row in single if row not in self._cache]
        policy = self.policies.prefill
        if policy is None or not fresh:
            return set()
        if policy.declined(fresh):
            return set(fresh)
        try:
            unread = self._cache.unread(fresh)
        except OutOfMemory:
            return set(fresh)
        return set() if policy.pays(fresh, unread, len(single), load) else set(fresh)

    def _grow(
        self,
        growing: list[TreeBuilder],
        growths: Mapping[BeamGroup, BeamGrowth],
        floor: float,
        rows: int,
        load: RoundLoad,
    ) -> None:
        """Add one level after another for ``rows`` single sequences and the groups.

        Raises OutOfMemory; finished levels remain.
        """
        logits, level = self._cache.catch_up(growing), 0
        while True:
            growing, host = self._drop_not_finite(growing, logits)
            if not growing:
                return
            self._add_level(growing, growths, level, host, floor)
            level += 1
            growing = [builder for builder in growing if builder.growing and level < builder.levels]
            single = [builder for builder in growing if builder.row.group is None]
            if single:
                nodes = sum(len(builder.growing) for builder in single)
                value = sum(builder.value[node] for builder in single for node in builder.growing)
                if not self._level_pays(rows, nodes, value, load):
                    growing = [builder for builder in growing if builder.row.group is not None]
            if not growing:
                return
            logits = self._cache.step(growing)

    def _add_level(
        self,
        growing: Sequence[TreeBuilder],
        growths: Mapping[BeamGroup, BeamGrowth],
        level: int,
        logits: Floats,
        floor: float,
    ) -> None:
        """Add one level to all drafts; ``logits`` (n, V) of all growing nodes, in order."""
        owner = [builder.row.group for builder in growing for _ in builder.growing]
        single = [builder for builder in growing if builder.row.group is None]
        if single:
            own = logits if len(single) == len(growing) else logits[[i for i, of in enumerate(owner) if of is None]]
            self.shape.grow(single, level, own, floor)
        for group in dict.fromkeys(builder.row.group for builder in growing):
            if group is not None and self.beams is not None:
                self.beams.grow(growths[group], level, [logits[i] for i, of in enumerate(owner) if of is group])

    def _drop_not_finite(self, builders: list[TreeBuilder], logits: torch.Tensor) -> tuple[list[TreeBuilder], Floats]:
        """Drop drafts whose logits (n, V) are not finite; returns the rest and their logits (m, V) on the CPU."""
        host = self._on_host(logits)
        finite = np.isfinite(host.max(axis=1))  # (n,)
        if finite.all():
            return builders, host
        owner = np.repeat(np.arange(len(builders)), [len(builder.growing) for builder in builders])
        sound = [bool(finite[owner == i].all()) for i in range(len(builders))]
        broken = {builder.row.group for builder, good in zip(builders, sound, strict=True) if not good} - {None}
        sound = [good and builder.row.group not in broken for builder, good in zip(builders, sound, strict=True)]
        finite_ones = [builder for builder, good in zip(builders, sound, strict=True) if good]
        return finite_ones, host[np.array(sound)[owner]]

    def _on_host(self, logits: torch.Tensor) -> Floats:
        """Logits (n, V) on the CPU, for the target's vocabulary, which verification needs."""
        wide = logits[:, : self.vocabulary]
        host: Floats = (wide if wide.dtype == torch.float64 else wide.float()).cpu().numpy()
        if host.shape[1] < self.vocabulary:
            host = np.pad(host, ((0, 0), (0, self.vocabulary - host.shape[1])), constant_values=-np.inf)
        return host

    def _levels(self, row: SequenceState, depth: int) -> int:
        """Levels of the deepest draft that the row can use and the model's context permits."""
        levels, context = min(depth, row.room), self.runner.context
        if context is not None:
            levels = min(levels, context - len(row.tokens) + 1)  # the last drafted token is not computed
        if self.runner.vocabulary < self.vocabulary and max(row.tokens) >= self.runner.vocabulary:
            levels = 0
        return levels

    def forget(self, row: SequenceState) -> None:
        """Release the row's page table; its tokens stay cached."""
        if self.policies.prefill is not None and row.group is None:
            self.policies.prefill.ended(row)
        self._cache.forget(row)

    def close(self) -> None:
        """Forget all rows."""
        for row in self._cache.rows():
            self.forget(row)
