"""Sorted drafts in the engine: every draft token leaves the draft model at the first exit that is sure of it.

S2D (Kavehzadeh et al., arXiv 2407.01955): the model's exits share the final norm and the output head, a token whose
largest probability exceeds a threshold leaves early. What a token that left early lacks, its keys and values in deeper
layers, is computed when a token after it goes deeper (lazy catch-up): until then its hidden state waits, by slot, so
branches that share a prefix also share what is caught up, and prompts too are read no deeper than to the first exit
that is looked at until more is needed.
Branches of one pass may leave at different exits; each stage is one pass over those that stay. Unlike the paper, which
looks at every exit, an engine that is told nothing looks where that pays (:mod:`.leaving`).
T new tokens, R wanted ones, E hidden size, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray

from treeagent.errors import ConfigError, ModelError

from ..kv_cache.pool import Slots
from ..kv_cache.radix_tree import RadixNode
from .exit_policy import ExitPolicy, exits_of
from .forward_batch import ForwardBatch, Segment, make_forward_batch
from .llama import LlamaDecoder
from .model_runner import ModelRunner
from .weights import Weights

ADAPTIVE = "adaptive"
CONFIDENCE = 0.8
"""Largest probability above which a token leaves. At the paper's 0.5 too many tokens leave at the first exit here: 0.8
had 3 to 8 % more memory-bound speed-up on both bundled targets, greedily and at temperature 1 (see
docs/results/drafts.md)."""


@dataclass(frozen=True, slots=True)
class ExitSpec:
    """Where draft tokens leave. Raises ConfigError for words that say nothing."""

    layers: int | None
    """After so many layers, all of them; None leaves it to their confidence."""
    confidence: float = CONFIDENCE

    @classmethod
    def parse(cls, text: str) -> ExitSpec:
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


class EarlyExitRunner(ModelRunner):
    """Runs a draft model of several exits; through all layers until :meth:`leave_early`."""

    def __init__(self, weights: Weights, memory: int, layers: int | None = None) -> None:
        """With ``layers`` every pass ends there. Raises ModelError for an exit that the model has not."""
        self.exits = exits_of(weights.model.network.config)
        """Layers after which tokens may leave, ascending."""
        if layers is not None and layers not in self.exits:
            known, where = ", ".join(map(str, self.exits)), weights.where
            raise ModelError(f"the draft {where} has no exit after {layers} layers; it has exits after: {known}")
        if not isinstance(weights.decoder, LlamaDecoder):
            raise weights.refusal("drafts with exits must be of the Llama family")
        if layers is not None:
            self.exits = (layers,)
        super().__init__(weights, memory)
        self._decoder: LlamaDecoder = weights.decoder
        self.left = [0] * len(self.exits)
        """Wanted tokens that left at each exit so far."""
        self._threshold: float | None = None
        self._seconds: tuple[float, float] | None = None
        self._leaving = ExitPolicy(self.exits)
        self._depth: NDArray[np.int8] = np.zeros(0, dtype=np.int8)
        """By slot: how many exits its token has reached."""
        self._states = torch.empty(0)
        """By slot: the hidden state (E,) after the last layer that was run."""

    def leave_early(self, confidence: float, seconds: tuple[float, float] | None = None) -> None:
        """From now on a token leaves at the first exit where its largest probability exceeds ``confidence``.

        With ``seconds``, of passes that end at the first and at the last exit, only at those that are worth a look.
        """
        self._threshold, self._seconds = confidence, seconds
        self.unlearn()

    def unlearn(self) -> None:
        """See :meth:`ModelRunner.unlearn`."""
        self._leaving = ExitPolicy(self.exits, self._seconds)

    @contextmanager
    def ending(self, number: int) -> Iterator[None]:
        """Meanwhile every pass ends at one exit, to be timed; nothing that was read before may be read on."""
        exits, threshold = self.exits, self._threshold
        self.exits, self._threshold = exits[: number + 1], None
        try:
            yield
        finally:
            self.exits, self._threshold = exits, threshold

    @property
    def layers(self) -> int:
        """Layers that passes may go through."""
        return self.exits[-1]

    @property
    def share(self) -> float:
        """Share of the longest pass's time that passes take, in the mean: by measured times, or else by layers."""
        return self._leaving.share if self._leaving.weighs else self._depths / self.layers

    @property
    def weight(self) -> float:
        """Parameters that a pass reads, in the mean."""
        return self.parameters - (len(self.weights.layers) - self._depths) * self.weights.layer_parameters

    @property
    def _depths(self) -> float:
        """Layers that the wanted tokens so far went through, in the mean."""
        tokens = sum(self.left)
        return sum(map(int.__mul__, self.left, self.exits)) / tokens if tokens else float(self.exits[-1])

    @torch.inference_mode()
    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of the wanted tokens of all spans at their exits, and for each span its rows among the R."""
        began = time.perf_counter()
        plan = make_forward_batch(spans, self.dtype, self.device)
        if self._threshold is None:
            x = self._decoder.through(self._decoder.embed(plan), plan, self.forest.pool, 0, self.exits[-1])  # (T, E)
            logits = self._decoder.logits(x.index_select(0, plan.wanted))
            self.left[-1] += len(plan.wanted)
        else:
            first = self._leaving.looked[0] + 1
            pairs = [
                (row, path)
                for span, rows in zip(spans, plan.rows, strict=True)
                if rows
                for row, path in zip(rows, _paths(span), strict=True)
            ]
            wanted = [(row, *path) for row, path in sorted(pairs, key=itemgetter(0))]
            if self._read(spans, plan, first) < first:
                self._advance([(path, node) for _, path, node in wanted], first)
            logits = self._logits([path for _, path, _ in wanted])
            self._deepen(wanted, logits, self._threshold)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.passes += 1
        self.seconds += time.perf_counter() - began
        return logits, plan.rows

    def _read(self, spans: Sequence[Segment], plan: ForwardBatch, depth: int) -> int:
        """Read new tokens up to so many exits, or to the first where what stands before them has not come so far.

        Returns how many it were.
        """
        new = plan.slots.cpu().numpy()
        self._make_room()
        self._depth[new] = depth  # who stands before a token may be new as well
        if depth > 1 and any((self._depth[span.context] < depth).any() for span in spans):
            depth = 1
        x = self._decoder.through(self._decoder.embed(plan), plan, self.forest.pool, 0, self.exits[depth - 1])  # (T, E)
        self._keep(plan.slots, x, depth)
        return depth

    def _logits(self, paths: Sequence[Slots]) -> torch.Tensor:
        """Logits (R, V) of the last token of each path, where it has come to."""
        ends = torch.from_numpy(np.array([path[-1] for path in paths], dtype=np.int64)).to(self.device)
        return self._decoder.logits(self._states.index_select(0, ends))

    def _deepen(self, wanted: list[tuple[int, Slots, RadixNode]], logits: torch.Tensor, threshold: float) -> None:
        """Take the wanted tokens that are not sure through more layers; ``logits`` (R, V) is changed in place."""
        for number, following in pairwise(self._leaving.looked):
            if not wanted:
                break
            rows = torch.tensor([row for row, _, _ in wanted], device=self.device)
            sure = (confidence(logits.index_select(0, rows)) > threshold).tolist()
            self.left[number] += sum(sure)
            self._leaving.learn(number, sum(sure), len(sure))
            wanted = [token for token, leaves in zip(wanted, sure, strict=True) if not leaves]
            if not wanted:
                break
            self._advance([(path, node) for _, path, node in wanted], following + 1)
            rows = torch.tensor([row for row, _, _ in wanted], device=self.device)
            logits.index_copy_(0, rows, self._logits([path for _, path, _ in wanted]))
        self.left[-1] += len(wanted)
        self._leaving.passed()

    def _advance(self, paths: Sequence[tuple[Slots, RadixNode]], depth: int) -> None:
        """Take all tokens of these paths to so many exits, in one pass from each depth where some are."""
        reached = sorted({at for path, _ in paths for at in np.bincount(self._depth[path]).nonzero()[0].tolist()})
        for at, following in pairwise([*(at for at in reached if at < depth), depth]):
            plan = make_forward_batch(self._pending(paths, at), self.dtype, self.device)
            x = self._states.index_select(0, plan.slots)
            x = self._decoder.through(x, plan, self.forest.pool, self.exits[at - 1], self.exits[following - 1])
            self._keep(plan.slots, x, following)

    def _pending(self, paths: Sequence[tuple[Slots, RadixNode]], depth: int) -> list[Segment]:
        """What must pass the next layers so that the ends of all paths have passed them, every token once.

        Mostly a path's last tokens; one before them where the forest held another's computation of the same token.
        """
        spans: list[Segment] = []
        taken: set[int] = set()
        for path, node in paths:
            left = [i for i in np.flatnonzero(self._depth[path] <= depth).tolist() if int(path[i]) not in taken]
            breaks = [0, *(k for k in range(1, len(left)) if left[k] != left[k - 1] + 1), len(left)]
            for first, last in pairwise(breaks):
                if first < last:
                    start, run = left[first], path[left[first] : left[last - 1] + 1]
                    taken.update(run.tolist())
                    spans.append(Segment([0] * len(run), run, path[:start], _within(node, start)))
        return spans

    def _make_room(self) -> None:
        """For every slot of the pool."""
        missing = self.forest.pool.capacity - len(self._depth)
        if missing > 0:
            width = self.weights.model.network.config.hidden_size
            new = torch.empty(missing, width, dtype=self.dtype, device=self.device)
            self._states = torch.cat((self._states.to(new).view(-1, width), new))  # first, as memory may run out
            self._depth = np.concatenate((self._depth, np.zeros(missing, dtype=np.int8)))

    def _keep(self, slots: torch.Tensor, x: torch.Tensor, depth: int) -> None:
        """Hidden states (T, E) of tokens that have reached so many exits."""
        self._depth[slots.cpu().numpy()] = depth
        self._states.index_copy_(0, slots, x)


def confidence(logits: torch.Tensor) -> torch.Tensor:
    """The largest probability (R,) of each row of logits (R, V)."""
    wide = logits.float()
    return (wide.amax(dim=1) - wide.logsumexp(dim=1)).exp()


def _paths(span: Segment) -> list[tuple[Slots, RadixNode]]:
    """Of every wanted token the slots of all tokens up to it and itself, and the span's node."""
    seen = span.visible()  # (n, n)
    return [(np.concatenate((span.context, span.slots[seen[token]])), span.node) for token in span.wanted]


def _within(node: RadixNode, length: int) -> RadixNode:
    """The deepest node of a path that ends within the first ``length`` tokens."""
    while node.parent is not None and node.end > length:
        node = node.parent
    return node
