"""The law of constrained texts: exactly that of plain constrained sampling, whatever is drafted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_seed_verify import Likeliest, NothingTakenOff
from toy_laws import CUT, NUCLEUS, TARGET, TEXTS, WARM, Law, Shaped, Table, V, joint, p_value, texts

from treeagent.backends.local.token_masks import TokenMask, masked
from treeagent.backends.sampling.sampler import choose_rows
from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.drafters.model.tree_shapes import Chain
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import SequenceState
from treeagent.backends.seed.verifiers.base import DraftCheck, Verification, Verifier
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.backends.seed.verifiers.tree_masks import masked_tree
from treeagent.request import Sampling

ALLOWED = np.random.default_rng(5).random(TARGET.shape) < 0.5
"""(position, last token, next token); the token 0 of no last token and the last token's own number are allowed."""
ALLOWED[..., 0] = True
ALLOWED[:, range(V), range(V)] = True
CONSTRAINED = np.where(ALLOWED, TARGET, -np.inf)


class Listed(TokenMask):
    """Allows what stands in :data:`ALLOWED`."""

    def __init__(self, position: int, last: int) -> None:
        self._position, self._last = position, last

    def allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """See :class:`TokenMask`."""
        row: np.ndarray[Any, np.dtype[np.bool_]] = ALLOWED[self._position, self._last]
        return row

    def after(self, token: int) -> TokenMask | None:
        """See :class:`TokenMask`."""
        return type(self)(self._position + 1, token) if self.allowed()[token] else None


class AtTheRoot(Listed):
    """Forgets the nodes of the draft."""

    def after(self, token: int) -> TokenMask | None:
        """Wrong."""
        return None


class OfTheParent(Listed):
    """Takes the mask of the node before."""

    def after(self, token: int) -> TokenMask | None:
        """Wrong."""
        return self


class Masking(Verifier):
    """A rule over masked logits."""

    name = "masking"

    def __init__(self, rule: Verifier, mask: type[Listed] = Listed) -> None:
        self.rule, self.mask = rule, mask

    def verify(self, checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """See :class:`Verifier`."""
        own = [self._check(check) for check in checks]
        rows = max(check.first + 1 + len(check.draft) for check in checks)
        return self.rule.verify(own, Table(masked_tree(own, logits.slice(range(rows)))))

    def _check(self, check: DraftCheck) -> DraftCheck:
        row = check.row
        return DraftCheck(replace(row, mask=self.mask(row.position, row.tokens[-1])), check.draft, check.first)


@pytest.mark.sampled(3, shifted=True)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("setting", [WARM, CUT, NUCLEUS], ids=["warm", "top-k", "top-p"])
@pytest.mark.parametrize(
    ("rule", "drafter"),
    [(Rejection(), Likeliest(3)), (Rejection(), Shaped(Chain(keeps_law=True))), (Coupled(), Likeliest(2))],
    ids=["recursive over siblings", "recursive over a drawn chain", "coupled"],
)
def test_the_engine_keeps_the_law_of_constrained_sampling(rule: Verifier, drafter: Drafter, setting: Sampling) -> None:
    """Texts of two tokens have the law of masked logits, though the drafts do not know the constraint."""
    drawn = texts(Masking(rule), drafter, setting, 2 * TEXTS, 2)
    assert p_value(drawn, joint(setting, 2, CONSTRAINED)) > 1e-3


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize(
    "rule",
    [Masking(Rejection(), AtTheRoot), Masking(Rejection(), OfTheParent), Masking(Coupled(), AtTheRoot),
     Masking(NothingTakenOff())],
    ids=["no masks in the tree", "masks of parents", "no masks in the tree, coupled", "nothing taken off"],
)  # fmt: skip
def test_a_broken_mask_is_found_out(rule: Verifier) -> None:
    """The test above fails clearly for masks at the wrong nodes and for a wrong rule."""
    drawn = texts(rule, Likeliest(3), WARM, TEXTS, 2)
    assert p_value(drawn, joint(WARM, 2, CONSTRAINED)) < 1e-6


def _plain(setting: Sampling, *, late: bool) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Texts (TEXTS, 2) as backend transformers draws them; ``late``: warpers cut before the mask."""
    rows = [[0] for _ in range(TEXTS)]
    for position in range(2):
        last = np.array([row[-1] for row in rows])
        logits = torch.from_numpy(TARGET[position, last])
        if late:
            least = logits.topk(setting.top_k or V, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -50.0)
        logits = masked(logits, [Listed(position, token) for token in last.tolist()])
        tokens = choose_rows(logits.numpy(), [setting] * TEXTS, list(range(TEXTS)), [position] * TEXTS)
        rows = [[*row, token] for row, token in zip(rows, tokens.tolist(), strict=True)]
    return np.array(rows)[:, 1:]


def test_backend_transformers_draws_constrained_texts_by_their_law() -> None:
    """The law is that of masked logits, warped; the same texts with the cut before the mask fail clearly."""
    setting = Sampling(temperature=0.7, top_k=2)
    law: Law = joint(setting, 2, CONSTRAINED)
    assert p_value(_plain(setting, late=False), law) > 1e-3
    assert p_value(_plain(setting, late=True), law) < 1e-6


def test_a_sequence_without_a_constraint_keeps_its_logits() -> None:
    """Nothing is copied where nothing is masked."""
    logits = torch.from_numpy(TARGET[0])
    check = DraftCheck(
        SequenceState([0], 1, WARM, 0, 2), Likeliest(1).propose([SequenceState([0], 1, WARM, 0, 2)], 0, 2)[0], 0
    )
    assert masked_tree([check], logits) is logits
