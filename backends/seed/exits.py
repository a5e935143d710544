"""Sorted drafts in the engine: every draft token leaves the draft model at the first exit that is sure of it.

S2D (Kavehzadeh et al., arXiv 2407.01955): the model's exits share the final norm and the output head, a token whose
largest probability exceeds a threshold leaves early. What a token that left early lacks, its keys and values in deeper
layers, is computed when a token after it goes deeper (lazy catch-up): until then its hidden state waits, by slot, so
branches that share a prefix also share what is caught up, and prompts too are read deeper only when that is needed.
Branches of one pass may leave at different exits; each stage is one pass over those that stay.
T new tokens, R wanted ones, E hidden size, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from treeagent.errors import ConfigError, ModelError

from ..loading import Model
from ..sorting import exits_of
from .decoders import LlamaDecoder
from .forest import Span, make_plan
from .pool import Slots
from .prefixes import Node
from .runner import Runner

ADAPTIVE = "adaptive"
CONFIDENCE = 0.8
"""Largest probability above which a token leaves. At the paper's 0.5 too many tokens leave at the first exit here: 0.8
had 3 to 8 % more memory-bound speed-up on both bundled targets, greedily and at temperature 1 (docs/seed.md)."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Where draft tokens leave. Raises ConfigError for words that say nothing."""

    layers: int | None
    """After so many layers, all of them; None leaves it to their confidence."""
    confidence: float = CONFIDENCE

    @classmethod
    def parse(cls, text: str) -> Exit:
        """``adaptive``, ``adaptive:0.7`` with a threshold of one's own, or a number of layers."""
        word, colon, threshold = text.partition(":")
        if word.isdigit() and int(word) and not colon:
            return cls(int(word))
        try:
            confidence = float(threshold) if colon else CONFIDENCE
        except ValueError:
            confidence = -1.0
        if word != ADAPTIVE or not 0 <= confidence <= 1:
            raise ConfigError(
                f"exit must be {ADAPTIVE!r}, {ADAPTIVE + ':0.7'!r} (the confidence above which a draft token leaves, "
                f"from 0 to 1) or a number of layers, not {text!r}"
            )
        return cls(None, confidence)


