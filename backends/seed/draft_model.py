"""The draft model of one or several targets: loaded once, with one cache of keys and values.

The setting of S2D (Kavehzadeh et al., arXiv 2407.01955): targets of different sizes, such as a generator of thoughts
and their evaluator, use one draft model, whose early exits suit it to both. Acceptance is estimated per target.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from treeagent.errors import ModelError

from ..models import catalog
from ..models.decoder import load_decoder
from ..models.tokenizer import ChatTokenizer, load_tokenizer
from .executor import profiler
from .executor.early_exit import ADAPTIVE, EarlyExitRunner, ExitSpec
from .executor.exit_policy import exits_of
from .executor.graph_setup import set_up_cuda_graphs
from .executor.model_runner import ModelRunner

if TYPE_CHECKING:
    from .config import EngineConfig
    from .executor.pass_cost import PassCost
    from .executor.weights import WeightCache


class DraftModelUser(Protocol):
    """An engine that may use the draft model."""

    @property
    def loaded(self) -> bool:
        """Whether its models are in memory."""

    @property
    def working(self) -> bool:
        """Whether requests are queued or running."""

    def drop(self) -> None:
        """Forget the models and all requests."""


class SharedDraftModel:
    """The draft model, loaded for the first engine that needs it and released with the last."""

    def __init__(self, weights: WeightCache) -> None:
        self.runner: ModelRunner | None = None
        """None until it is loaded, and without a draft model."""
        self.cost: PassCost | None = None
        """Seconds of its passes through all layers; None where ``draft_tokens`` is given, and before profiling."""
        self._weights = weights
        self._users: WeakSet[DraftModelUser] = WeakSet()
        self._tokenizer: ChatTokenizer | None = None
        self._profiled = False

    def add_user(self, engine: DraftModelUser) -> None:
        """Keep the draft model as long as this engine is loaded."""
        self._users.add(engine)

    @property
    def working(self) -> bool:
        """Whether requests are queued or running in any of its engines."""
        return any(engine.working for engine in list(self._users))

    def load(
        self, config: EngineConfig, tokenizer: ChatTokenizer, target: ModelRunner, memory: int
    ) -> ModelRunner | None:
        """The draft model's runner, with at most ``memory`` bytes of keys and values; None without a draft model.

        Raises ModelError when its vocabulary differs from the target's, or when it is bigger than the target.
        """
        if config.draft is None:
            return None
        where = catalog.resolve(config.draft_model)
        self._tokenizer = self._tokenizer or load_tokenizer(where)
        check_vocabularies(tokenizer, self._tokenizer, config.model, config.draft)
        self.runner = self.runner or self._runner(config, config.draft, where, target, memory)
        if self.runner.parameters > target.parameters:
            raise ModelError(
                f"the draft {config.draft} ({self.runner.parameters:,} parameters) is bigger than the target "
                f"{config.model} ({target.parameters:,}): drafting would cost more than it saves. Swap them, or give "
                "a smaller draft."
            )
        return self.runner

    def profile(self, config: EngineConfig) -> None:
        """Measure its passes once, through all layers; from then on adaptive early exit is on."""
        if self.runner is None or self._profiled:
            return
        if config.research.graphs:
            set_up_cuda_graphs(self.runner)
        if config.research.draft_tokens is None:
            self.cost = profiler.profile_cost(self.runner, config.draft_precision)
        if isinstance(self.runner, EarlyExitRunner):
            spec = ExitSpec.parse(config.exit or ADAPTIVE)
            if spec.layers is None:
                seconds = profiler.profile_exits(self.runner) if config.exit is None else None
                self.runner.exit_early(spec.confidence, seconds)
        self._profiled = True

    def release(self) -> None:
        """Free the draft model if none of its engines is loaded."""
        if not any(engine.loaded for engine in list(self._users)):
            self.runner, self.cost, self._tokenizer, self._profiled = None, None, None, False

    def drop_users(self) -> None:
        """Let all its engines forget their models and requests, in a process where no thread runs them."""
        for engine in list(self._users):
            engine.drop()
        self.release()

    def _runner(
        self, config: EngineConfig, draft: str, where: Path | str, target: ModelRunner, memory: int
    ) -> ModelRunner:
        """A runner with the exits that ``config.exit`` names. Raises ModelError."""
        dtype = config.draft_precision
        weights = self._weights.take(where, dtype, target.device, lambda: load_decoder(where, dtype, target.device))
        if weights.state_shapes:
            raise ModelError(
                f"the draft {draft} has layers with a recurrence, which only a target may have. Give a draft whose "
                "layers all attend, or a table: drafter=ngram."
            )
        exits = exits_of(weights.model.config)
        if config.exit is None and len(exits) == 1:
            return ModelRunner(weights, memory)
        spec = ExitSpec.parse(config.exit or ADAPTIVE)
        if spec.layers is None and len(exits) == 1:
            raise ModelError(
                f"exit={config.exit} needs a draft model of several exits, and the draft {draft} has one exit only. "
                "Leave it out, or make a draft of several exits: "
                "python -m treeagent.backends.training.train_early_exit --help"
            )
        return EarlyExitRunner(weights, memory, spec.layers)


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
