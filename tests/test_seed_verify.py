"""Acceptance rules: what is kept of a draft follows the target's law, or is its very text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from treeagent.backend import Sampling
from treeagent.backends.sampling import COIN, DRAFT, RESIDUAL, TEXT, choose, choose_rows, gumbel, uniforms, warp
from treeagent.backends.seed import verify
from treeagent.backends.seed.budget import CostTable
from treeagent.backends.seed.drafters import Draft, Drafter, Row
from treeagent.backends.seed.drafters import model as model_drafter
from treeagent.backends.seed.drafters.combined import Combined
from treeagent.backends.seed.drafters.model import ModelDrafter
from treeagent.backends.seed.verify import Claim, Coupled, Logits, Rejection, Verifier, softmax

Law = NDArray[np.float64]

V = 5
LENGTH = 3
"""Tokens of the longest text; the joint law of all of them is tested."""
DRAWS = 50_000

random = np.random.default_rng(1)
TARGET = random.normal(size=(LENGTH + 2, V, V)) * 1.5
"""Logits (position, last token, next token)."""
GUESSED = TARGET + random.normal(size=TARGET.shape)

WARM = Sampling(temperature=0.7)
CUT = Sampling(temperature=0.7, top_k=4)
NUCLEUS = Sampling(temperature=1.0, top_p=0.9)


@cache
def noise(position: int, purpose: int) -> Law:
    """Of all streams (DRAWS, V)."""
    return -np.log(-np.log(np.hstack([table(position, block, purpose) for block in range(-(-V // 4))])[:, :V]))


@cache
def table(position: int, block: int, purpose: int) -> Law:
    """Uniform numbers of all streams (DRAWS, 4)."""
    positions, blocks = (np.full(DRAWS, number, dtype=np.uint32) for number in (position, block))
    return uniforms(np.arange(DRAWS, dtype=np.uint64), positions, blocks, purpose)


@pytest.fixture
def tabulated() -> Iterator[None]:
    """Random numbers of all streams by one call of NumPy, and laws worked out once: a test takes seconds, not minutes.

    The values are the same.
    """

    def some_uniforms(streams: NDArray, positions: NDArray, blocks: NDArray, purpose: int) -> Law:
        return table(int(positions[0]), int(blocks[0]), purpose)[int(streams[0])][None]

    def some_noise(stream: int, position: int, ids: NDArray[np.int64], purpose: int) -> Law:
        return noise(position, purpose)[stream, ids]

    def chosen(
        logits: Law, samplings: Sequence[Sampling], streams: list[int], positions: list[int], purpose: int = TEXT
    ) -> NDArray[np.int64]:
        scores = np.stack([warped(row.tobytes(), sampling) for row, sampling in zip(logits, samplings, strict=True)])
        for position in set(positions):
            these = np.array(positions) == position
            scores[these] += noise(position, purpose)[np.array(streams)[these]]
        return scores.argmax(axis=1)

    ids, streams = np.arange(V), [7, 0, DRAWS - 1] * 2
    for stream in streams:
        assert np.array_equal(some_noise(stream, 2, ids, RESIDUAL), gumbel(stream, 2, ids, RESIDUAL))
        place = np.array([stream], np.uint64), np.array([1], np.uint32), np.array([0], np.uint32)
        assert np.array_equal(some_uniforms(*place, COIN), uniforms(*place, COIN))
    for setting in (WARM, CUT, NUCLEUS):
        arguments = TARGET[0][[0, 1, 2, 3, 4, 0]], [setting] * 6, streams, [0, 1, 1, 2, 0, 2], DRAFT
        assert np.array_equal(chosen(*arguments), choose_rows(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "uniforms", some_uniforms)
        patch.setattr(verify, "gumbel", some_noise)
        for module in (verify, model_drafter):
            patch.setattr(module, "warp", lambda logits, sampling: warped(logits.tobytes(), sampling))
            patch.setattr(module, "choose_rows", chosen)
        patch.setattr(verify, "softmax", lambda scores: law_of(scores.tobytes()))
        yield


@cache
def warped(logits: bytes, sampling: Sampling) -> Law:
    """See :func:`warp`."""
    return warp(np.frombuffer(logits), sampling)


@cache
def law_of(scores: bytes) -> Law:
    """Probabilities of scores."""
    return softmax(np.frombuffer(scores))


class Table(Logits):
    """Logits that need not be brought from anywhere."""

    def rows(self, which: Sequence[int]) -> Law:
        """Rows (len(which), V)."""
        host: Law = self._tensor.numpy()
        return host[which.start : which.stop] if isinstance(which, range) else host[which]


def texts(
    verifier: Verifier, drafter: Drafter, sampling: Sampling, count: int = DRAWS, length: int = LENGTH
) -> NDArray[np.int64]:
    """Texts (count, length) of as many streams, drafted and verified until they are long enough."""
    going = everyone = [Row([0], 1, sampling, stream, length) for stream in range(count)]
    while going:
        drafts = drafter.propose(going, 0.0, 2)
        claims, places = [], []
        for row, draft in zip(going, drafts, strict=True):
            claims.append(Claim(row, draft, len(places)))
            depths = [row.position]
            places.append((row.position, row.tokens[-1]))
            for token, parent in zip(draft.tokens, draft.parents, strict=True):
                depths.append(depths[parent + 1] + 1)
                places.append((depths[-1], token))
        positions, last = np.array(places).T
        logits = Table(torch.from_numpy(TARGET[positions, last]))
        for row, verdict in zip(going, verifier.verify(claims, logits), strict=True):
            assert verdict is not None
            row.tokens += verdict.tokens
        going = [row for row in going if row.position < length]
    return np.array([row.tokens[1 : 1 + length] for row in everyone])


def joint(sampling: Sampling, length: int = LENGTH, logits: Law = TARGET) -> Law:
    """The exact law (V, ..., V) of a text."""
    law = np.zeros([V] * length)
    for text in np.ndindex(*law.shape):
        chance, last = 1.0, 0
        for position, token in enumerate(text):
            chance *= softmax(warp(logits[position, last], sampling))[token]
            last = token
        law[text] = chance
    return law


def p_value(drawn: NDArray[np.int64], law: Law) -> float:
    """Chi-square test of drawn texts against a law; cells of fewer than 5 expected texts are counted together."""
    counts = np.zeros(law.shape)
    np.add.at(counts, tuple(drawn.T), 1)
    if counts[law == 0].any():
        return 0.0
    expected = law * len(drawn)
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    half = torch.tensor([(len(wanted) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


class Drawn(Drafter):
    """Chains drawn from the draft's law by the model drafter's own code, their law kept."""

    name = "drawn"

    def __init__(self) -> None:
        self.model = ModelDrafter(None, CostTable((1,), ((1.0,),)), V, keep_law=True)  # type: ignore[arg-type]

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = [Draft(law=[]) for _ in rows]
        for level in range(min(depth, 2)):
            last = [draft.tokens[-1] if level else row.tokens[-1] for row, draft in zip(rows, drafts, strict=True)]
            logits = torch.from_numpy(GUESSED[[row.position + level for row in rows], last])
            for draft, (token, confidence, law) in zip(drafts, self.model._choose(rows, level, logits), strict=True):
                assert law is not None
                assert draft.law is not None
                draft.tokens.append(token)
                draft.parents.append(level - 1)
                draft.confidence.append(confidence)
                draft.law.append(law)
        return drafts


class Likeliest(Drafter):
    """The ``breadth`` likeliest tokens after every node, ``levels`` deep, as a table would draft them."""

    name = "likeliest"

    def __init__(self, breadth: int, levels: int = 2) -> None:
        self.breadth, self.levels = breadth, levels

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = [Draft() for _ in rows]
        for row, draft in zip(rows, drafts, strict=True):
            level = [(-1, row.tokens[-1])]
            for step in range(self.levels):
                onward = []
                for parent, last in level:
                    for token in order(row.position + step, last)[: self.breadth]:
                        onward.append((len(draft), token))
                        draft.tokens.append(token)
                        draft.parents.append(parent)
                        draft.confidence.append(0.4)
                level = onward
        return drafts


@cache
def order(position: int, last: int) -> list[int]:
    """Tokens by the draft's law, likeliest first."""
    return np.argsort(-GUESSED[position, last]).tolist()


