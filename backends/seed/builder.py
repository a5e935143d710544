"""Builds an engine from its options: runners, drafter, verifier, scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..models import catalog
from ..models.loader import DTYPES, Model
from ..models.tokenizer import ChatTokenizer
from .config import EngineConfig
from .draft_model import SharedDraftModel
from .drafters.base import Drafter, RoundLoad
from .drafters.hybrid import HybridDrafter
from .drafters.model.beam_depth import START as BEAMS_START
from .drafters.model.beam_depth import BeamDepthPolicy
from .drafters.model.beam_tree import DEPTH as BEAM_DEPTH
from .drafters.model.beam_tree import BeamShape, size_of
from .drafters.model.drafter import ModelDrafter
from .drafters.model.prefill_policy import PrefillPolicy
from .drafters.tables.ngram import NgramDrafter
from .drafters.tables.stand import StandDrafter
from .drafters.tables.token_recycling import RecyclingDrafter
from .executor import profiler
from .executor.cost_table import CostTable
from .executor.model_runner import ModelRunner
from .records import BEAMS, MODEL
from .scheduler.metrics import Counters
from .scheduler.requests import JobFactory
from .scheduler.scheduler import Scheduler
from .speculation.calibration import AcceptanceEstimator
from .speculation.goodput import best_chain
from .speculation.speculator import DEPTH, Speculator
from .verifiers.beam_coupled import CoupledBeams
from .verifiers.beam_rejection import BeamRejection
from .verifiers.rejection import VERIFIERS

if TYPE_CHECKING:
    import torch

    from .executor.weights import WeightCache


@dataclass(slots=True)
class EngineParts:
    """A loaded engine."""

    config: EngineConfig
    jobs: JobFactory
    scheduler: Scheduler
    draft: SharedDraftModel

    @property
    def draft_runner(self) -> ModelRunner | None:
        """The draft model's runner; None without a draft model."""
        return None if self.config.draft is None else self.draft.runner

    def reset(self, *, tables: bool) -> None:
        """Empty the prefix caches and, with ``tables``, start with a new drafter."""
        scheduler = self.scheduler
        scheduler.runner.reset_cache()
        if self.draft_runner is not None:
            self.draft_runner.reset_cache()
        if tables:
            speculator = scheduler.speculator
            speculator.start(build_drafter(self.config, self.draft, speculator, scheduler.runner.vocabulary))
            if self.draft_runner is not None:
                self.draft_runner.reset_statistics()

    def figures(self, counters: Counters) -> dict[str, Any]:
        """The figures of the counted time, and the state of memory."""
        pool, drafter = self.scheduler.runner.forest.pool, self.scheduler.speculator.drafter
        return counters.figures() | {
            "mbsu": self._memory_bound_speedup(counters),
            "drafter": "none" if drafter is None else drafter.name,
            "kv_tokens": pool.used,
            "kv_peak_tokens": pool.peak,
            "kv_allocated_tokens": pool.capacity,
            "kv_peak_bytes": pool.peak * pool.slot_bytes,
        }

    def _memory_bound_speedup(self, counters: Counters) -> float | None:
        """Speed-up if a pass took the time to read its weights (MBSU, Jeon et al., arXiv 2402.14160, section 4)."""
        if self.draft_runner is None or not counters.row_passes or not counters.rounds:
            return None
        weight = self.draft_runner.mean_parameters / self.scheduler.runner.parameters
        gained = counters.tokens / counters.row_passes
        return round(gained / (1 + weight * counters.draft_passes / counters.rounds), 4)


class EngineBuilder:
    """Builds engines that hold the weights of each model once, and one draft model for all of them."""

    def __init__(self, weights: WeightCache) -> None:
        self.weights = weights
        self.draft = SharedDraftModel(weights)

    def build(
        self, config: EngineConfig, tokenizer: ChatTokenizer, load: Callable[[], Model], device: torch.device
    ) -> EngineParts:
        """Load the models, check them and measure their passes. Raises ModelError.

        ``load`` reads the target where its weights are not in memory yet.
        """
        memory = int(config.kv_memory * 1e6)
        weights = self.weights.take(catalog.resolve(config.model), DTYPES[config.dtype], device, load)
        runner = ModelRunner(weights, memory)
        model = replace(weights.model, context=runner.context)  # clipped to what the engine can run
        self.draft.load(config, tokenizer, runner, memory)
        research = config.research
        speculator = Speculator(profiler.profile_cost_table(runner, config.dtype), research.draft_tokens)
        self.draft.profile(config)
        scheduler = Scheduler(
            runner,
            speculator,
            VERIFIERS[config.verify](),
            policy=research.policy,
            max_rows=research.max_rows,
            chunk=research.chunk,
        )
        beams = CoupledBeams() if config.coupled else BeamRejection(research.beam_threshold, research.beam_min)
        jobs = JobFactory(tokenizer, model, beams, single_beam=research.beam_survivors == 1)
        speculator.start(build_drafter(config, self.draft, speculator, runner.vocabulary))
        return EngineParts(config, jobs, scheduler, self.draft)


def build_drafter(
    config: EngineConfig, draft: SharedDraftModel, speculator: Speculator, vocabulary: int
) -> Drafter | None:
    """A drafter that has learnt nothing yet; None where nothing is to be drafted."""
    if not isinstance(config.drafter, str):
        return config.drafter()
    spec = config.drafter_spec
    table = None if spec.table is None else _table(spec.table, coupled=config.coupled)
    if config.draft is None or draft.runner is None:
        return table
    shape = spec.shape(coupled=config.coupled, most=speculator.draft_tokens)
    beam_draft = config.research.beam_draft
    width, depth = (None, BEAM_DEPTH) if beam_draft is None else size_of(beam_draft)
    beams = BeamShape(width, depth, coupled=config.coupled)
    model = ModelDrafter(draft.runner, vocabulary, shape, beams)
    if draft.cost is not None and speculator.draft_tokens is None:
        _weigh(model, speculator, draft.cost, deepens=beam_draft is None)
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
        return draft(nodes) * model.runner.relative_cost

    def late() -> AcceptanceEstimator:
        """What the model's claims were worth lately; a table beside it is another matter."""
        return weighed.estimator(MODEL)

    def chain(rows: int, others: RoundLoad) -> tuple[int, float]:
        return best_chain(target, passes, late().acceptance(), rows, DEPTH, others)

    def saves(rows: int, others: RoundLoad) -> float:
        """Seconds of a round, by the best chains; trees are hardly worse."""
        return target(rows + others.rows, others.nodes) * (1 - 1 / chain(rows, others)[1])

    model.joining = PrefillPolicy(passes, saves)
    if deepens and model.beams is not None:
        model.beams.deepening = BeamDepthPolicy(
            target, passes, lambda: weighed.estimator(BEAMS).acceptance(BEAMS_START)
        )
    if model.shape.name == "dynamic":

        def pays(rows: int, nodes: int, value: float, others: RoundLoad) -> bool:
            """Whether the tokens that a level may bring come faster than the target's own."""
            everyone = rows + others.rows
            plain = target(everyone, others.nodes)
            more = passes(nodes) + target(everyone, others.nodes + nodes) - plain
            return value * late().accepted_per_expected * plain > more * (rows + others.tokens)

        model.pays = pays
    else:
        model.depth_for = lambda rows, others: chain(rows, others)[0]
