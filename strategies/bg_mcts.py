"""Budget-guided Monte Carlo tree search (Miyamoto et al. 2026, arXiv:2602.09574): broad at first, then finish.

A search that does not know its budget may spend all of it on the first levels. Here what is left of it, rho, from 1 to
0, is the least that is left of the run's limits of tokens, calls, thoughts and dollars, and of the simulations. The
exploration constant of UCT and the number of leaves of a round shrink with rho, and a bonus for depth grows with
1 - rho: among equals a late simulation follows the path that came farthest to its end, where UCT goes to the one that
was never tried. A tree whose ends are all known is widened and not left (``widen`` of ``mcts``). It keeps the idea and
not the formulas of the paper, which has a virtual child for every further sample; the bonus here is d / (d + 1) for a
thought whose best open descendant is d levels below it.
"""

from __future__ import annotations

from dataclasses import dataclass

from treeagent import Explorer

from .mcts import MCTS


@dataclass(frozen=True, kw_only=True)
class BudgetGuidedMCTS(MCTS):
    """MCTS that explores less as its budget is used, and widens the tree until all of it is."""

    widen: bool = True

    def _pace(self, explorer: Explorer, done: int) -> tuple[float, int]:
        """In proportion to what is left of the budget; one leaf at least."""
        left = min(1 - explorer.spent, 1 - done / self.simulations)
        return left, max(1, round(self.parallel * left))
