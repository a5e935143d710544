"""A draft model drafts for all sequences together, one pass per level of their drafts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ....sampling.philox import Floats
from ...executor.model_runner import ModelRunner
from ...kv_cache.radix_tree import OutOfMemory
from ...records import BeamGroup, Draft, SequenceState
from ..base import EMPTY_LOAD, Drafter, RoundLoad
from .beam_tree import BeamGrowth, BeamShape
from .draft_cache import DraftCache
from .prefill_policy import PrefillPolicy
from .tree_builder import TreeBuilder
from .tree_shapes import Shape


class ModelDrafter(Drafter):
    """Drafts of a given shape by a model with the target's vocabulary of V tokens."""

    def __init__(
        self,
        runner: ModelRunner,
        vocabulary: int,
        shape: Shape,
        beams: BeamShape | None = None,
        *,
        prefill: PrefillPolicy | None = None,
        chain_depth: Callable[[int, RoundLoad], int] | None = None,
        level_pays: Callable[[int, int, float, RoundLoad], bool] | None = None,
    ) -> None:
        """Without policies it reads all sequences and drafts all levels.

        Args:
            runner: of the draft model.
            vocabulary: V of the target; models of one tokenizer may be padded to different sizes.
            shape: of the drafts of single sequences.
            beams: how groups of beams are drafted; None: they are not.
            prefill: decides whether to read new sequences.
            chain_depth: the best depth of the drafts of so many sequences beside others.
            level_pays: whether one more level pays, by the number of sequences and of nodes that get children, the
                summed value of these nodes, and the other sequences of the pass.
        """
        self.runner = runner
        self.vocabulary = vocabulary
        self.shape = shape
        self.beams = beams
        self.prefill = prefill
        self.chain_depth = chain_depth
        self.level_pays = level_pays
        self.name = shape.name
        self._cache = DraftCache(runner)

    @property
    def seconds(self) -> float:  # type: ignore[override]  # counted by the runner
        """See :class:`Drafter`."""
        return self.runner.seconds

    @property
    def passes(self) -> int:  # type: ignore[override]  # counted by the runner
        """See :class:`Drafter`."""
        return self.runner.passes

    @property
    def exit_counts(self) -> Sequence[int]:  # type: ignore[override]  # counted by the runner
        """See :class:`Drafter`."""
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
        """See :class:`Drafter`; empty drafts when memory is short or drafting does not pay."""
        declined = self._declined(rows, load)
        single = sum(row.group is None for row in rows) - len(declined)
        others = replace(load, rows=load.rows + len(declined), tokens=load.tokens + len(declined))
        depth = self._best_depth(depth, single, others)
        builders = [
            TreeBuilder(row, 0, Draft())
            if row.group is not None
            else self.shape.new(row, 0 if row in declined else self._levels(row, depth))
            for row in rows
        ]
        beam_load = replace(others, rows=others.rows + single, tokens=others.tokens + single)
        growths = self._beam_growths(builders, beam_load)
        growing = [builder for builder in builders if builder.levels > 0]
        try:
            if growing:
                self._grow(growing, growths, floor, single, others)
        except OutOfMemory:
            for row in rows:
                self.forget(row)
        return [builder.draft for builder in builders]

    def forget(self, row: SequenceState) -> None:
        """See :class:`Drafter`; its tokens stay in the radix cache for other sequences."""
        if self.prefill is not None and row.group is None:
            self.prefill.forget(row)
        self._cache.forget(row)

    def close(self) -> None:
        """Forget all sequences."""
        for row in self._cache.rows():
            self.forget(row)

    def _best_depth(self, depth: int, single: int, others: RoundLoad) -> int:
        """The number of levels, at most ``depth``, that pays for ``single`` sequences."""
        if self.shape.depth is not None:
            return min(depth, self.shape.depth)
        if self.chain_depth is not None:
            return min(depth, self.chain_depth(single, others)) if single else 0
        if self.level_pays is not None and single and not self.level_pays(single, single, float(single), others):
            return 0
        return depth

    def _levels(self, row: SequenceState, depth: int) -> int:
        """How deep a draft of a sequence may be: as far as it is of use, and as the model can read."""
        levels, context = min(depth, row.room), self.runner.context
        if context is not None:
            levels = min(levels, context - len(row.tokens) + 1)  # the last drafted token is not read
        if self.runner.vocabulary < self.vocabulary and max(row.tokens) >= self.runner.vocabulary:
            levels = 0
        return levels

    def _declined(self, rows: Sequence[SequenceState], load: RoundLoad) -> set[SequenceState]:
        """Single sequences that the model has not read and should not read now."""
        single = [row for row in rows if row.group is None]
        fresh = [row for row in single if row not in self._cache]
        if self.prefill is None or not fresh:
            return set()
        if self.prefill.is_decided(fresh):
            return set(fresh)
        try:
            unread = self._cache.unread(fresh)
        except OutOfMemory:
            return set(fresh)
        return set() if self.prefill.should_read(fresh, unread, len(single), load) else set(fresh)

    def _beam_growths(self, builders: Sequence[TreeBuilder], others: RoundLoad) -> dict[BeamGroup, BeamGrowth]:
        """For each group of beams its draft under construction, with the number of steps that pays."""
        members: dict[BeamGroup, list[TreeBuilder]] = {}
        for builder in builders:
            if builder.row.group is not None:
                members.setdefault(builder.row.group, []).append(builder)
        depth = 0 if self.beams is None or not members else self.beams.depth(list(members), others)
        for group, own in members.items():
            levels = min(self._levels(builder.row, depth) for builder in own)
            group.layers.clear()
            for builder in own:
                builder.extend_to(levels)
        return {group: BeamGrowth(group, own) for group, own in members.items()}

    def _grow(
        self,
        growing: list[TreeBuilder],
        growths: Mapping[BeamGroup, BeamGrowth],
        floor: float,
        rows: int,
        others: RoundLoad,
    ) -> None:
        """Add levels for ``rows`` single sequences and all groups. Raises OutOfMemory, leaving finished levels."""
        logits, level = self._cache.catch_up(growing), 0
        while True:
            growing, host = self._with_finite_logits(growing, logits)
            if not growing:
                return
            self._add_level(growing, growths, level, host, floor)
            level += 1
            growing = [builder for builder in growing if builder.frontier and level < builder.levels]
            single = [builder for builder in growing if builder.row.group is None]
            if single and self.level_pays is not None:
                nodes = sum(len(builder.frontier) for builder in single)
                value = sum(builder.value[node] for builder in single for node in builder.frontier)
                if not self.level_pays(rows, nodes, value, others):
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
        """One level of all drafts; ``logits`` (n, V) after all n nodes of their frontiers, in order."""
        owner = [builder.row.group for builder in growing for _ in builder.frontier]  # (n,)
        single = [builder for builder in growing if builder.row.group is None]
        if single:
            whole = len(single) == len(growing)
            self.shape.grow(single, level, logits if whole else logits[[group is None for group in owner]], floor)
        for group in dict.fromkeys(builder.row.group for builder in growing):
            if group is not None and self.beams is not None:
                self.beams.grow(growths[group], level, [logits[i] for i, of in enumerate(owner) if of is group])

    def _with_finite_logits(
        self, builders: list[TreeBuilder], logits: torch.Tensor
    ) -> tuple[list[TreeBuilder], Floats]:
        """The builders whose logits, rows of (n, draft's V), are all finite, and their logits (m, V) in host memory.

        For the others this draft model drafts nothing more; one sequence of a group rules out the group.
        """
        wide = logits[:, : self.vocabulary]
        host: Floats = (wide if wide.dtype == torch.float64 else wide.float()).cpu().numpy()
        if host.shape[1] < self.vocabulary:  # distributions are compared with the target's
            host = np.pad(host, ((0, 0), (0, self.vocabulary - host.shape[1])), constant_values=-np.inf)
        finite = np.isfinite(host.max(axis=1))  # (n,)
        if finite.all():
            return builders, host
        owner = np.repeat(np.arange(len(builders)), [len(builder.frontier) for builder in builders])  # (n,)
        sound = [bool(finite[owner == i].all()) for i in range(len(builders))]
        broken = {builder.row.group for builder, good in zip(builders, sound, strict=True) if not good} - {None}
        sound = [good and builder.row.group not in broken for builder, good in zip(builders, sound, strict=True)]
        return [builder for builder, good in zip(builders, sound, strict=True) if good], host[np.array(sound)[owner]]
