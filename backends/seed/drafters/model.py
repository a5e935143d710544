"""A small model drafts a chain for every branch, all branches in one pass per level.

Its keys and values live in a prefix forest of their own. What was drafted and accepted stays there; a branch that has
not drafted for some rounds is read up to date by its next pass, so no hole is ever left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ...sampling import DRAFT, TEXT, choose_rows, warp
from ..branch import Branch, Reading
from ..budget import CostTable
from ..forest import Span
from ..pool import Slots
from ..prefixes import OutOfMemory
from ..runner import Runner
from . import Draft, Drafter, Row

NONE: Slots = np.zeros(0, dtype=np.int64)


@dataclass(slots=True, eq=False)
class _Seen:
    """What the draft model has read of one row."""

    branch: Branch
    drafted: list[int] = field(default_factory=list)
    """Tokens after the branch's end that it read as its own drafts, not known to be right yet."""
    slots: Slots = field(default_factory=lambda: NONE)
    """Where their keys and values are."""


class ModelDrafter(Drafter):
    """Chains of a draft model with the target's vocabulary.

    Under coupled verification the draft is argmax(log q + g) with the target's own noise g; under rejection sampling it
    is drawn from q with noise of its own, and q is kept.
    """

    name = "model"

    def __init__(self, runner: Runner, cost: CostTable, vocabulary: int, *, keep_law: bool = False) -> None:
        self.runner = runner
        self.vocabulary = vocabulary
        """Ids that the target has; models of one tokenizer may be padded to different sizes."""
        self.cost = cost
        """Seconds of the draft model's passes."""
        self.keep_law = keep_law
        """Whether drafts are independent draws whose law is kept, as rejection sampling needs."""
        self.depth_for: Callable[[int], int] | None = None
        """How deep it pays to draft for a number of rows; set by the scheduler."""
        self._seen: dict[Row, _Seen] = {}

    @property
    def seconds(self) -> float:  # type: ignore[override]  # counted by the runner
        """Time spent in passes so far."""
        return self.runner.seconds

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`; nothing when memory is short or drafting does not pay."""
        drafts = [Draft(law=[] if self.keep_law else None) for _ in rows]
        if self.depth_for is not None:
            depth = min(depth, self.depth_for(len(rows)))
        levels = [self._levels(row, depth) for row in rows]
        active = [i for i, most in enumerate(levels) if most > 0]
        if not active:
            return drafts
        try:
            logits = self._catch_up([rows[i] for i in active])  # (len(active), V)
            worth = dict.fromkeys(active, 1.0)
            for level in range(depth):
                if not all(finite := logits.amax(dim=1).isfinite().tolist()):  # such a draft model drafts nothing
                    logits = logits[finite]
                    active = [i for i, sound in zip(active, finite, strict=True) if sound]
                    if not active:
                        break
                chosen = self._choose([rows[i] for i in active], level, logits)
                onward = []
                for place, (i, (token, confidence, law)) in enumerate(zip(active, chosen, strict=True)):
                    worth[i] *= confidence
                    if worth[i] < floor:
                        continue
                    drafts[i].tokens.append(token)
                    drafts[i].parents.append(level - 1)
                    drafts[i].confidence.append(confidence)
                    if law is not None:
                        drafts[i].law.append(law)  # type: ignore[union-attr]  # made with a list above
                    if level + 1 < levels[i]:
                        onward.append((i, place))
                active = [i for i, _ in onward]
                if not active:
                    break
                logits = self._step([rows[i] for i in active], [drafts[i].tokens[-1] for i in active])
        except OutOfMemory:
            for row in rows:
                self.forget(row)
        return drafts

    def _levels(self, row: Row, depth: int) -> int:
        """How deep a draft of a row may be: as far as it is of use, and as the model can read."""
        levels, context = min(depth, row.room), self.runner.context
        if context is not None:
            levels = min(levels, context - len(row.tokens) + 1)  # the last one drafted is not read
        if self.runner.vocabulary < self.vocabulary and max(row.tokens) >= self.runner.vocabulary:
            levels = 0
        return levels

    def forget(self, row: Row) -> None:
        """The row's place is given up, its tokens may be of use to others."""
        seen = self._seen.pop(row, None)
        if seen is not None:
            self.runner.forest.pool.free(seen.slots)
            seen.branch.leave(keep=True)

    def close(self) -> None:
        """Forget all rows."""
        for row in list(self._seen):
            self.forget(row)

    def _catch_up(self, rows: Sequence[Row]) -> torch.Tensor:
        """Read what was committed since; logits (rows, V) after each row's last token. Raises OutOfMemory."""
        forest = self.runner.forest
        for row in rows:
            seen = self._seen.get(row)
            if seen is None:
                self._seen[row] = _Seen(Branch(forest, row.tokens[:-1]))
            else:
                self._settle(seen, row)
        seens = [self._seen[row] for row in rows]
        reading = Reading([seen.branch for seen in seens], limit=1 << 30)
        missing = [row.tokens[seen.branch.length :] for row, seen in zip(rows, seens, strict=True)]
        slots = np.split(forest.allocate(sum(map(len, missing))), np.cumsum([len(tokens) for tokens in missing])[:-1])
        spans = [
            Span(tokens, own, seen.branch.table, seen.branch.node, wanted=[len(tokens) - 1])
            for tokens, own, seen in zip(missing, slots, seens, strict=True)
        ]
        logits, _ = self._forward([*reading.spans, *spans], slots)
        reading.done()
        for seen, tokens, own in zip(seens, missing, slots, strict=True):
            seen.branch.extend(tokens, own)
        return logits

    def _settle(self, seen: _Seen, row: Row) -> None:
        """Keep what it read as drafts and what turned out right; free the rest."""
        length = seen.branch.length
        right = 0
        while right < len(seen.drafted) and row.tokens[length + right : length + right + 1] == [seen.drafted[right]]:
            right += 1
        if length + right == len(row.tokens):  # its last token is read again, for its logits
            right -= 1
        right = max(right, 0)
        self.runner.forest.pool.free(seen.slots[right:])
        if right:
            seen.branch.extend(seen.drafted[:right], seen.slots[:right])
        seen.drafted, seen.slots = [], NONE

    def _step(self, rows: Sequence[Row], tokens: Sequence[int]) -> torch.Tensor:
        """Read one drafted token per row; logits (rows, V)."""
        slots = self.runner.forest.allocate(len(rows))
        spans = []
        for row, token, slot in zip(rows, tokens, slots, strict=True):
            seen = self._seen[row]
            context = np.concatenate((seen.branch.table, seen.slots))
            spans.append(Span([token], np.array([slot]), context, seen.branch.node, wanted=[0]))
        logits, _ = self._forward(spans, [slots])
        for row, token, slot in zip(rows, tokens, slots, strict=True):
            seen = self._seen[row]
            seen.drafted.append(token)
            seen.slots = np.append(seen.slots, slot)
        return logits

    def _forward(self, spans: Sequence[Span], scratch: Sequence[Slots]) -> tuple[torch.Tensor, list[range]]:
        """A pass whose slots are given back when it fails; logits in the order of the spans."""
        try:
            logits, rows = self.runner.forward(spans)
        except BaseException:
            for slots in scratch:
                self.runner.forest.pool.free(slots)
            raise
        order = [place for span_rows in rows for place in span_rows]
        return logits[order], rows

    def _choose(
        self, rows: Sequence[Row], level: int, logits: torch.Tensor
    ) -> list[tuple[int, float, NDArray[np.float64] | None]]:
        """For each row a token, its confidence and, if kept, the law (V,) it was drawn from; logits (rows, V)."""
        wide = logits[:, : self.vocabulary]
        wide = wide if logits.dtype == torch.float64 else wide.float()
        host = wide.cpu().numpy()
        streams, positions = [row.stream for row in rows], [row.position + level for row in rows]
        if not self.keep_law:
            # The tail stays: a token that the target's own cut keeps must not be lost to the draft's.
            settings = [replace(row.sampling, top_k=None, top_p=None, min_p=None) for row in rows]
            tokens = choose_rows(host, settings, streams, positions, TEXT)
            temperature = torch.tensor([[row.sampling.temperature or 1.0] for row in rows], device=wide.device)
            at = torch.from_numpy(tokens)[:, None].to(wide.device)
            chances = (wide / temperature).softmax(dim=1).gather(1, at)[:, 0].tolist()
            return [(int(token), chance, None) for token, chance in zip(tokens, chances, strict=True)]
        chosen: list[tuple[int, float, NDArray[np.float64] | None]] = []
        tokens = choose_rows(host, [row.sampling for row in rows], streams, positions, DRAFT)
        for row, token, scores in zip(rows, tokens.tolist(), host, strict=True):
            if row.sampling.temperature == 0:
                law = np.zeros(self.vocabulary)
                law[token] = 1.0
                chosen.append((token, float(torch.from_numpy(scores).softmax(0)[token]), law))
            else:
                warped = warp(scores, row.sampling)
                weights = np.exp(warped - warped.max())
                law = np.pad(weights / weights.sum(), (0, self.vocabulary - len(weights)))
                # Of the law, not of the token drawn from it: what decides on a token must not depend on it.
                chosen.append((token, float(law.max()), law))
        return chosen
