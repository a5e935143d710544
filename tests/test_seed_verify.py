"""Acceptance rules: what is kept of a draft follows the target's law, or is its very text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from treeagent.backend import Sampling
from treeagent.backends import sampling as plain
from treeagent.backends.sampling import COIN, RESIDUAL, choose, uniforms, warp
from treeagent.backends.seed import verify
from treeagent.backends.seed.budget import CostTable
from treeagent.backends.seed.drafters import Draft, Drafter, Row
from treeagent.backends.seed.drafters import model as model_drafter
from treeagent.backends.seed.drafters.combined import Combined
from treeagent.backends.seed.drafters.model import ModelDrafter
from treeagent.backends.seed.verify import Claim, Coupled, Logits, Rejection, Verifier

Law = NDArray[np.float64]

V = 5
LENGTH = 3
"""Tokens of a text; the joint law of all of them is tested."""
DRAWS = 50_000

random = np.random.default_rng(1)
TARGET = random.normal(size=(LENGTH + 2, V, V)) * 1.5
"""Logits of the next token by position and last token."""
DRAFT = TARGET + random.normal(size=TARGET.shape)

SETTINGS = {
    "warm": Sampling(temperature=0.7),
    "top-k": Sampling(temperature=1.0, top_k=3),
    "top-p": Sampling(temperature=1.0, top_p=0.85),
}


@pytest.fixture(scope="module", autouse=True)
def tabulated() -> Iterator[None]:
    """Random numbers of all streams in one call of NumPy, as one call for each takes a minute. The values are the same."""
    streams = np.arange(DRAWS, dtype=np.uint64)

    @cache
    def table(position: int, block: int, purpose: int) -> Law:
        positions, blocks = (np.full(DRAWS, number, dtype=np.uint32) for number in (position, block))
        return uniforms(streams, positions, blocks, purpose)

    @cache
    def noise(position: int, purpose: int) -> Law:
        return -np.log(-np.log(np.hstack([table(position, block, purpose) for block in range(-(-V // 4))])))

    def some_uniforms(streams: NDArray, positions: NDArray, blocks: NDArray, purpose: int) -> Law:
        return table(int(positions[0]), int(blocks[0]), purpose)[int(streams[0])][None]

    def gumbel(stream: int, position: int, ids: NDArray[np.int64], purpose: int) -> Law:
        return noise(position, purpose)[stream, ids]

    ids = np.arange(V)
    for stream in (0, 7, DRAWS - 1):
        assert np.array_equal(gumbel(stream, 2, ids, RESIDUAL), plain.gumbel(stream, 2, ids, RESIDUAL))
        place = np.array([stream], np.uint64), np.array([1], np.uint32), np.array([0], np.uint32)
        assert np.array_equal(some_uniforms(*place, COIN), uniforms(*place, COIN))

    warped: dict[tuple[bytes, Sampling], Law] = {}

    def known(logits: Law, sampling: Sampling) -> Law:
        key = (logits.tobytes(), sampling)
        if key not in warped:
            warped[key] = warp(logits, sampling)
        return warped[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "uniforms", some_uniforms)
        patch.setattr(verify, "gumbel", gumbel)
        patch.setattr(verify, "warp", known)
        patch.setattr(model_drafter, "warp", known)
        yield


def rows(sampling: Sampling, count: int = DRAWS) -> list[Row]:
    return [Row([0], 1, sampling, stream, LENGTH) for stream in range(count)]


def texts(verifier: Verifier, drafter: Drafter, sampling: Sampling, count: int = DRAWS) -> NDArray[np.int64]:
    """Texts (count, LENGTH) of as many streams, drafted and verified until they are long enough."""
    going = everyone = rows(sampling, count)
    while going:
        drafts = drafter.propose(going, 0.0, LENGTH)
        claims, places = [], []
        for row, draft in zip(going, drafts, strict=True):
            claims.append(Claim(row, draft, len(places)))
            depths = [row.position]
            places.append((row.position, row.tokens[-1]))
            for token, parent in zip(draft.tokens, draft.parents, strict=True):
                depths.append(depths[parent + 1] + 1)
                places.append((depths[-1], token))
        positions, last = np.array(places).T
        logits = torch.from_numpy(TARGET[positions, last])
        for row, verdict in zip(going, verifier.verify(claims, Logits(logits)), strict=True):
            assert verdict is not None
            row.tokens += verdict.tokens
        going = [row for row in going if row.position < LENGTH]
    return np.array([row.tokens[1 : 1 + LENGTH] for row in everyone])


def softmax(scores: Law) -> Law:
    weights: Law = np.exp(scores - scores.max())
    return weights / weights.sum()


def joint(sampling: Sampling) -> Law:
    """The exact law (V, ..., V) of a text."""
    law = np.zeros([V] * LENGTH)
    for text in np.ndindex(*law.shape):
        chance, last = 1.0, 0
        for position, token in enumerate(text):
            chance *= softmax(warp(TARGET[position, last], sampling))[token]
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
        self.model = ModelDrafter(None, CostTable((1, 2), (1.0, 1.0)), keep_law=True)  # type: ignore[arg-type]

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        drafts = [Draft(law=[]) for _ in rows]
        for level in range(min(depth, 2)):
            last = [draft.tokens[-1] if level else row.tokens[-1] for row, draft in zip(rows, drafts, strict=True)]
            logits = torch.from_numpy(DRAFT[[row.position + level for row in rows], last])
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
    return np.argsort(-DRAFT[position, last]).tolist()


DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "drawn chain": Drawn,
    "likeliest chain": lambda: Likeliest(1),
    "siblings": lambda: Likeliest(3),
    "table and model": lambda: Combined(Table(), Drawn()),
}


class Table(Likeliest):
    """Says little, so that a model is asked as well."""

    def __init__(self) -> None:
        super().__init__(1, levels=1)

    def propose(self, rows: Sequence[Row], floor: float, depth: int) -> list[Draft]:
        drafts = super().propose(rows, floor, depth)
        for draft in drafts:
            draft.confidence = [0.9]
        return drafts


@pytest.mark.parametrize(
    ("how", "setting"),
    [
        ("drawn chain", "warm"),
        ("drawn chain", "top-k"),
        ("likeliest chain", "warm"),
        ("siblings", "top-p"),
        ("table and model", "warm"),
    ],
)
def test_rejection_keeps_the_law_of_the_text(how: str, setting: str) -> None:
    """50 000 texts of three tokens are distributed as the target says."""
    drawn = texts(Rejection(), DRAFTERS[how](), SETTINGS[setting])
    assert p_value(drawn, joint(SETTINGS[setting])) > 1e-3


class NothingTakenOff(Rejection):
    """After a rejection draws from the whole law again."""

    def residual(self, law: Law, token: int, proposal: Law | None) -> Law:
        return law


class ScoredAsDrawn(Rejection):
    """Takes a deterministic draft for one drawn from the draft's softmax."""

    def chance(self, law: Law, token: int, proposal: Law | None) -> float:
        return min(1.0, float(law[token]) / 0.6)


@pytest.mark.parametrize(
    ("rule", "how"),
    [(NothingTakenOff, "drawn chain"), (NothingTakenOff, "siblings"), (ScoredAsDrawn, "likeliest chain")],
)
def test_a_broken_rule_is_found_out(rule: type[Rejection], how: str) -> None:
    """The test above fails clearly for the mistakes that are easily made."""
    drawn = texts(rule(), DRAFTERS[how](), SETTINGS["warm"])
    assert p_value(drawn, joint(SETTINGS["warm"])) < 1e-6


@pytest.mark.parametrize("how", ["drawn chain", "siblings"])
def test_coupled_verification_keeps_the_law_and_the_text(how: str) -> None:
    """Texts are distributed as the target says, and are the same without drafts."""
    law = joint(SETTINGS["top-p"])
    drawn = texts(Coupled(), DRAFTERS[how](), SETTINGS["top-p"])
    assert p_value(drawn, law) > 1e-3
    assert np.array_equal(drawn, texts(Coupled(), Likeliest(1, levels=0), SETTINGS["top-p"]))
