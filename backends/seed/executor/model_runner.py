"""Run one model over packed batches of segments, and measure the time of its passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from treeagent.errors import ConfigError

from ...models.low_rank import Adapter
from ..kernels.transfers import transfers_of
from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import SlotPool
from ..kv_cache.radix_tree import RadixCache
from .compiled_decoder import CompiledDecoder
from .compiled_steps import StepOutput, StepRow
from .forward_batch import ForwardBatch, make_forward_batch
from .graphed_decoder import HOST, GraphedDecoder
from .hf_model import adapted
from .pass_work import PassWork
from .row_batch import with_rows
from .segment import Segment
from .sent_batch import sent
from .weights import Weights

STATES = 2
"""States of a live branch: the one it goes on from, and the one that a pass computes."""
STATE_MEMORY = 2 * 10**9
"""Bytes of states where nobody says another number."""
CACHED = 16 * 2**20
"""Bytes of cached keys and values that no request uses, or as many as the weights take if that is more."""

Listener = Callable[[torch.Tensor, Sequence[torch.Tensor]], None]
"""Takes the slots (T,) of the new tokens of a pass, and for each layer the states (T, E) that enter it."""


class ModelRunner:
    """A model's weights, a pool of keys and values, and passes over both."""

    def __init__(
        self,
        weights: Weights,
        memory: int,
        state_memory: int = STATE_MEMORY,
        adapter: Adapter | None = None,
        *,
        rows: bool = False,
    ) -> None:
        """``memory`` is the most bytes that keys and values may take, ``state_memory`` the same of states.

        ``rows``: layers with a window keep the tokens inside it alone; the caller sweeps then (:meth:`sweep`).

        The weights are shared; keys and values are those of this runner, and of its adapter. Raises ConfigError where
        ``state_memory`` holds too few.
        """
        self.weights = weights
        self.decoder = weights.decoder if adapter is None else adapted(weights.decoder, adapter)
        """How passes are computed."""
        self.ranks = () if adapter is None else tuple(adapter.ranks)
        """Of the adapter's layers."""
        self.device = weights.device
        self.dtype = weights.dtype
        self.context = weights.context
        """The most tokens of a text; None when the model does not say."""
        self.vocabulary = weights.vocabulary
        """Size of a row of logits."""
        self.parameters = weights.parameters
        self.memory, self.state_memory = memory, state_memory
        self._rows = rows
        self._beside = 0
        """Bytes that a head keeps for each slot."""
        self.seconds = 0.0
        """Time spent in passes."""
        self.passes = 0
        self.work = PassWork()
        """What the last pass computed."""
        self._listener: Listener | None = None
        self._heard: tuple[int, ...] = ()
        """The layers whose inputs the listener is given."""
        self.exit_counts: list[int] = []
        """Tokens by the exit that their logits came from; empty for a model without exits."""
        self.graphs: GraphedDecoder | None = None
        """What makes passes of fixed sizes; None where all passes are plain."""
        self._forest = self._new_cache()
        states = self.forest.pool.states
        if states is not None and states.limit < STATES:
            raise ConfigError(
                f"state_memory is too small: one state of {weights.where} takes {states.row_bytes / 1e6:.3g} MB, and a "
                f"text needs {STATES}. Give state_memory={STATES * states.row_bytes / 1e6:.3g} at least, in megabytes."
            )

    @property
    def forest(self) -> RadixCache:
        """The prefix cache."""
        return self._forest

    @property
    def stages(self) -> list[tuple[int, int]]:
        """First and last layer of every run of layers that passes are made of."""
        return [(0, self.layers)]

    @property
    def listens(self) -> bool:
        """Whether states that enter layers are given to a listener; all passes are plain then."""
        return self._listener is not None

    @property
    def takes_steps(self) -> bool:
        """Whether several plain passes can be made in one call."""
        decoder = self.decoder
        return isinstance(decoder, CompiledDecoder) and decoder.takes_steps and not self.listens

    def padded(self, tokens: int) -> int:
        """Tokens that a pass over so many computes: more where it is a graph of a fixed size."""
        return tokens if self.graphs is None else self.graphs.sizes.padded(tokens)

    def fix_pool(self, slots: int) -> None:
        """Replace the cache by one whose memory is allocated now and stays where it is."""
        pool = self._new_pool()
        pool.fix(slots, self.context)
        self._forest = self._new_cache(pool)

    def use_graphs(self, graphs: GraphedDecoder) -> None:
        """Make the passes that fit an envelope by graphs over the fixed pool."""
        self.graphs = graphs

    def use_plain_passes(self) -> None:
        """Use no graphs, and a pool that grows; the cache is empty then."""
        self.graphs = None
        self._forest = self._new_cache()

    @property
    def most_branches(self) -> int | None:
        """Live branches that there are states for; None for a model without states."""
        states = self.forest.pool.states
        return None if states is None else states.limit // STATES

    def hold_states(self, branches: Iterable[PageTable]) -> None:
        """Keep the states that live branches go on from; the others may be dropped when memory runs out."""
        states = self.forest.pool.states
        if states is not None:
            states.hold([slot for branch in branches if (slot := branch.last_state()) is not None])

    def settle_states(self, branches: Iterable[PageTable]) -> None:
        """Keep the states at the ends of branches that the last pass verified."""
        states = self.forest.pool.states
        if states is not None:
            with torch.inference_mode():
                states.settle([int(branch.table[-1]) for branch in branches if branch.length])

    def sweep(self, branches: Iterable[PageTable]) -> None:
        """Give back what layers with windows hold of tokens that none of all ``branches`` sees any more.

        No pass may be under way.
        """
        windows = self.forest.pool.windows
        if windows is not None:
            windows.sweep(branch.window() for branch in branches)

    def keep_windows(self, branches: Iterable[PageTable]) -> None:
        """Keep what layers with windows hold before the ends of texts that have ended, as texts may go on there."""
        windows = self.forest.pool.windows
        if windows is not None:
            for branch in branches:
                windows.keep(branch.table)

    @property
    def layers(self) -> int:
        """Layers of a full pass."""
        return len(self.weights.layers)

    @property
    def mean_parameters(self) -> float:
        """Mean number of parameters that a pass reads."""
        return self.parameters

    @property
    def relative_cost(self) -> float:
        """Mean time of a pass as a share of the time of a pass through all layers."""
        return 1.0

    def listen(self, layers: Sequence[int], listener: Listener) -> None:
        """Give ``listener`` after every pass the states that enter these layers (counted from 0), in their order.

        What it is told of are all new tokens of the pass, prompts and drafts among them. All passes are plain then.
        """
        self._heard, self._listener, self.graphs = tuple(layers), listener, None

    def count_pass(self, work: PassWork, seconds: float) -> None:
        """A pass was made, for this runner or for it and others over the same weights."""
        self.passes += 1
        self.work = work
        self.seconds += seconds

    def keep_beside(self, slot_bytes: int) -> None:
        """A head keeps so many bytes for each slot, out of the same memory; the cache is empty then."""
        self._beside = slot_bytes
        self.reset_cache()

    def reset_statistics(self) -> None:
        """Forget statistics of earlier passes that influence later ones; a model without exits has none."""

    def reset_cache(self) -> None:
        """Replace the cache of keys and values by an empty one."""
        pool = self.forest.pool
        if pool.fixed:
            pool.clear()
        self._forest = self._new_cache(pool if pool.fixed else None)

    @contextmanager
    def profiling(self) -> Iterator[None]:
        """Run passes of any size to measure them; afterwards the cache is empty and the counters are zero."""
        self.forest.pool.lift_limit()  # kv_memory may be less than the largest measured pass
        if self.forest.pool.states is not None:
            self.forest.pool.states.assume_zeros()
        try:
            yield
        finally:
            self.reset_cache()
            self.seconds, self.passes, self.exit_counts = 0.0, 0, [0] * len(self.exit_counts)

    def _new_pool(self) -> SlotPool:
        memory, states = self.memory, self.state_memory
        return self.weights.new_pool(memory, self.layers, states, rows=self._rows, beside=self._beside)

    def batch(self, spans: Sequence[Segment]) -> ForwardBatch:
        """The pass over segments, in an envelope if there is a graph for it; one that is made at once."""
        weights, windows = self.weights, self.forest.pool.windows
        fixed = None if self.graphs is None else self.graphs.batch(spans)
        plan = fixed
        if plan is None:
            device = HOST if weights.tile_queries else self.device
            plan = make_forward_batch(spans, self.dtype, device, weights.in_place, weights.tile_queries)
        plan = plan if windows is None else with_rows(plan, windows)
        if fixed is not None and self.graphs is not None:
            return self.graphs.sent(plan)
        return sent(plan, self.device) if weights.tile_queries else plan

    def _new_cache(self, pool: SlotPool | None = None) -> RadixCache:
        """An empty cache over a pool, a new one unless it is given."""
        pool = self._new_pool() if pool is None else pool
        return RadixCache(pool, max(CACHED, self.parameters * self.dtype.itemsize) // max(1, pool.slot_bytes))

    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of the wanted tokens of all segments, and for each segment its rows among the R."""
        began = time.perf_counter()
        with torch.inference_mode():
            plan = self.batch(spans)
            states: Sequence[torch.Tensor] = ()
            if self._listener is None:
                logits = (self.graphs or self.decoder)(plan, self.forest.pool)
            else:
                logits, states = self.decoder.with_states(plan, self.forest.pool, self._heard)
        transfers_of(self.device).wait()
        self.count_pass(plan.work, time.perf_counter() - began)
        if self._listener is not None:
            with torch.inference_mode():
                self._listener(plan.slots, states)
        return logits, plan.rows

    def take_steps(self, rows: Sequence[StepRow]) -> StepOutput:
        """Several tokens of each row, one pass after another in one call; it :attr:`takes_steps`."""
        decoder = self.decoder
        assert isinstance(decoder, CompiledDecoder)  # noqa: S101  # the caller's condition
        began = time.perf_counter()
        with torch.inference_mode():
            output = decoder.take_steps(rows, self.forest.pool)
        self.count_pass(output.work, time.perf_counter() - began)
        self.passes += output.passes - 1
        return output
