"""One draft model for several targets: loaded once, one forest of keys and values, acceptance told apart by target.

The setting of S2D (Kavehzadeh et al., arXiv 2407.01955): targets of different sizes, such as a generator of thoughts
and their evaluator, share one draft, whose exits suit it to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from treeagent.errors import ModelError

from ..models import catalog
from ..models.loader import load_model
from ..models.tokenizer import ChatTokenizer, load_tokenizer
from .executor import profiler
from .executor.early_exit import ADAPTIVE, EarlyExitRunner, ExitSpec
from .executor.exit_policy import exits_of
from .executor.model_runner import ModelRunner

if TYPE_CHECKING:
    from .backend import SeedBackend
    from .executor.cost_table import CostTable


@dataclass(slots=True, eq=False)
class SharedDraftModel:
    """What engines that were opened beside each other have in common."""

    engines: WeakSet[SeedBackend] = field(default_factory=WeakSet)
    runner: ModelRunner | None = None
    """The draft model, once it is loaded."""
    text: ChatTokenizer | None = None
    cost: CostTable | None = None
    """Seconds of its passes through all layers that it may run; None where nothing is decided by them."""
    _started: bool = False

    def load(self, backend: SeedBackend, text: ChatTokenizer, target: ModelRunner, memory: int) -> ModelRunner | None:
        """The draft model for a target, of the same vocabulary and no bigger; None without one. Raises ModelError."""
        if backend.draft is None:
            return None
        where = catalog.resolve(backend.draft)
        self.text = self.text or load_tokenizer(where)
        check_vocabularies(text, self.text, backend.model, backend.draft)
        self.runner = self.runner or _runner(backend, where, target, memory)
        if self.runner.parameters > target.parameters:
            raise ModelError(
                f"the draft {backend.draft} ({self.runner.parameters:,} parameters) is bigger than the target "
                f"{backend.model} ({target.parameters:,}): drafting would cost more than it saves. Swap them, or give "
                "a smaller draft."
            )
        return self.runner

    def start(self, backend: SeedBackend) -> None:
        """Time the draft model's passes once, through all layers; from then on tokens may leave early."""
        if self.runner is None or self._started:
            return
        if backend.draft_tokens is None:
            self.cost = profiler.profile_cost_table(self.runner, backend.dtype)
        if (
            isinstance(self.runner, EarlyExitRunner)
            and (leaving := ExitSpec.parse(backend.exit or ADAPTIVE)).layers is None
        ):
            self.runner.leave_early(
                leaving.confidence, profiler.profile_exits(self.runner) if backend.exit is None else None
            )
        self._started = True

    def forget(self) -> None:
        """Free the draft model when no engine is loaded any more."""
        if not any(engine.loaded for engine in list(self.engines)):
            self.runner, self.text, self.cost, self._started = None, None, None, False


def _runner(backend: SeedBackend, where: Path | str, target: ModelRunner, memory: int) -> ModelRunner:
    """A runner that leaves the model where it is asked to. Raises ModelError."""
    weights = backend.shelf.take(
        where, target.dtype, target.device, lambda: load_model(where, backend.dtype, target.device)
    )
    exits = exits_of(weights.model.network.config)
    if backend.exit is None and len(exits) == 1:
        return ModelRunner(weights, memory)
    leaving = ExitSpec.parse(backend.exit or ADAPTIVE)
    if leaving.layers is None and len(exits) == 1:
        raise ModelError(
            f"the draft {backend.draft} has one exit only, so exit={backend.exit} says nothing. Leave it out, or "
            "make a draft of several exits: python -m treeagent.backends.training.train_early_exit --help"
        )
    return EarlyExitRunner(weights, memory, leaving.layers)


def check_vocabularies(target: ChatTokenizer, draft: ChatTokenizer, target_name: str, draft_name: str) -> None:
    """Raise ModelError when a token id means different things to the two, naming the first few."""
    ours, theirs = target.tokenizer.get_vocab(), draft.tokenizer.get_vocab()
    if ours == theirs:
        return
    by_id, by_id_theirs = ({i: token for token, i in vocabulary.items()} for vocabulary in (ours, theirs))
    wrong = [i for i in sorted(by_id.keys() | by_id_theirs.keys()) if by_id.get(i) != by_id_theirs.get(i)]
    shown = "; ".join(f"id {i} is {by_id.get(i)!r} and {by_id_theirs.get(i)!r}" for i in wrong[:3])
    raise ModelError(
        f"the draft {draft_name} has another vocabulary than the target {target_name}: {len(wrong)} of "
        f"{max(len(by_id), len(by_id_theirs))} token ids differ ({shown}). Give a draft with the target's tokenizer."
    )
