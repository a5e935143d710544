"""A small model drafts for every branch, all branches in one pass per level.

Its keys and values live in a prefix forest of their own. What was drafted and accepted stays there; a branch that has
not drafted for some rounds is read up to date by its next pass, so no hole is ever left behind.
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
from ..base import Drafter, RoundLoad
from .beam_tree import BeamGrowth, BeamShape
from .prefill_policy import PrefillPolicy
from .tree_builder import TreeBuilder
from .tree_shapes import Shape


@dataclass(slots=True, eq=False)
class _Seen:
    """What the draft model has read of one row."""

    branch: PageTable
    draft: Draft = field(default_factory=Draft)
    """What it proposed last, not known to be right yet."""
    slots: dict[int, int] = field(default_factory=dict)
    """Of those nodes of it that the model read, the slot of their keys and values."""

    def path(self, node: int) -> list[int]:
        """Slots of a node's ancestors and its own, from the top down."""
        slots: list[int] = []
        while node >= 0:
            slots.append(self.slots[node])
            node = self.draft.parents[node]
        return slots[::-1]


class ModelDrafter(Drafter):
    """Drafts of a model with the target's vocabulary, of a given shape."""

    def __init__(self, runner: ModelRunner, vocabulary: int, shape: Shape, beams: BeamShape | None = None) -> None:
        self.runner = runner
        self.vocabulary = vocabulary
        """Ids that the target has; models of one tokenizer may be padded to different sizes."""
        self.shape = shape
        self.beams = beams
        """How groups of beams are drafted; None leaves them alone."""
        self.name = shape.name
        self.depth_for: Callable[[int, RoundLoad], int] | None = None
        """How deep it pays to draft for a number of rows, beside others."""
        self.pays: Callable[[int, int, float, RoundLoad], bool] | None = None
        """Whether one more level pays while so many rows and others wait: so many nodes grow, of this value in all."""
        self.joining: PrefillPolicy | None = None
        """Whether new rows are worth reading; None reads all."""
        self._seen: dict[SequenceState, _Seen] = {}

    @property
    def seconds(self) -> float:  # type: ignore[override]  # counted by the runner
        """Time spent in passes so far."""
        return self.runner.seconds

    @property
    def passes(self) -> int:  # type: ignore[override]  # counted by the runner
        """Passes so far."""
        return self.runner.passes

    @property
    def left(self) -> Sequence[int]:  # type: ignore[override]  # counted by the runner
        """By exit."""
        return self.runner.exit_counts

    def nodes_drawn(self, depth: int) -> int:
        """See :class:`Drafter`."""
        return self.shape.nodes_drawn(depth)

    def beam_nodes(self, group: BeamGroup) -> int:
        """See :class:`Drafter`."""
        return 0 if self.beams is None else self.beams.nodes(group)

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`; nothing when memory is short or drafting does not pay."""
        left_out = self._not_worth_reading(rows)
        single = sum(row.group is None for row in rows) - len(left_out)
        others = replace(self.others, rows=self.others.rows + len(left_out), tokens=self.others.tokens + len(left_out))
        if self.shape.depth is not None:
            depth = min(depth, self.shape.depth)
        elif self.depth_for is not None:
            depth = min(depth, self.depth_for(single, others)) if single else 0
        elif self.pays is not None and single and not self.pays(single, single, float(single), others):
            depth = 0
        sketches = [
            TreeBuilder(row, 0, Draft())
            if row.group is not None
            else self.shape.new(row, 0 if row in left_out else self._levels(row, depth))
            for row in rows
        ]
        growths = self._groups(sketches, replace(others, rows=others.rows + single, tokens=others.tokens + single))
        growing = [sketch for sketch in sketches if sketch.levels > 0]
        try:
            if growing:
                self._grow(growing, growths, floor, single, others)
        except OutOfMemory:
            for row in rows:
                self.forget(row)
        return [sketch.draft for sketch in sketches]

    def _groups(self, sketches: Sequence[TreeBuilder], others: RoundLoad) -> dict[BeamGroup, BeamGrowth]:
        """Of every group among the rows what becomes its draft; says how deep it goes while others wait."""
        members: dict[BeamGroup, list[TreeBuilder]] = {}
        for sketch in sketches:
            if sketch.row.group is not None:
                members.setdefault(sketch.row.group, []).append(sketch)
        depth = 0 if self.beams is None or not members else self.beams.depth(list(members), others)
        for group, mine in members.items():
            levels = min(self._levels(sketch.row, depth) for sketch in mine)
            group.layers = []
            for sketch in mine:
                sketch.levels = levels
        return {group: BeamGrowth(group, mine) for group, mine in members.items()}

    def _not_worth_reading(self, rows: Sequence[SequenceState]) -> set[SequenceState]:
        """Single rows that the model has not read and had better not."""
        single = [row for row in rows if row.group is None]
        fresh = [row for row in single if row not in self._seen]
        if self.joining is None or not fresh:
            return set()
        if self.joining.settled(fresh):
            return set(fresh)
        branches: list[PageTable] = []
        try:
            for row in fresh:
                branches.append(PageTable(self.runner.forest, row.tokens[:-1]))  # kept when one fails
            unread = PrefillChunk(branches, limit=1 << 30).tokens
        except OutOfMemory:
            return set(fresh)
        finally:
            for branch in branches:
                branch.release(keep=False)
        return set() if self.joining.pays(fresh, unread, len(single), self.others) else set(fresh)

    def _grow(
        self,
        growing: list[TreeBuilder],
        growths: Mapping[BeamGroup, BeamGrowth],
        floor: float,
        rows: int,
        others: RoundLoad,
    ) -> None:
        """Add level after level, while ``rows`` single branches wait. Raises OutOfMemory, leaving what was finished."""
        logits, level = self._catch_up([sketch.row for sketch in growing]), 0
        for sketch in growing:
            self._seen[sketch.row].draft = sketch.draft
        while True:
            growing, host = self._sound(growing, logits)
            if not growing:
                return
            self._add_level(growing, growths, level, host, floor)
            level += 1
            growing = [sketch for sketch in growing if sketch.growing and level < sketch.levels]
            single = [sketch for sketch in growing if sketch.row.group is None]
            if single and self.pays is not None:
                nodes = sum(len(sketch.growing) for sketch in single)
                value = sum(sketch.value[node] for sketch in single for node in sketch.growing)
                if not self.pays(rows, nodes, value, others):
                    growing = [sketch for sketch in growing if sketch.row.group is not None]
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
        """One level for all sketches; ``logits`` (n, V) of all growing nodes, in order."""
        owner = [sketch.row.group for sketch in growing for _ in sketch.growing]
        single = [sketch for sketch in growing if sketch.row.group is None]
        if single:
            mine = logits if len(single) == len(growing) else logits[[i for i, of in enumerate(owner) if of is None]]
            self.shape.grow(single, level, mine, floor)
        for group in dict.fromkeys(sketch.row.group for sketch in growing):
            if group is not None and self.beams is not None:
                self.beams.grow(growths[group], level, [logits[i] for i, of in enumerate(owner) if of is group])

    def _sound(self, sketches: list[TreeBuilder], logits: torch.Tensor) -> tuple[list[TreeBuilder], Floats]:
        """Without branches whose logits (n, V) are not finite: such a draft model drafts nothing for them."""
        wide = logits[:, : self.vocabulary]
        host: Floats = (wide if wide.dtype == torch.float64 else wide.float()).cpu().numpy()
        if host.shape[1] < self.vocabulary:  # laws are compared with the target's
            host = np.pad(host, ((0, 0), (0, self.vocabulary - host.shape[1])), constant_values=-np.inf)
        finite = np.isfinite(host.max(axis=1))  # (n,)
        if finite.all():
            return sketches, host
        owner = np.repeat(np.arange(len(sketches)), [len(sketch.growing) for sketch in sketches])
        sound = [bool(finite[owner == i].all()) for i in range(len(sketches))]
        broken = {sketch.row.group for sketch, good in zip(sketches, sound, strict=True) if not good} - {None}
        sound = [good and sketch.row.group not in broken for sketch, good in zip(sketches, sound, strict=True)]
        kept = [sketch for sketch, good in zip(sketches, sound, strict=True) if good]
        return kept, host[np.array(sound)[owner]]

    def _levels(self, row: SequenceState, depth: int) -> int:
        """How deep a draft of a row may be: as far as it is of use, and as the model can read."""
        levels, context = min(depth, row.room), self.runner.context
        if context is not None:
            levels = min(levels, context - len(row.tokens) + 1)  # the last one drafted is not read
        if self.runner.vocabulary < self.vocabulary and max(row.tokens) >= self.runner.vocabulary:
            levels = 0
        return levels

    def forget(self, row: SequenceState) -> None:
        """The row's place is given up, its tokens may be of use to others."""
        if self.joining is not None and row.group is None:
            self.joining.ended(row)
        seen = self._seen.pop(row, None)
        if seen is not None:
            self._free(seen)
            seen.branch.release(keep=True)

    def close(self) -> None:
        """Forget all rows."""
        for row in list(self._seen):
            self.forget(row)

    def _catch_up(self, rows: Sequence[SequenceState]) -> torch.Tensor:
        """Read what was committed since; logits (rows, V) after each row's last token. Raises OutOfMemory."""
        forest = self.runner.forest
        for row in rows:
            seen = self._seen.get(row)
            if seen is None:
                self._seen[row] = _Seen(PageTable(forest, row.tokens[:-1]))
            else:
                self._settle(seen, row)
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

    def _settle(self, seen: _Seen, row: SequenceState) -> None:
        """Keep what it read as drafts and what turned out right; free the rest."""
        new, node = row.tokens[seen.branch.length :], -1
        right: list[int] = []
        for token in new[:-1]:  # the last token is read again, for its logits
            child = next(
                (i for i in seen.slots if seen.draft.parents[i] == node and seen.draft.tokens[i] == token), None
            )
            if child is None:
                break
            right.append(child)
            node = child
        kept = np.array([seen.slots.pop(node) for node in right], dtype=np.int64)
        self._free(seen)
        if right:
            seen.branch.extend(new[: len(right)], kept)

    def _free(self, seen: _Seen) -> None:
        """Give up the keys and values of a draft."""
        self.runner.forest.pool.free(np.array(list(seen.slots.values()), dtype=np.int64))
        seen.slots = {}

    def _step(self, sketches: Sequence[TreeBuilder]) -> torch.Tensor:
        """Read the nodes that grow; logits (n, V) after each."""
        nodes = [(self._seen[sketch.row], node) for sketch in sketches for node in sketch.growing]
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
        """A pass whose slots are given back when it fails; logits in the order of the spans."""
        with ExitStack() as undo:
            for slots in scratch:
                undo.callback(self.runner.forest.pool.free, slots)
            logits, rows = self.runner.forward(spans)
            undo.pop_all()
        return logits[[place for span_rows in rows for place in span_rows]]
