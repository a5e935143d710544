"""What tests of token tables share: rows that a table has read, the form of drafts, and laws of drafted texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest
from test_seed_ngram import Source
from toy_laws import TEXTS, WARM, NothingTakenOff, Shaped, joint, p_value, texts

from treeagent.backends.seed.drafters.base import Drafter
from treeagent.backends.seed.drafters.model.tree_shapes import Chain
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling


def joined(
    drafter: Drafter, prompt: Iterable[int], temperature: float = 0.0, stream: int = 0, limit: int = 100_000
) -> SequenceState:
    """A branch that has generated nothing yet, whose prompt the drafter has read."""
    tokens = list(prompt)
    branch = SequenceState(tokens, len(tokens), Sampling(temperature=temperature), stream, limit)
    drafter.observe(branch, 0)
    return branch


def commit(drafter: Drafter, branch: SequenceState, tokens: Iterable[int]) -> None:
    """Tokens arrive one a round, whether drafted or not."""
    for token in tokens:
        branch.tokens.append(token)
        drafter.observe(branch, len(branch.tokens) - 1)


def check_form(tree: Draft, floor: float, depth: int) -> None:
    """Parents come first and siblings differ; floor and depth are kept to."""
    assert all(-1 <= parent < node for node, parent in enumerate(tree.parents))
    assert len(set(zip(tree.parents, tree.tokens, strict=True))) == len(tree)
    reached: list[float] = []
    levels: list[int] = []
    for parent, confidence in zip(tree.parents, tree.confidence, strict=True):
        reached.append(confidence * (1.0 if parent < 0 else reached[parent]))
        levels.append(1 if parent < 0 else levels[parent] + 1)
    assert all(floor <= chance <= 1 for chance in reached)
    assert all(level <= depth for level in levels)


def check_rates(drafter: Drafter, temperature: float) -> None:
    """On a stationary source each fifth of the predictions averages the measured rate, within sampling error."""
    source = Source(1)
    outcomes: list[tuple[float, bool]] = []
    rows = [joined(drafter, [i], temperature, i + 1) for i in range(6)]
    for i in range(500):
        for branch, tree in zip(rows, drafter.propose(rows, 0.05, 1), strict=True):
            token = source.next(branch)
            if i > 250:
                outcomes += [(claim, node == token) for node, claim in zip(tree.tokens, tree.confidence, strict=True)]
            commit(drafter, branch, [token])
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        part = [(claim, hit) for claim, hit in outcomes if low <= claim < low + 0.2]
        assert len(part) > 20
        claimed, realised = np.mean(part, axis=0)
        assert claimed == pytest.approx(realised, abs=0.06 + 0.6 / len(part) ** 0.5)


class Observing(Drafter):
    """Gives a table the committed tokens without an engine, and keeps the lengths of its drafts."""

    def __init__(self, table: Drafter) -> None:
        self.name = table.name
        self.lengths: list[int] = []
        self._table = table
        self._seen: dict[SequenceState, int] = {}

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> Sequence[Draft]:
        """See :class:`Drafter`."""
        for branch in rows:
            self._table.observe(branch, self._seen.get(branch, 0))
            self._seen[branch] = len(branch.tokens)
        drafts = self._table.propose(rows, floor, depth)
        self.lengths.extend(map(len, drafts))
        return drafts


def check_rejection(new: Callable[[], Drafter], setting: Sampling) -> None:
    """Texts of two tokens have the law of the target, with drafts from texts that were read; a broken twin has not."""
    drawn = []
    for rule in (Rejection(), NothingTakenOff()):
        drafter = Observing(new())
        texts(rule, drafter, setting, 300, 2, first=15_000)
        drafter.lengths.clear()
        drawn.append(texts(rule, drafter, setting, TEXTS, 2))
        assert np.mean(drafter.lengths) > 1
    assert p_value(drawn[0], joint(setting, 2)) > 1e-3
    assert p_value(drawn[1], joint(setting, 2)) < 1e-6


def check_coupled(new: Callable[[], Drafter]) -> None:
    """Every text is the one without drafts."""
    drafter = Observing(new())
    texts(Coupled(), drafter, WARM, 300, 3, first=15_000)
    drafter.lengths.clear()
    drawn = texts(Coupled(), drafter, WARM, 2000, 3)
    assert np.mean(drafter.lengths) > 1
    assert np.array_equal(drawn, texts(Coupled(), Shaped(Chain(keeps_law=False)), WARM, 2000, 3))
