"""Drafter with a small model: all sequences in one pass per level.

The model has a radix cache of its own. Accepted drafts stay in it; a sequence that was not drafted for some rounds is
completed by its next pass, so the cache has no gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ....sampling.philox import Floats
from ...executor.forward_batch import Segment
from ...executor.model_runner import ModelRunner
from ...executor.prefill import PrefillChunk
from ...kv_cache.page_table import PageTable
from ...kv_cache.pool import Slots
from ...kv_cache.radix_tree import OutOfMemory
from ...records import BeamGroup, Draft, SequenceState
from ..base import EMPTY_LOAD, Drafter, RoundLoad
from .beam_tree import BeamGrowth, BeamShape
from .prefill_policy import PrefillPolicy
from .tree_builder import TreeBuilder
from .tree_shapes import Shape


@dataclass(slots=True, eq=False)
class _Seen:
    """What the draft model has computed of one row."""

    branch: PageTable
    draft: Draft = field(default_factory=Draft)
    """The latest draft, not verified yet."""
    slots: dict[int, int] = field(default_factory=dict)
    """Slots of the computed nodes of the draft."""

    def path(self, node: int) -> list[int]:
        """Slots of a node's ancestors and its own, from the top down."""
        slots: list[int] = []
        while node >= 0:
            slots.append(self.slots[node])
            node = self.draft.parents[node]
        return slots[::-1]


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
    ) -> None:
        self.runner = runner
        self.vocabulary = vocabulary
        """Number of token ids of the target; models with one tokenizer may be padded to different sizes."""
        self.shape = shape
        self.beams = beams
        """How groups of beams are drafted; None does not draft for them."""
        self.name = shape.name
        self.policies = policies or DraftPolicies()
        self._seen: dict[SequenceState, _Seen] = {}

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
        fresh = [row for row in single if row not in self._seen]
        policy = self.policies.prefill
        if policy is None or not fresh:
            return set()
        if policy.declined(fresh):
            return set(fresh)
        branches: list[PageTable] = []
        try:
            for row in fresh:
                branches.append(PageTable(self.runner.forest, row.tokens[:-1]))  # released below, even when one fails
            unread = PrefillChunk(branches, limit=1 << 30).tokens
        except OutOfMemory:
            return set(fresh)
        finally:
            for branch in branches:
                branch.release(keep=False)
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
        logits, level = self._catch_up([builder.row for builder in growing]), 0
        for builder in growing:
            self._seen[builder.row].draft = builder.draft
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
            logits = self._step(growing)

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
        wide = logits[:, : self.vocabulary]
        host: Floats = (wide if wide.dtype == torch.float64 else wide.float()).cpu().numpy()
        if host.shape[1] < self.vocabulary:  # the target's vocabulary, which verification needs
            host = np.pad(host, ((0, 0), (0, self.vocabulary - host.shape[1])), constant_values=-np.inf)
        finite = np.isfinite(host.max(axis=1))  # (n,)
        if finite.all():
            return builders, host
        owner = np.repeat(np.arange(len(builders)), [len(builder.growing) for builder in builders])
        sound = [bool(finite[owner == i].all()) for i in range(len(builders))]
        broken = {builder.row.group for builder, good in zip(builders, sound, strict=True) if not good} - {None}
        sound = [good and builder.row.group not in broken for builder, good in zip(builders, sound, strict=True)]
        finite_ones = [builder for builder, good in zip(builders, sound, strict=True) if good]
        return finite_ones, host[np.array(sound)[owner]]

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
        seen = self._seen.pop(row, None)
        if seen is not None:
            self._free(seen)
            seen.branch.release(keep=True)

    def close(self) -> None:
        """Forget all rows."""
        for row in list(self._seen):
            self.forget(row)

    def _catch_up(self, rows: Sequence[SequenceState]) -> torch.Tensor:
        """Compute newly committed tokens; logits (rows, V) after each row's last token. Raises OutOfMemory."""
        forest = self.runner.forest
        for row in rows:
            seen = self._seen.get(row)
            if seen is None:
                self._seen[row] = _Seen(PageTable(forest, row.tokens[:-1]))
            else:
                self._keep_accepted(seen, row)
        seens = [self._seen[row] for row in rows]
        reading = PrefillChunk([seen.branch for seen in seens], limit=1 << 30)
        missing = [row.tokens[seen.branch.length :] for row, seen in zip(rows, seens, strict=True)]
        slots = np.split(forest.allocate(sum(map(len, missing))), np.cumsum([len(tokens) for tokens in missing])[:-1])
        spans = [
            Segment(tokens, own, seen.branch.table, seen.branch.node, wanted=[len(tokens) - 1])
            for tokens, own, seen in zip(missing, slots, seens, strict=True)
        ]
        logits = self._forward([*reading.spans, *spans], slots)
        reading.done()
        for seen, tokens, own in zip(seens, missing, slots, strict=True):
            seen.branch.extend(tokens, own)
        return logits

    def _keep_accepted(self, seen: _Seen, row: SequenceState) -> None:
        """Keep the slots of drafted tokens that were accepted; free the others."""
        new, node = row.tokens[seen.branch.length :], -1
        accepted: list[int] = []
        for token in new[:-1]:  # the last token is computed again, for its logits
            child = next(
                (i for i in seen.slots if seen.draft.parents[i] == node and seen.draft.tokens[i] == token), None
            )
            if child is None:
                break
            accepted.append(child)
            node = child
        held = np.array([seen.slots.pop(node) for node in accepted], dtype=np.int64)
        self._free(seen)
        if accepted:
            seen.branch.extend(new[: len(accepted)], held)

    def _free(self, seen: _Seen) -> None:
        """Free the keys and values of a draft."""
        self.runner.forest.pool.free(np.array(list(seen.slots.values()), dtype=np.int64))
        seen.slots = {}

    def _step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """Compute the growing nodes; logits (n, V) after each."""
        nodes = [(self._seen[builder.row], node) for builder in builders for node in builder.growing]
        slots = self.runner.forest.allocate(len(nodes))
        spans = []
        for (seen, node), slot in zip(nodes, slots, strict=True):
            above = np.array(seen.path(seen.draft.parents[node]), dtype=np.int64)
            context = np.concatenate((seen.branch.table, above))
            spans.append(Segment([seen.draft.tokens[node]], np.array([slot]), context, seen.branch.node, wanted=[0]))
        logits = self._forward(spans, [slots])
        for (seen, node), slot in zip(nodes, slots.tolist(), strict=True):
            seen.slots[node] = slot
        return logits

    def _forward(self, spans: Sequence[Segment], scratch: Sequence[Slots]) -> torch.Tensor:
        """A pass; logits (n, V) in the order of the segments. If it fails, the slots in ``scratch`` are freed."""
        with ExitStack() as undo:
            for slots in scratch:
                undo.callback(self.runner.forest.pool.free, slots)
            logits, rows = self.runner.forward(spans)
            undo.pop_all()
        return logits[[place for span_rows in rows for place in span_rows]]
