"""Cost and benefit of a draft model's drafts, from measured times and recent acceptance."""

from __future__ import annotations

from .drafters.base import RoundLoad
from .drafters.model.beam_depth import START as BEAMS_START
from .drafters.model.beam_depth import BeamDepthPolicy
from .drafters.model.drafter import DraftPolicies
from .drafters.model.prefill_policy import PrefillPolicy
from .executor.model_runner import ModelRunner
from .executor.pass_cost import PassCost
from .records import BEAMS, MODEL
from .speculation.calibration import AcceptanceEstimator
from .speculation.goodput import best_chain
from .speculation.speculator import DEPTH, Speculator


class ModelDraftCost:
    """The decisions of one draft model, see :class:`DraftPolicies`."""

    def __init__(self, runner: ModelRunner, speculator: Speculator, cost: PassCost, block: int | None = None) -> None:
        """``cost`` holds the seconds of full passes of the draft model; those of the target are the speculator's.

        ``block``: tokens that a pass computes for each sequence where it drafts all levels at once; None: one for each
        level.
        """
        self._block = block
        self._runner = runner
        self._speculator = speculator
        self._cost = cost.beside(speculator.cost)
        self._target = speculator.cost

    def policies(self, *, dynamic: bool) -> DraftPolicies:
        """The depth of chains, or for ``dynamic`` trees the check of each level, and the prefill of new prompts."""
        prefill = PrefillPolicy(self.prompt_seconds, self.saved)
        if dynamic and self._block is None:
            return DraftPolicies(level_pays=self.level_pays, prefill=prefill)
        return DraftPolicies(chain_depth=self.chain_depth, prefill=prefill)

    def beam_depth_policy(self) -> BeamDepthPolicy:
        """The depth of drafts for beams."""
        acceptance = self._speculator.estimator
        return BeamDepthPolicy(self._target, self.seconds, lambda: acceptance(BEAMS).acceptance(BEAMS_START))

    def seconds(self, nodes: float) -> float:
        """Expected seconds of a draft pass at the recent mean exit depth, at the machine's recent speed."""
        return self._cost(nodes) * self._runner.relative_cost

    def prompt_seconds(self, tokens: int) -> float:
        """Expected seconds of a draft pass over a prompt."""
        return self._cost.prompt(tokens) * self._runner.relative_cost

    def chain_depth(self, rows: int, load: RoundLoad) -> int:
        """The number of levels with the highest goodput."""
        return self._chain(rows, load)[0]

    def saved(self, rows: int, load: RoundLoad) -> float:
        """Seconds that the best chains save in a round; trees differ little from them."""
        return self._target(rows + load.rows, load.nodes) * (1 - 1 / self._chain(rows, load)[1])

    def level_pays(self, rows: int, nodes: int, value: float, load: RoundLoad) -> bool:
        """Whether the expected tokens of a level of ``nodes`` nodes take less time each than those of the target."""
        everyone = rows + load.rows
        plain = self._target(everyone, load.nodes)
        more = self.seconds(nodes) + self._target(everyone, load.nodes + nodes) - plain
        return value * self._acceptance.accepted_per_expected * plain > more * (rows + load.tokens)

    @property
    def _acceptance(self) -> AcceptanceEstimator:
        return self._speculator.estimator(MODEL)

    def _chain(self, rows: int, load: RoundLoad) -> tuple[int, float]:
        acceptance = self._acceptance.acceptance()
        return best_chain(self._target, self.seconds, acceptance, rows, DEPTH, load, self._block)
