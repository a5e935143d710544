"""A Llama decoder whose passes of fixed sizes are graphs: layers for each envelope, and the LM head for each number
of rows.

Passes that fit no envelope run plainly. T tokens of an envelope, R rows, E hidden size, V vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..kv_cache.pool import SlotPool
from .attention_tiles import TileLayout, most_integers
from .envelope import Envelope, EnvelopeSizes, padded_batch
from .forward_batch import ForwardBatch
from .graphs import GraphBackend, NoGraphs, Work
from .llama import LlamaDecoder
from .pass_memory import PassMemory
from .row_batch import with_rows
from .segment import Segment
from .sent_batch import sent

SPARE = 1.25
"""Free memory that there must be, as a multiple of what the largest pass and all results take."""

PLAIN_QUERIES = 4
"""Queries of a tile where there is no kernel: all of them are computed, and most tiles have one."""

HOST = torch.device("cpu")

Progress = Callable[[str, int, int], None]
"""What is recorded, how many graphs there are by now, and how many there will be."""


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """One recorded piece of work."""

    input: torch.Tensor
    output: torch.Tensor
    replay: Callable[[], None]

    def run(self, x: torch.Tensor) -> torch.Tensor:
        """The output for an input (rows, E) of at most the recorded size; valid until the next run."""
        self.input[: len(x)].copy_(x)
        self.replay()
        return self.output[: len(x)]


class GraphedDecoder:
    """The decoder of one runner, over its pool, whose memory must be fixed."""

    def __init__(
        self, plain: LlamaDecoder, pool: SlotPool, sizes: EnvelopeSizes, device: torch.device, tile_queries: int = 0
    ) -> None:
        """``tile_queries``: the most queries of a tile of the kernel in Triton; 0 without it."""
        self._plain, self._pool, self._device = plain, pool, device
        self._queries, self._kernel = tile_queries or PLAIN_QUERIES, bool(tile_queries)
        self.sizes = sizes
        self._memories: dict[Envelope, PassMemory] = {}
        self._layers: dict[tuple[int, int, Envelope], _Graph] = {}
        self._heads: dict[int, _Graph] = {}
        self._rows: list[int] = []

    def capture(self, backend: GraphBackend, stages: Sequence[tuple[int, int]], progress: Progress) -> None:
        """Record the layers of every stage (first, last) in every envelope, and the head. Raises NoGraphs.

        The largest come first, so that smaller ones find memory that is free again.
        """
        if not self._plain.fix_positions(self._pool.entries[0].dtype):
            raise NoGraphs("its rotary positions depend on the length of the text")
        envelopes = sorted(self.sizes.every, reverse=True)
        rows = sorted({envelope.tokens for envelope in envelopes}, reverse=True)
        if not envelopes:
            return
        self._check_memory(backend, rows, stages)
        total, count = len(stages) * len(envelopes) + len(rows), 0
        for envelope in envelopes:
            memory = self._memories[envelope] = self._memory(envelope)
            x, plan = self._plain.embed(memory.plan).clone(), memory.plan
            for stage in stages:
                output, replay = backend.capture(self._pass(x, plan, *stage))
                self._layers[stage[0], stage[1], envelope] = _Graph(x, output, replay)
                count += 1
                progress(f"{envelope.tokens} tokens", count, total)
        for number in rows:
            x = self._hidden(number)
            output, replay = backend.capture(self._head(x))
            self._heads[number] = _Graph(x, output, replay)
            count += 1
            progress(f"{number} rows of logits", count, total)
        self._rows = sorted(self._heads)

    def batch(self, spans: Sequence[Segment]) -> ForwardBatch | None:
        """A pass in its envelope, on the host; None where there is none for it, and for prompts."""
        if not self.sizes.may_hold(spans):
            return None
        layout = TileLayout(spans, self._queries, self._plain.window)
        envelope = self.sizes.find(layout.tokens, layout.count)
        return None if envelope is None else self._padded(layout, envelope)

    def sent(self, plan: ForwardBatch) -> ForwardBatch:
        """A pass of :meth:`batch` where its graph reads it, until the next pass of its size."""
        return self._memories[_envelope(plan)].fill(plan)

    def __call__(self, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """Logits (R, V)."""
        x = self.through(self.embed(plan), plan, pool, 0, self._plain.depth)
        return self.logits(x.index_select(0, plan.wanted))

    def embed(self, plan: ForwardBatch) -> torch.Tensor:
        """What enters the first layer (T, E)."""
        return self._plain.embed(plan)

    def through(self, x: torch.Tensor, plan: ForwardBatch, pool: SlotPool, first: int, last: int) -> torch.Tensor:
        """The output (T, E) of layer ``last - 1`` for the input ``x`` of layer ``first``, until the next pass."""
        graph, envelope = None, _envelope(plan)
        if envelope in self._memories and self._memories[envelope].holds(plan) and pool is self._pool:
            graph = self._layers.get((first, last, envelope))
        return self._plain.through(x, plan, pool, first, last) if graph is None else graph.run(x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (R, V) of what left a layer (R, E)."""
        place = bisect_left(self._rows, len(x))
        if place == len(self._rows) or not len(x):
            return self._plain.logits(x)
        return self._heads[self._rows[place]].run(x).clone()  # others are computed while these are in use

    def _check_memory(self, backend: GraphBackend, rows: Sequence[int], stages: Sequence[tuple[int, int]]) -> None:
        largest = max(self.sizes.every, key=lambda size: (size.tiles, size.tokens))
        plan = self._memory(largest).plan
        layers = self._pass(self._plain.embed(plan), plan, *stages[0])
        needed = backend.needed_bytes(layers)  # of one, as they run one after another
        x = self._hidden(rows[0])
        needed = max(needed, backend.needed_bytes(self._head(x)))
        logits = self._head(x)()
        results = sum(rows) * logits.nbytes // len(logits)
        results += sum(envelope.tokens for envelope in self.sizes.every) * len(stages) * x.nbytes // len(x)
        tables = sum(4 * most_integers(each.tokens, each.tiles, self._queries) for each in self.sizes.every)
        tables *= 1 if self._pool.windows is None else 2
        wanted, free = int(SPARE * (needed + results + tables)), backend.free_bytes()
        if wanted > free:
            raise NoGraphs(f"they need {wanted / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free")

    def _pass(self, x: torch.Tensor, plan: ForwardBatch, first: int, last: int) -> Work:
        return lambda: self._plain.through(x, plan, self._pool, first, last)

    def _head(self, x: torch.Tensor) -> Work:
        return lambda: self._plain.logits(x)

    def _memory(self, envelope: Envelope) -> PassMemory:
        """Memory for what a pass reads."""
        plan, windows = self._padded(TileLayout((), self._queries), envelope), self._pool.windows
        plan = plan if windows is None else with_rows(plan, windows)
        return PassMemory(plan, most_integers(envelope.tokens, envelope.tiles, self._queries), self._device)

    def _padded(self, layout: TileLayout, envelope: Envelope) -> ForwardBatch:
        return padded_batch(layout, envelope, self._pool.scratch, HOST, kernel=self._kernel)

    def _hidden(self, count: int) -> torch.Tensor:
        plan = self._padded(TileLayout((), self._queries), Envelope(count, 1))
        return self._plain.embed(sent(plan, self._device)).clone()


def _envelope(plan: ForwardBatch) -> Envelope:
    """The size of a pass; one without tiles has none that there is."""
    return Envelope(len(plan.slots), 0 if plan.tiles is None else plan.tiles.count)