class SortedRunner(Runner):
    """Runs a draft model of several exits; through all layers until :meth:`leave_early`."""

    def __init__(self, model: Model, where: Path | str, memory: int, layers: int | None = None) -> None:
        """With ``layers`` every pass ends there. Raises ModelError as a runner does, and for an exit it has not."""
        inner = getattr(model.network, "model", None)
        stack = list(getattr(inner, "layers", []))
        parameters: int = sum(p.numel() for layer in stack for p in layer.parameters())
        self._layer_parameters = parameters / max(1, len(stack))
        self._whole = max(1, len(stack))
        """Layers that the model has."""
        super().__init__(model, where, memory)
        self.exits = exits_of(model.network.config)
        """Layers after which tokens may leave, ascending."""
        if layers is not None and layers not in self.exits:
            known = ", ".join(map(str, self.exits))
            raise ModelError(f"the draft {where} has no exit after {layers} layers; it has exits after: {known}")
        if not isinstance(self._decoder, LlamaDecoder):
            raise ModelError(self._refusal("drafts with exits must be of the Llama family"))
        self._staged: LlamaDecoder = self._decoder
        if layers is not None:
            self.exits = (layers,)
            self.layers = self.layers[:layers]
            self.forest = self.new_forest()
        self.left = [0] * len(self.exits)
        """Wanted tokens that left at each exit so far."""
        self._threshold: float | None = None
        self._depth: NDArray[np.int8] = np.zeros(0, dtype=np.int8)
        """By slot: how many exits its token has reached."""
        self._states = torch.empty(0)
        """By slot: the hidden state (E,) after the last layer that was run."""

    def leave_early(self, confidence: float) -> None:
        """From now on a token leaves at the first exit where its largest probability exceeds ``confidence``."""
        self._threshold = confidence

    @property
    def share(self) -> float:
        """Share of the layers that the wanted tokens so far went through."""
        tokens = sum(self.left)
        mean = sum(map(int.__mul__, self.left, self.exits)) / tokens if tokens else self.exits[-1]
        return mean / self._whole

    @property
    def weight(self) -> float:
        """Parameters that a pass reads, in the mean."""
        skipped = (1 - self.share) * self._whole
        return self.parameters - skipped * self._layer_parameters

    @torch.inference_mode()
    def forward(self, spans: Sequence[Span]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of the wanted tokens of all spans at their exits, and for each span its rows among the R."""
        if not hasattr(self, "_staged"):  # the trial at load
            return super().forward(spans)
        began = time.perf_counter()
        plan = make_plan(spans, self.dtype, self.device)
        first = self.exits[0] if self._threshold is not None else self.exits[-1]
        x = self._staged.through(self._staged.embed(plan), plan, self.forest.pool, 0, first)  # (T, E)
        logits = self._staged.logits(x.index_select(0, plan.wanted))
        if self._threshold is not None:
            self._keep(plan.slots, x, 1)
            paths = [path for span, rows in zip(spans, plan.rows, strict=True) if rows for path in _paths(span)]
            where = [row for rows in plan.rows for row in rows]
            self._deepen([(row, *path) for row, path in zip(where, paths, strict=True)], logits, self._threshold)
        else:
            self.left[-1] += len(plan.wanted)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.passes += 1
        self.seconds += time.perf_counter() - began
        return logits, plan.rows

    def _deepen(self, wanted: list[tuple[int, Slots, Node]], logits: torch.Tensor, threshold: float) -> None:
        """Take the wanted tokens that are not sure through more layers; ``logits`` (R, V) is changed in place."""
        pool = self.forest.pool
        for number, (first, last) in enumerate(pairwise(self.exits), 1):
            if not wanted:
                return
            rows = torch.tensor([row for row, _, _ in wanted], device=self.device)
            sure = (confidence(logits.index_select(0, rows)) > threshold).tolist()
            self.left[number - 1] += sum(sure)
            wanted = [token for token, leaves in zip(wanted, sure, strict=True) if not leaves]
            if not wanted:
                continue
            plan = make_plan(self._pending([(path, node) for _, path, node in wanted], number), self.dtype, self.device)
            x = self._staged.through(self._states.index_select(0, plan.slots), plan, pool, first, last)
            self._keep(plan.slots, x, number + 1)
            ends = torch.from_numpy(np.array([path[-1] for _, path, _ in wanted])).to(self.device)
            rows = torch.tensor([row for row, _, _ in wanted], device=self.device)
            logits.index_copy_(0, rows, self._staged.logits(self._states.index_select(0, ends)))
        self.left[-1] += len(wanted)

    def _pending(self, paths: Sequence[tuple[Slots, Node]], depth: int) -> list[Span]:
        """What must pass the next layers so that the ends of all paths have passed them, every token once.

        Mostly a path's last tokens; one before them where the forest held another's computation of the same token.
        """
        spans: list[Span] = []
        taken: set[int] = set()
        for path, node in paths:
            left = [i for i in np.flatnonzero(self._depth[path] <= depth).tolist() if int(path[i]) not in taken]
            breaks = [0, *(k for k in range(1, len(left)) if left[k] != left[k - 1] + 1), len(left)]
            for first, last in pairwise(breaks):
                if first < last:
                    start, run = left[first], path[left[first] : left[last - 1] + 1]
                    taken.update(run.tolist())
                    spans.append(Span([0] * len(run), run, path[:start], _within(node, start)))
        return spans

    def _keep(self, slots: torch.Tensor, x: torch.Tensor, depth: int) -> None:
        """Hidden states (T, E) of tokens that have reached so many exits."""
        capacity = self.forest.pool.capacity
        if len(self._depth) < capacity:
            self._depth = np.concatenate((self._depth, np.zeros(capacity - len(self._depth), dtype=np.int8)))
            states = x.new_empty(capacity, x.shape[1])
            states[: len(self._states)] = self._states.view(-1, x.shape[1])
            self._states = states
        self._depth[slots.cpu().numpy()] = depth
        self._states.index_copy_(0, slots, x)


def confidence(logits: torch.Tensor) -> torch.Tensor:
    """The largest probability (R,) of each row of logits (R, V)."""
    wide = logits.float()
    return (wide.amax(dim=1) - wide.logsumexp(dim=1)).exp()


def _paths(span: Span) -> list[tuple[Slots, Node]]:
    """Of every wanted token the slots of all tokens up to it and itself, and the span's node."""
    seen = span.visible()  # (n, n)
    return [(np.concatenate((span.context, span.slots[seen[token]])), span.node) for token in span.wanted]


def _within(node: Node, length: int) -> Node:
    """The deepest node of a path that ends within the first ``length`` tokens."""
    while node.parent is not None and node.end > length:
        node = node.parent
    return node
