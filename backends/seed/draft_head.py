"""A head as the draft of an engine, and how it is told from a draft model: by the configuration of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from treeagent.errors import ModelError

from ..models import catalog
from .config import TWIN
from .drafters.heads.head_config import read_head_config, read_own_layer
from .drafters.heads.head_runner import HeadRunner
from .drafters.heads.loading import load_head
from .executor import profiler
from .executor.model_runner import ModelRunner
from .executor.pass_cost import PassCost

if TYPE_CHECKING:
    from .config import EngineConfig


class DraftPasses(Protocol):
    """What computes drafts, and how long it takes."""

    @property
    def runner(self) -> ModelRunner | None:
        """Of the draft model or head; None without one."""

    @property
    def cost(self) -> PassCost | None:
        """Seconds of its passes; None where ``draft_tokens`` is given."""


@dataclass(frozen=True, slots=True)
class BoundDraft:
    """What drafts for one target alone, a head or a twin, and the time of its passes."""

    runner: ModelRunner
    cost: PassCost | None

    @classmethod
    def profiled(cls, runner: ModelRunner, config: EngineConfig) -> BoundDraft:
        """With measured passes, where the number of drafted tokens follows from them."""
        if config.research.draft_tokens is not None:
            return cls(runner, None)
        numbers = config.draft_precision
        if isinstance(runner, HeadRunner):
            numbers = f"{config.dtype}, head {runner.shape}"
        return cls(runner, profiler.profile_cost(runner, numbers))


def head_of(config: EngineConfig, target: ModelRunner) -> HeadRunner | None:
    """The head that the option ``draft`` names; None where it names a model. Raises ModelError.

    The target's own checkpoint names its MTP layer.
    """
    if config.draft in (None, TWIN):
        return None
    draft = str(config.draft)
    where = catalog.resolve(draft)
    head = read_head_config(where, draft)
    if head is None and _same(where, catalog.resolve(config.model)):
        head = read_own_layer(where, draft)
    if head is None:
        return None
    for option in ("exit", "draft_dtype"):
        if getattr(config, option) is not None:
            raise ModelError(
                f"{option} is for draft models, and {draft} is a head, which runs whole in the target's precision. "
                f"Leave {option} out."
            )
    return load_head(head, draft, where, target, config.model)


def _same(one: Path | str, other: Path | str) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return one == other
