"""Builds an engine from its options: runners, drafter, verifier, scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from treeagent.errors import ConfigError

from ..models import catalog
from ..models.adapter_file import load_adapter
from ..models.model import Model
from ..models.tokenizer import ChatTokenizer
from .config import EngineConfig
from .draft_cost import ModelDraftCost
from .draft_head import BoundDraft, DraftPasses, head_of
from .draft_model import SharedDraftModel
from .draft_twin import twin_of
from .drafters.base import Drafter
from .drafters.heads.block_runner import BlockRunner
from .drafters.heads.head_drafters import head_drafter
from .drafters.hybrid import HybridDrafter
from .drafters.model.beam_tree import DEPTH as BEAM_DEPTH
from .drafters.model.beam_tree import BeamShape, size_of
from .drafters.model.drafter import ModelDrafter
from .drafters.model.prefix_cache import PrefixCache
from .drafters.model.prefix_drafter import PrefixDrafter
from .drafters.tables.compiled_ngram import ngram_drafter
from .drafters.tables.merged import MergedDrafter
from .drafters.tables.stand import StandDrafter
from .drafters.tables.suffix import SuffixDrafter
from .drafters.tables.token_recycling import RecyclingDrafter
from .earlier_texts import read_earlier_texts
from .executor import profiler
from .executor.graph_setup import set_up_cuda_graphs
from .executor.model_runner import ModelRunner
from .executor.shared_pool import SharedPoolRunner
from .scheduler.metrics import Counters
from .scheduler.requests import JobFactory
from .scheduler.scheduler import Scheduler
from .speculation.speculator import Speculator
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
    draft: DraftPasses
    texts: Sequence[Sequence[int]] = ()
    """Texts of earlier runs, which every new drafter learns."""
    kernels: str = ""
    """What computes the target's passes."""

    @property
    def draft_runner(self) -> ModelRunner | None:
        """The draft model's runner; None without a draft model."""
        return None if self.config.draft is None else self.draft.runner

    def reset(self, *, tables: bool) -> None:
        """Empty the prefix caches and, with ``tables``, start with a new drafter."""
        scheduler = self.scheduler
        scheduler.runner.reset_cache()
        self.jobs.rewards.clear()
        if self.draft_runner is not None:
            self.draft_runner.reset_cache()
        if tables:
            speculator = scheduler.speculator
            drafter = build_drafter(self.config, self.draft, speculator, scheduler.runner.vocabulary)
            speculator.start(warmed(drafter, self.texts))
            if self.draft_runner is not None:
                self.draft_runner.reset_statistics()

    def figures(self, counters: Counters) -> dict[str, Any]:
        """The figures of the counted time, and the state of memory."""
        runner, drafter = self.scheduler.runner, self.scheduler.speculator.drafter
        pool = runner.forest.pool
        return counters.figures() | {
            "mbsu": self._memory_bound_speedup(counters),
            "drafter": "none" if drafter is None else drafter.name,
            "kernels": self.kernels,
            "kv_tokens": pool.used,
            "kv_peak_tokens": pool.peak,
            "kv_allocated_tokens": pool.capacity,
            "kv_peak_bytes": pool.peak_bytes,
            "kv_window_tokens": None if pool.windows is None else pool.windows.used,
            "states": None if pool.states is None else pool.states.used,
            "state_bytes": None if pool.states is None else pool.states.capacity * pool.states.row_bytes,
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
        self.engines: WeakSet[Any] = WeakSet()
        """Those that load through it."""

    def build(
        self, config: EngineConfig, tokenizer: ChatTokenizer, load: Callable[[], Model], device: torch.device
    ) -> EngineParts:
        """Load the models, check them and measure their passes. Raises ModelError.

        ``load`` reads the target where its weights are not in memory yet.
        """
        memory = int(config.kv_memory * 1e6)
        weights = self.weights.take(catalog.resolve(config.model), config.dtype, device, load)
        adapter = None if config.adapter is None else load_adapter(config.adapter, config.model, weights.linears)
        adapter = None if adapter is None else adapter.to(device, weights.dtype)
        runner = ModelRunner(weights, memory, int(config.state_memory * 1e6), adapter, rows=True)
        # clipped to what the engine can run
        ends = weights.model.eos | tokenizer.ends
        model = replace(weights.model, context=weights.context, eos=ends)
        bound = head_of(config, runner) or twin_of(config, runner, self.weights)
        if bound is None:
            self.draft.load(config, tokenizer, runner, memory)
        graphs = set_up_cuda_graphs(runner) if config.research.graphs else ""
        research = config.research
        speculator = Speculator(profiler.profile_cost(runner, config.dtype), research.draft_tokens)
        if bound is None:
            self.draft.profile(config)
        draft: DraftPasses = self.draft if bound is None else BoundDraft.profiled(bound, config)
        scheduler = Scheduler(
            runner,
            speculator,
            VERIFIERS[config.verify](),
            policy=research.policy,
            max_rows=min(research.max_rows, runner.most_branches or research.max_rows),
            chunk=research.chunk,
        )
        beams = CoupledBeams() if config.coupled else BeamRejection(research.beam_threshold, research.beam_min)
        jobs = JobFactory(
            tokenizer, model, beams, single_beam=research.beam_survivors == 1, vocabulary=runner.vocabulary
        )
        folder = config.drafts_from
        texts = () if folder is None else read_earlier_texts(folder, tokenizer, runner.vocabulary)
        speculator.start(warmed(build_drafter(config, draft, speculator, runner.vocabulary), texts))
        return EngineParts(config, jobs, scheduler, draft, texts, weights.kernels + graphs)


def warmed(drafter: Drafter | None, texts: Sequence[Sequence[int]]) -> Drafter | None:
    """A drafter that has learnt texts of earlier runs. Raises ConfigError for one that learns nothing from texts."""
    for text in texts:
        if drafter is not None and not drafter.warm(text):
            raise ConfigError(f"drafter {drafter.name!r} learns nothing from texts. Leave drafts_from out.")
    return drafter


def build_drafter(config: EngineConfig, draft: DraftPasses, speculator: Speculator, vocabulary: int) -> Drafter | None:
    """A drafter that has learnt nothing yet; None where nothing is to be drafted."""
    if not isinstance(config.drafter, str):
        return config.drafter()
    spec = config.drafter_spec
    table = None if spec.table is None else _table(spec.table, coupled=config.coupled)
    if config.draft is None or draft.runner is None:
        return table
    block = draft.runner.config.block if isinstance(draft.runner, BlockRunner) else None
    if block is not None and config.drafter == "auto":  # a tree costs no more than a chain
        spec = replace(spec, model="dynamic")
    shape = spec.shape(coupled=config.coupled, most=speculator.draft_tokens)
    cost = draft.cost if speculator.draft_tokens is None else None
    weighed = None if cost is None else ModelDraftCost(draft.runner, speculator, cost, block)
    policies = None if weighed is None else weighed.policies(dynamic=shape.name == "dynamic")
    head = head_drafter(draft.runner, vocabulary, shape, policies)
    if head is not None:
        return head if table is None else HybridDrafter(table, head)
    beam_draft = config.research.beam_draft
    width, depth = (None, BEAM_DEPTH) if beam_draft is None else size_of(beam_draft)
    depth_policy = None if weighed is None or beam_draft is not None else weighed.beam_depth_policy()
    beams = BeamShape(width, depth, coupled=config.coupled, depth_policy=depth_policy)
    if isinstance(draft.runner, SharedPoolRunner):
        reader = PrefixCache(draft.runner)
        model: ModelDrafter = PrefixDrafter(draft.runner, reader, vocabulary, shape, beams, policies)
    else:
        model = ModelDrafter(draft.runner, vocabulary, shape, beams, policies)
    return model if table is None else HybridDrafter(table, model)


def _table(name: str, *, coupled: bool) -> Drafter:
    """An empty table."""
    if name == "recycling":
        return RecyclingDrafter(coupled=coupled)
    if name == "suffix":
        return SuffixDrafter()
    if name == "merged":
        return MergedDrafter()
    return StandDrafter(coupled=coupled) if name == "stand" else ngram_drafter()
