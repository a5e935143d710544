"""Which drafted tokens are kept: the two rules that leave the target's output law untouched.

``coupled`` (Daliri et al., arXiv 2408.07978): the target's token at a position is argmax(warped log p + g) with noise
g keyed by (stream, position). A drafted token is accepted iff it is that token, so the text is the plain decoder's,
token for token, whatever was drafted. ``rejection`` (Leviathan et al., arXiv 2211.17192; Chen et al., 2302.01318): a
token x drawn from q is accepted with probability min(1, p(x) / q(x)), else what comes next follows max(p - q, 0); only
the law of the text is the target's. Siblings are tried in turn against what the earlier ones left of p (``recursive``
rejection, Jeon et al., arXiv 2402.14160, theorem 3.1); where they were drawn without replacement, the law of a later
one is q without the earlier ones. A deterministic draft is a point mass: accepted with probability p(x), and x is
struck out.
At temperature 0 both take the most likely token.
V vocabulary, R rows of logits of a pass, n drafted tokens of a branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...sampling.gumbel_top_k import softmax_rows, top_draws_rows, warp_rows
from ...sampling.philox import ACCEPTANCE, RESIDUAL, uniforms
from ..executor.logits import Logits
from .base import DraftCheck, Verification, Verifier
from .coupled import Coupled

LEAST_RESIDUAL = 1e-12
"""A residual of less mass than this is rounding (p = q): the draw is made from p itself."""


class Rejection(Verifier):
    """Recursive rejection sampling over a tree: siblings one after another, drawn from their law or chosen."""

    name = "rejection"

    def verify(self, checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """See :class:`Verifier`."""
        greedy = [i for i, check in enumerate(checks) if check.row.sampling.temperature == 0]
        verifications: list[Verification | None] = [None] * len(checks)
        for i, verification in zip(greedy, Coupled().verify([checks[i] for i in greedy], logits), strict=True):
            verifications[i] = verification
        walks = {i: _Walk(check) for i, check in enumerate(checks) if check.row.sampling.temperature > 0}
        while walks:  # one turn per level, all branches together
            turn = list(walks.values())
            rows = logits.rows([walk.at for walk in turn])
            finite = np.isfinite(rows.max(axis=1))
            walks = {i: walk for (i, walk), good in zip(walks.items(), finite, strict=True) if good}
            if not walks:
                break
            turn = list(walks.values())
            laws = softmax_rows(warp_rows(rows[finite], [walk.check.row.sampling for walk in turn]))
            left = [
                self._step(walk, law, numbers) for walk, law, numbers in zip(turn, laws, _uniforms(turn), strict=True)
            ]  # None where a child was taken
            ended = [(i, law) for i, law in zip(walks, left, strict=True) if law is not None]
            if ended:
                last = _draw_rows(np.stack([law for _, law in ended]), [walks[i] for i, _ in ended])
                for (i, _), token in zip(ended, last, strict=True):
                    walk = walks.pop(i)
                    verifications[i] = Verification(tuple(walk.accepted), (*walk.tokens, token))
        return verifications

    def _step(self, walk: _Walk, law: NDArray[np.float64], numbers: Sequence[float]) -> NDArray[np.float64] | None:
        """Try the children of a node by uniform ``numbers``; the residual of ``law`` (V,) where none is accepted."""
        draft = walk.check.draft
        tried: list[int] = []
        for child, number in zip(walk.candidates, numbers, strict=True):
            proposal = None if draft.law is None else self.proposal(draft.law[child], tried)
            if number < self.chance(law, draft.tokens[child], proposal):
                walk.take(child)
                return None
            law = self.residual(law, draft.tokens[child], proposal)
            if draft.distinct:
                tried.append(draft.tokens[child])
        return law

    def proposal(self, law: NDArray[np.float64], tried: Sequence[int]) -> NDArray[np.float64]:
        """The law (V,) that a sibling was drawn from, after those that were drawn before it."""
        if not tried:
            return law
        left: NDArray[np.float64] = law.copy()
        left[list(tried)] = 0.0
        mass = float(left.sum())
        if mass > 0:
            left /= mass
        return left

    def chance(self, law: NDArray[np.float64], token: int, proposal: NDArray[np.float64] | None) -> float:
        """Probability of accepting a token: p(x) / q(x) at most 1, p(x) for a point mass; laws (V,)."""
        return float(law[token]) if proposal is None else float(law[token]) / float(proposal[token])

    def residual(
        self, law: NDArray[np.float64], token: int, proposal: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """The law (V,) after a rejection: max(p - q, 0), normalised; p without x for a point mass."""
        left = law.copy()
        if proposal is None:
            left[token] = 0.0
        else:
            left = np.maximum(law - proposal, 0.0)
        mass = float(left.sum())
        return left / mass if mass > LEAST_RESIDUAL else law


class _Walk:
    """The walk through one draft."""

    def __init__(self, check: DraftCheck) -> None:
        self.check = check
        self.children = check.children()
        self.accepted: list[int] = []
        self.tokens: list[int] = []

    @property
    def at(self) -> int:
        """Row of the logits after what was accepted."""
        return self.check.first + (self.accepted[-1] + 1 if self.accepted else 0)

    @property
    def position(self) -> int:
        """Index of the next token among the generated ones."""
        return self.check.row.position + len(self.tokens)

    @property
    def candidates(self) -> Sequence[int]:
        """Drafted nodes for the next token."""
        return self.children.get(self.accepted[-1] if self.accepted else -1, ())

    def take(self, child: int) -> None:
        """Accept a node."""
        self.accepted.append(child)
        self.tokens.append(self.check.draft.tokens[child])


def _uniforms(walks: Sequence[_Walk]) -> list[list[float]]:
    """For each walk a uniform number for each of its candidates, independent of all noise."""
    blocks = [-(-len(walk.candidates) // 4) for walk in walks]
    streams = np.repeat(np.array([walk.check.row.stream for walk in walks], dtype=np.uint64), blocks)
    positions = np.repeat(np.array([walk.position for walk in walks], dtype=np.uint32), blocks)
    which = np.array([block for count in blocks for block in range(count)], dtype=np.uint32)
    numbers = uniforms(streams, positions, which, ACCEPTANCE)
    ends = np.cumsum(blocks)
    return [
        numbers[end - count : end].ravel()[: len(walk.candidates)].tolist()
        for walk, count, end in zip(walks, blocks, ends.tolist(), strict=True)
    ]


def uniform(stream: int, position: int, rank: int) -> float:
    """A uniform number in (0, 1) for the ``rank``-th candidate at a position, independent of all noise."""
    block = np.array([rank // 4], dtype=np.uint32)
    streams = np.array([stream], dtype=np.uint64)
    return float(uniforms(streams, np.array([position], dtype=np.uint32), block, ACCEPTANCE)[0, rank % 4])


def _draw_rows(laws: NDArray[np.float64], walks: Sequence[_Walk]) -> list[int]:
    """A token from each of the laws (R, V)."""
    with np.errstate(divide="ignore"):
        scores = np.log(laws)
    streams, positions = [walk.check.row.stream for walk in walks], [walk.position for walk in walks]
    ids, _ = top_draws_rows(scores, [True] * len(walks), streams, positions, 1, RESIDUAL)
    drawn: list[int] = ids[:, 0].tolist()
    return drawn


VERIFIERS: dict[str, type[Verifier]] = {"coupled": Coupled, "rejection": Rejection, "recursive": Rejection}
"""By name; over a chain the recursive rule is plain rejection sampling, so both names mean the same."""