class Terse(Likeliest):
    """A table that promises less than one token, so that a model is asked as well."""

    def __init__(self) -> None:
        super().__init__(1, levels=1)

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = super().propose(rows, floor, depth)
        for draft in drafts:
            draft.confidence = [0.9]
        return drafts


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize(
    ("drafter", "setting", "length"),
    [(Drawn(), CUT, 2), (Likeliest(3), NUCLEUS, 3), (Combined(Terse(), Drawn()), WARM, 2)],
    ids=["drawn chain", "siblings", "table and model"],
)
def test_rejection_keeps_the_law_of_the_text(drafter: Drafter, setting: Sampling, length: int) -> None:
    """50 000 texts of two or three tokens are distributed as the target says."""
    drawn = texts(Rejection(), drafter, setting, length=length)
    assert p_value(drawn, joint(setting, length)) > 1e-3


class NothingTakenOff(Rejection):
    """After a rejection draws from the whole law again."""

    def residual(self, law: Law, token: int, proposal: Law | None) -> Law:
        """Wrong."""
        return law


class Misdeclared(Likeliest):
    """Takes the likeliest token and says that it was drawn."""

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        drafts = super().propose(rows, floor, depth)
        for row, draft in zip(rows, drafts, strict=True):
            last = [row.tokens[-1], *draft.tokens]
            draft.law = [softmax(warp(GUESSED[row.position + i, last[i]], WARM)) for i in range(len(draft))]
        return drafts


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize(
    ("rule", "drafter"),
    [(NothingTakenOff(), Drawn()), (NothingTakenOff(), Likeliest(3)), (Rejection(), Misdeclared(1))],
    ids=["nothing taken off", "nothing taken off from siblings", "misdeclared"],
)
def test_a_broken_rule_is_found_out(rule: Verifier, drafter: Drafter) -> None:
    """The test above fails clearly, with far fewer texts, for the mistakes that are easily made."""
    drawn = texts(rule, drafter, WARM, 6000, 2)
    assert p_value(drawn, joint(WARM, 2)) < 1e-6


