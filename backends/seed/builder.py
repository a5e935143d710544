"""Puts an engine together from a backend's options: runners, drafter, verifier, scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..models import catalog
from ..models.loader import DTYPES, Model
from ..models.tokenizer import ChatTokenizer
from .drafters.base import Drafter, RoundLoad
from .drafters.hybrid import HybridDrafter
from .drafters.model.beam_depth import START as BEAMS_START
from .drafters.model.beam_depth import BeamDepthPolicy
from .drafters.model.beam_tree import DEPTH as BEAM_DEPTH
from .drafters.model.beam_tree import BeamShape, size_of
from .drafters.model.drafter import ModelDrafter
from .drafters.model.prefill_policy import PrefillPolicy
from .drafters.registry import DrafterSpec
from .drafters.tables.ngram import NgramDrafter
from .drafters.tables.stand import StandDrafter
from .drafters.tables.token_recycling import RecyclingDrafter
from .executor import profiler
from .executor.cost_table import CostTable
from .executor.model_runner import ModelRunner
from .records import BEAMS, MODEL
from .scheduler.metrics import Counters
from .scheduler.scheduler import Scheduler
from .speculation.calibration import AcceptanceEstimator
from .speculation.goodput import best_chain
from .speculation.speculator import DEPTH, Speculator
from .verifiers.beam_coupled import CoupledBeams
from .verifiers.beam_rejection import BeamRejection
from .verifiers.rejection import VERIFIERS

if TYPE_CHECKING:
    import torch

    from .backend import SeedBackend


@dataclass(slots=True)
class Parts:
    """A loaded engine."""

    text: ChatTokenizer
    model: Model
    """The target; its context is clipped to what the engine can run."""
    scheduler: Scheduler
    draft_runner: ModelRunner | None
    """The draft model's, None without one."""
    make_drafter: Callable[[], Drafter | None]
    """A drafter that has learnt nothing yet."""

    def reset(self, *, tables: bool) -> None:
        """Empty forests and, with ``tables``, a drafter that knows nothing."""
        scheduler = self.scheduler
        scheduler.runner.forest = scheduler.runner.new_forest()
        if self.draft_runner is not None:
            self.draft_runner.forest = self.draft_runner.new_forest()
        if tables:
            scheduler.drafting.start(self.make_drafter())
            if self.draft_runner is not None:
                self.draft_runner.unlearn()

    def figures(self, counters: Counters) -> dict[str, Any]:
        """The figures of a time, and the state of memory."""
        pool, drafter = self.scheduler.runner.forest.pool, self.scheduler.drafting.drafter
        return counters.figures() | {
            "mbsu": self._memory_bound(counters),
            "drafter": "none" if drafter is None else drafter.name,
            "kv_tokens": pool.used,
            "kv_peak_tokens": pool.peak,
            "kv_allocated_tokens": pool.capacity,
            "kv_peak_bytes": pool.peak * pool.slot_bytes,
        }

    def _memory_bound(self, counters: Counters) -> float | None:
        """Speed-up if a pass took the time to read its weights (MBSU, Jeon et al., arXiv 2402.14160, section 4)."""
        if self.draft_runner is None or not counters.row_passes or not counters.rounds:
            return None
        weight = self.draft_runner.weight / self.scheduler.runner.parameters
        gained = counters.tokens / counters.row_passes
        return round(gained / (1 + weight * counters.draft_passes / counters.rounds), 4)


def assemble(backend: SeedBackend, text: ChatTokenizer, load: Callable[[], Model], device: torch.device) -> Parts:
    """Load the models, check them and measure their passes. Raises ModelError."""
    memory = int(backend.kv_memory * 1e6)
    weights = backend.shelf.take(catalog.resolve(backend.model), DTYPES[backend.dtype], device, load)
    runner = ModelRunner(weights, memory)
    model = replace(weights.model, context=runner.context)
    shared = backend.shared
    draft_runner = shared.load(backend, text, runner, memory)
    weighed = Speculator(profiler.profile_cost_table(runner, backend.dtype), backend.draft_tokens)
    shared.start(backend)
    scheduler = Scheduler(
        runner,
        weighed,
        VERIFIERS[backend.verify](),
        beams=CoupledBeams()
        if backend.verify == "coupled"
        else BeamRejection(backend.beam_threshold, backend.beam_min),
        policy=backend.policy,
        eos=model.eos,
        max_rows=backend.max_rows,
        chunk=backend.chunk,
    )

    def make() -> Drafter | None:
        return _drafter(backend, draft_runner, shared.cost, weighed, runner.vocabulary)

    weighed.start(make())
    return Parts(text, model, scheduler, draft_runner, make)


def _drafter(
    backend: SeedBackend, runner: ModelRunner | None, cost: CostTable | None, weighed: Speculator, vocabulary: int
) -> Drafter | None:
    if backend.make_drafter is not None:
        return backend.make_drafter()
    choice = DrafterSpec.parse(backend.chosen_drafter)
    table = None if choice.table is None else _table(choice.table, coupled=backend.verify == "coupled")
    if runner is None:
        return table
    shape = choice.shape(coupled=backend.verify == "coupled", most=weighed.draft_tokens)
    width, depth = (None, BEAM_DEPTH) if backend.beam_draft is None else size_of(backend.beam_draft)
    beams = BeamShape(width, depth, coupled=backend.verify == "coupled")
    model = ModelDrafter(runner, vocabulary, shape, beams)
    if cost is not None and weighed.draft_tokens is None:
        _weigh(model, weighed, cost, deepens=backend.beam_draft is None)
    return model if table is None else HybridDrafter(table, model)


def _table(name: str, *, coupled: bool) -> Drafter:
    """An empty table."""
    if name == "recycling":
        return RecyclingDrafter(coupled=coupled)
    return StandDrafter(coupled=coupled) if name == "stand" else NgramDrafter()


def _weigh(model: ModelDrafter, weighed: Speculator, draft: CostTable, *, deepens: bool) -> None:
    """Let measured times and late acceptance decide how deep a model drafts, whose passes take what ``draft`` says.

    ``deepens``: beams too.
    """
    target = weighed.cost

    def passes(nodes: float) -> float:
        """Seconds of a pass, as far as its tokens went lately."""
        return draft(nodes) * model.runner.share

    def late() -> AcceptanceEstimator:
        """What the model's claims were worth lately; a table beside it is another matter."""
        return weighed.calibration(MODEL)

    def chain(rows: int, others: RoundLoad) -> tuple[int, float]:
        return best_chain(target, passes, late().acceptance(), rows, DEPTH, others)

    def saves(rows: int, others: RoundLoad) -> float:
        """Seconds of a round, by the best chains; trees are hardly worse."""
        return target(rows + others.rows, others.nodes) * (1 - 1 / chain(rows, others)[1])

    model.joining = PrefillPolicy(passes, saves)
    if deepens and model.beams is not None:
        model.beams.deepening = BeamDepthPolicy(
            target, passes, lambda: weighed.calibration(BEAMS).acceptance(BEAMS_START)
        )
    if model.shape.name == "dynamic":

        def pays(rows: int, nodes: int, value: float, others: RoundLoad) -> bool:
            """Whether the tokens that a level may bring come faster than the target's own."""
            everyone = rows + others.rows
            plain = target(everyone, others.nodes)
            more = passes(nodes) + target(everyone, others.nodes + nodes) - plain
            return value * late().truth * plain > more * (rows + others.tokens)

        model.pays = pays
    else:
        model.depth_for = lambda rows, others: chain(rows, others)[0]
