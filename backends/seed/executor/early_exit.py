"""Early exits of a draft model: each draft token is taken from the first exit whose confidence exceeds a threshold.

S2D (Kavehzadeh et al., arXiv 2407.01955) trains the exits of one model together; they share the final norm and the LM
head. A token that exits early has no keys and values in deeper layers. They are computed when a later token needs these
layers (lazy catch-up): until then its hidden state is stored by slot, so sequences that share a prefix share the
catch-up. Prompts, too, are computed only up to the first active exit until a token needs more layers.
Sequences of one pass may exit at different layers; each stage is one pass over those that remain. The paper evaluates
every exit with a threshold each; here all exits have one, and without a threshold from the user only exits that pay
are evaluated (:mod:`.exit_policy`). Under coupled verification tokens are drafted with the target's noise, where the
paper drafts the likeliest.
T new tokens, R wanted tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, pairwise
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray

from treeagent.errors import ConfigError, ModelError

from ..kernels.transfers import transfers_of
from ..kv_cache.by_slot import extended
from ..kv_cache.pool import Slots
from ..kv_cache.radix_node import RadixNode
from .exit_policy import ExitPolicy, exits_of
from .forward_batch import ForwardBatch
from .graphed_decoder import GraphedDecoder
from .llama import LlamaDecoder
from .model_runner import ModelRunner
from .segment import Segment
from .weights import Weights

ADAPTIVE = "adaptive"
CONFIDENCE = 0.8
"""Probability of the likeliest token above which it exits. At the paper's 0.5 too many tokens take the first exit: 0.8
had 3 to 8 % more memory-bound speed-up on both bundled targets, greedily and at temperature 1 (see
docs/results/drafts.md)."""


@dataclass(frozen=True, slots=True)
class ExitSpec:
    """The option ``exit``: a fixed number of layers or a confidence threshold. Raises ConfigError."""

    layers: int | None
    """Every token exits after so many layers; None chooses by confidence."""
    confidence: float = CONFIDENCE

    @classmethod
    def parse(cls, text: str) -> ExitSpec:
        """``adaptive``, ``adaptive:0.7`` with another threshold, or a number of layers."""
        word, colon, threshold = text.partition(":")
        if word.isdigit() and int(word) and not colon:
            return cls(int(word))
        try:
            confidence = float(threshold) if colon else CONFIDENCE
        except ValueError:
            confidence = -1.0
        if word != ADAPTIVE or not 0 <= confidence <= 1:
            raise ConfigError(
                f"exit must be {ADAPTIVE!r}, {ADAPTIVE + ':0.7'!r} (the confidence above which a draft token exits, "
                f"from 0 to 1) or a number of layers, not {text!r}"
            )
        return cls(None, confidence)


class EarlyExitRunner(ModelRunner):
    """Runs a draft model with several exits; passes go through all layers until :meth:`exit_early` is called."""

    def __init__(self, weights: Weights, memory: int, layers: int | None = None) -> None:
        """With ``layers`` every pass ends there. Raises ModelError if the model has no such exit."""
        self.exits = exits_of(weights.model.config)
        """Numbers of layers after which tokens may exit, ascending."""
        if layers is not None and layers not in self.exits:
            known, where = ", ".join(map(str, self.exits)), weights.where
            raise ModelError(f"the draft {where} has no exit after {layers} layers; it has exits after: {known}")
        if not isinstance(weights.decoder, LlamaDecoder):
            raise weights.refusal("drafts with exits must be of the Llama family")
        if layers is not None:
            self.exits = (layers,)
        super().__init__(weights, memory)
        self._plain: LlamaDecoder = weights.decoder
        self.exit_counts = [0] * len(self.exits)
        """Wanted tokens by exit."""
        self._threshold: float | None = None
        self._seconds: tuple[float, float] | None = None
        self._policy = ExitPolicy(self.exits)
        self._depth: NDArray[np.int8] = np.zeros(0, dtype=np.int8)
        """(slots,) how many exits the token has reached."""
        self._states = torch.empty(0, weights.model.config.hidden_size, dtype=self.dtype, device=self.device)
        """(slots, E) the hidden state after the last computed layer."""

    def exit_early(self, confidence: float, seconds: tuple[float, float] | None = None) -> None:
        """Let a token exit where the largest probability first exceeds ``confidence``.

        With ``seconds`` of passes that end at the first and at the last exit, only exits that pay are evaluated.
        """
        self._threshold, self._seconds = confidence, seconds
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """See :meth:`ModelRunner.reset_statistics`."""
        self._policy = ExitPolicy(self.exits, self._seconds)

    @contextmanager
    def ending(self, number: int) -> Iterator[None]:
        """Within the context every pass ends at one exit; keys and values from before must not be used."""
        exits, threshold = self.exits, self._threshold
        self.exits, self._threshold = exits[: number + 1], None
        try:
            yield
        finally:
            self.exits, self._threshold = exits, threshold

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Every run of layers from one exit, or the beginning, to a later exit."""
        return list(combinations((0, *self.exits), 2))

    @property
    def _decoder(self) -> LlamaDecoder | GraphedDecoder:
        return self.graphs or self._plain

    @property
    def layers(self) -> int:
        """Layers of the longest pass."""
        return self.exits[-1]

    @property
    def relative_cost(self) -> float:
        """See :meth:`ModelRunner.relative_cost`; from measured times if there are any, else from layers."""
        return self._policy.relative_cost if self._policy.weighs else self._depths / self.layers

    @property
    def mean_parameters(self) -> float:
        """Mean number of parameters that a pass reads."""
        return self.parameters - (len(self.weights.layers) - self._depths) * self.weights.layer_parameters

    @property
    def _depths(self) -> float:
        """Mean number of layers of the wanted tokens."""
        tokens = sum(self.exit_counts)
        return sum(map(int.__mul__, self.exit_counts, self.exits)) / tokens if tokens else float(self.exits[-1])

    @torch.inference_mode()
    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of all wanted tokens at their exits, and for each segment its rows among the R."""
        began = time.perf_counter()
        plan = self.batch(spans)
        if self._threshold is None:
            x = self._decoder.through(self._decoder.embed(plan), plan, self.forest.pool, 0, self.exits[-1])  # (T, E)
            logits = self._decoder.logits(x.index_select(0, plan.wanted))
            self.exit_counts[-1] += len(plan.wanted)
        else:
            first = self._policy.active_exits[0] + 1
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
        transfers_of(self.device).wait()
        self.count_pass(plan.work, time.perf_counter() - began)
        return logits, plan.rows

    def _read(self, spans: Sequence[Segment], plan: ForwardBatch, depth: int) -> int:
        """Compute new tokens up to ``depth`` exits, or to the first exit if a token of their contexts is less deep.

        Returns the depth that was computed.
        """
        new = slots_of(plan)
        self._make_room()
        self._depth[new] = depth  # contexts may hold new tokens of this pass
        if depth > 1 and any((self._depth[span.context] < depth).any() for span in spans):
            depth = 1
        x = self._decoder.through(self._decoder.embed(plan), plan, self.forest.pool, 0, self.exits[depth - 1])  # (T, E)
        self._keep(plan, x, depth)
        return depth

    def _logits(self, paths: Sequence[Slots]) -> torch.Tensor:
        """Logits (R, V) of the last token of each path, at the depth that it has reached."""
        ends = torch.from_numpy(np.array([path[-1] for path in paths], dtype=np.int64)).to(self.device)
        return self._decoder.logits(self._states.index_select(0, ends))

    def _deepen(self, wanted: list[tuple[int, Slots, RadixNode]], logits: torch.Tensor, threshold: float) -> None:
        """Compute more layers for wanted tokens below the threshold; updates ``logits`` (R, V) in place."""
        for number, following in pairwise(self._policy.active_exits):
            if not wanted:
                break
            rows = torch.tensor([row for row, _, _ in wanted], device=self.device)
            sure = (confidence(logits.index_select(0, rows)) > threshold).tolist()
            self.exit_counts[number] += sum(sure)
            self._policy.learn(number, sum(sure), len(sure))
            wanted = [token for token, exits in zip(wanted, sure, strict=True) if not exits]
            if not wanted:
                break
            self._advance([(path, node) for _, path, node in wanted], following + 1)
            rows = torch.tensor([row for row, _, _ in wanted], device=self.device)
            logits.index_copy_(0, rows, self._logits([path for _, path, _ in wanted]))
        self.exit_counts[-1] += len(wanted)
        self._policy.end_pass()

    def _advance(self, paths: Sequence[tuple[Slots, RadixNode]], depth: int) -> None:
        """Compute all tokens of the paths up to ``depth`` exits, with one pass per depth at which some of them are.

        ``paths`` holds the slots (n,) of each path and the node at or above its end. Passes update hidden states.
        """
        reached = sorted({at for path, _ in paths for at in np.bincount(self._depth[path]).nonzero()[0].tolist()})
        for at, following in pairwise([*(at for at in reached if at < depth), depth]):
            plan = self.batch(self._pending(paths, at))
            x = self._states.index_select(0, plan.slots)
            x = self._decoder.through(x, plan, self.forest.pool, self.exits[at - 1], self.exits[following - 1])
            self._keep(plan, x, following)

    def _pending(self, paths: Sequence[tuple[Slots, RadixNode]], depth: int) -> list[Segment]:
        """Segments of the tokens (by slots) that are at most at ``depth`` exits, each token once.

        These are mostly the last tokens of a path; earlier ones occur where the cache holds a slot of another sequence.
        """
        spans: list[Segment] = []
        taken: set[int] = set()
        for path, node in paths:
            shallow = [i for i in np.flatnonzero(self._depth[path] <= depth).tolist() if int(path[i]) not in taken]
            breaks = [0, *(k for k in range(1, len(shallow)) if shallow[k] != shallow[k - 1] + 1), len(shallow)]
            for first, last in pairwise(breaks):
                if first < last:
                    start, run = shallow[first], path[shallow[first] : shallow[last - 1] + 1]
                    taken.update(run.tolist())
                    spans.append(Segment([0] * len(run), run, path[:start], _within(node, start)))
        return spans

    def _make_room(self) -> None:
        """Extend the arrays by slot to the size of the pool."""
        rows = self.forest.pool.rows
        self._states = extended(self._states, rows)  # first, because memory may run out
        self._depth = np.pad(self._depth, (0, max(0, rows - len(self._depth))))

    def _keep(self, plan: ForwardBatch, x: torch.Tensor, depth: int) -> None:
        """Store hidden states ``x`` (T, E) of the tokens of a pass, which have reached ``depth`` exits."""
        self._depth[slots_of(plan)] = depth
        self._states.index_copy_(0, plan.slots, x)


def slots_of(plan: ForwardBatch) -> Slots:
    """The slots of a pass's new tokens, without asking its device."""
    return np.concatenate([span.slots for span in plan.segments])


def confidence(logits: torch.Tensor) -> torch.Tensor:
    """The largest probability (R,) of each row of logits (R, V)."""
    wide = logits.float()
    return (wide.amax(dim=1) - wide.logsumexp(dim=1)).exp()


def _paths(span: Segment) -> list[tuple[Slots, RadixNode]]:
    """For every wanted token the slots (n,) of all tokens up to and including it, and the node of the segment."""
    seen = span.visible()  # (n, n)
    return [(np.concatenate((span.context, span.slots[seen[token]])), span.node) for token in span.wanted]


def _within(node: RadixNode, length: int) -> RadixNode:
    """The deepest node of the path that ends within the first ``length`` tokens."""
    while node.parent is not None and node.end > length:
        node = node.parent
    return node