@pytest.mark.usefixtures("tabulated")
def test_coupled_verification_keeps_the_law_and_the_text() -> None:
    """Texts are distributed as the target says, and are the same without drafts."""
    drawn = texts(Coupled(), Likeliest(2), NUCLEUS, 20_000, 2)
    assert p_value(drawn, joint(NUCLEUS, 2)) > 1e-3
    assert np.array_equal(drawn, texts(Coupled(), Likeliest(1, levels=0), NUCLEUS, 20_000, 2))


@pytest.mark.usefixtures("tabulated")
def test_a_drawn_chain_keeps_the_law_it_was_drawn_from() -> None:
    """Tokens of a draft are distributed as the law that stands beside them, warped like the target's."""
    everyone = [Row([0], 1, CUT, stream, 3) for stream in range(DRAWS // 2)]
    drafts = Drawn().propose(everyone, 0.0, 2)
    law = joint(CUT, 2, GUESSED)
    assert drafts[0].law is not None
    assert np.allclose(drafts[0].law[0], law.sum(axis=1))
    assert p_value(np.array([draft.tokens for draft in drafts]), law) > 1e-3


TREE = st.lists(st.tuples(st.integers(-1, 8), st.integers(0, V - 1)), max_size=9)


@settings(max_examples=300, deadline=None)
@given(
    tree=TREE,
    temperature=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    top_k=st.none() | st.integers(1, V),
    min_p=st.none() | st.floats(0.0, 0.9),
    stream=st.integers(0, DRAWS - 1),
    begun=st.integers(0, 2),
    greedy_rule=st.booleans(),
)
def test_a_coupled_verdict_is_the_plain_text(
    tree: list[tuple[int, int]],
    temperature: float,
    top_k: int | None,
    min_p: float | None,
    stream: int,
    begun: int,
    greedy_rule: bool,
) -> None:
    """Any tree is followed exactly as far as it agrees with plain decoding; greedy rejection does the same."""
    sampling = Sampling(temperature=temperature, top_k=top_k, min_p=min_p)
    draft, seen = Draft(), set()
    for above, token in tree:
        parent = min(above, len(draft) - 1)
        if (parent, token) not in seen:
            seen.add((parent, token))
            draft.tokens.append(token)
            draft.parents.append(parent)
            draft.confidence.append(0.5)
    laws = np.random.default_rng(stream).normal(size=(4 + len(draft), V))  # three rows of somebody else's before
    row = Row([0] * (1 + begun), 1, sampling, stream, 20)
    rule = Rejection() if greedy_rule and temperature == 0 else Coupled()
    [verdict] = rule.verify([Claim(row, draft, 3)], Logits(torch.from_numpy(laws)))
    assert verdict is not None
    node, path, text = -1, [], []
    while True:
        text.append(choose(laws[4 + node], sampling, stream, begun + len(text)))
        below = [i for i, parent in enumerate(draft.parents) if parent == node and draft.tokens[i] == text[-1]]
        if not below:
            break
        [node] = below
        path.append(node)
    assert (verdict.tokens, verdict.accepted) == (tuple(text), tuple(path))


@pytest.mark.parametrize("rule", [Coupled(), Rejection()])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_cost_their_own_branch_alone(rule: Verifier, temperature: float) -> None:
    """A branch gets no verdict once its walk meets nan, infinity or no possible token; others get theirs."""
    sampling = Sampling(temperature=temperature)
    broken = [torch.full((V,), value, dtype=torch.float64) for value in (torch.nan, torch.inf, -torch.inf)]
    fine = torch.tensor([0.0, 50.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    partly = fine.clone()
    partly[3] = torch.nan
    for bad in [*broken, partly]:
        logits = torch.stack([fine, fine, fine, bad, bad, fine, fine, bad])
        drafts = [Draft([1], [-1], [0.5]), Draft([1], [-1], [0.5]), Draft(), Draft(), Draft([2], [-1], [0.5])]
        claims = [
            Claim(Row([0], 1, sampling, stream, 9), draft, first)
            for stream, (draft, first) in enumerate(zip(drafts, (0, 2, 4, 5, 6), strict=True))
        ]
        first, second, third, fourth, fifth = rule.verify(claims, Logits(logits))
        assert first == verify.Verdict((0,), (1, 1))
        assert (second, third) == (None, None)
        assert fourth == fifth == verify.Verdict((), (1,))  # what lies behind a rejected token does not matter


def test_a_residual_without_mass_is_the_law_itself() -> None:
    """Where the draft's law is the target's up to rounding, a rejection must not divide by nothing."""
    law = np.array([0.5, 0.5, 0.0])
    assert np.array_equal(Rejection().residual(law, 0, law + 1e-17), law)
    assert np.array_equal(Rejection().residual(np.array([1.0, 0.0]), 0, None), [1.0, 0.0])
    assert np.allclose(Rejection().residual(law, 0, np.array([0.25, 0.75, 0.0])), [1.0, 0.0, 0.0])
