"""The twin as a draft: a copy of the target in few bits, over the target's own keys and values where these fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treeagent.errors import ModelError

from ..models import catalog
from ..models.decoder import load_decoder
from ..models.model import INT4_DRAFT, INT8_DRAFT
from .config import TWIN
from .executor.exit_policy import exits_of
from .executor.model_runner import ModelRunner
from .executor.shared_pool import SharedPoolRunner, pool_misfit

if TYPE_CHECKING:
    from .config import EngineConfig
    from .executor.weights import WeightCache


def twin_of(config: EngineConfig, target: ModelRunner, weights: WeightCache) -> SharedPoolRunner | None:
    """The twin over the target's keys and values; None where the draft is no twin, or has keys and values of its own.

    Raises ModelError where ``twin_prefix`` asks for what cannot be.
    """
    wanted = config.research.twin_prefix
    if config.draft != TWIN or wanted == "own":
        return None
    why = _misfit(config, target)
    if why is not None:
        if wanted == "target":
            raise ModelError(f"twin_prefix=target cannot be here: {why}. Leave it out, or give twin_prefix=own.")
        return None
    where, dtype, device = catalog.resolve(config.model), config.draft_precision, target.device
    return SharedPoolRunner(weights.take(where, dtype, device, lambda: load_decoder(where, dtype, device)), target)


def _misfit(config: EngineConfig, target: ModelRunner) -> str | None:
    """Why the twin needs keys and values of its own; None where it does not."""
    if config.draft_precision not in (INT8_DRAFT, INT4_DRAFT):
        return f"the twin is in {config.draft_precision}, expected int8 or int4"
    if config.exit is not None or len(exits_of(target.weights.model.config)) > 1:
        return "a token that exits early leaves keys and values of its later layers to be computed"
    return pool_misfit(target)
