"""The drafter that counts what followed before."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent.backends.sampling.philox import gumbel
from treeagent.backends.seed.drafters.tables.gumbel import Noise
from treeagent.backends.seed.drafters.tables.ngram import NgramDrafter
from treeagent.backends.seed.drafters.tables.ngram_mixture import ORDER
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.request import Sampling

RHYME = [31, 41, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95]
NEVER = 2.0


def row(prompt: Iterable[int], temperature: float = 0.0, stream: int = 0, limit: int = 100_000) -> SequenceState:
    """A branch that has generated nothing yet."""
    tokens = list(prompt)
    return SequenceState(tokens, len(tokens), Sampling(temperature=temperature), stream, limit)


def joined(drafter: NgramDrafter, prompt: Iterable[int], **options: float) -> SequenceState:
    """A branch whose prompt the drafter has read."""
    branch = row(prompt, **options)  # type: ignore[arg-type]
    drafter.observe(branch, 0)
    return branch


def commit(drafter: NgramDrafter, branch: SequenceState, tokens: Iterable[int]) -> None:
    """Tokens arrive one a round, whether drafted or not."""
    for token in tokens:
        branch.tokens.append(token)
        drafter.observe(branch, len(branch.tokens) - 1)


def draft(drafter: NgramDrafter, branch: SequenceState, floor: float = 0.5, depth: int = 8) -> Draft:
    return drafter.propose([branch], floor, depth)[0]


def reached(tree: Draft) -> list[float]:
    """Each node's claimed probability of being accepted."""
    path: list[float] = []
    for parent, confidence in zip(tree.parents, tree.confidence, strict=True):
        path.append(confidence * (path[parent] if parent >= 0 else 1.0))
    return path


def taught(text: Sequence[int], times: int = 4) -> NgramDrafter:
    """A drafter that has seen a branch generate a text several times over."""
    drafter = NgramDrafter()
    branch = joined(drafter, text[:1])
    commit(drafter, branch, [*text[1:], *text * (times - 1)])
    drafter.forget(branch)
    return drafter


texts = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
    st.floats(0, 1.1),
    st.integers(0, 6),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.8]),
)
@settings(max_examples=80, deadline=None)
def test_drafts_are_well_formed(branches, floor, depth, limit, temperature):
    """One draft a row; parents come first and siblings differ; floor, depth and the row's room are kept to."""
    drafter, rows = NgramDrafter(), []
    for stream, (prompt, continuation) in enumerate(branches):
        rows.append(joined(drafter, prompt, temperature=temperature, stream=stream, limit=limit))
        commit(drafter, rows[-1], continuation[: limit - 1])
    drafts = drafter.propose(rows, floor, depth)
    assert len(drafts) == len(rows)
    for branch, tree in zip(rows, drafts, strict=True):
        assert len(tree.tokens) == len(tree.parents) == len(tree.confidence)
        assert all(-1 <= parent < node for node, parent in enumerate(tree.parents))
        assert len(set(zip(tree.parents, tree.tokens, strict=True))) == len(tree)
        assert all(0 < confidence <= 1 for confidence in tree.confidence)
        assert all(chance >= floor for chance in reached(tree))
        assert all(
            sum(c for p, c in zip(tree.parents, tree.confidence, strict=True) if p == parent) <= 1 + 1e-9
            for parent in tree.parents
        )
        levels: list[int] = []
        for parent in tree.parents:
            levels.append(1 if parent < 0 else levels[parent] + 1)
        assert all(level <= min(depth, branch.room) for level in levels)
        assert tree.law is None


@given(texts, st.floats(0.02, 0.5))
@settings(max_examples=30, deadline=None)
def test_the_first_nodes_are_the_best(text, floor):
    """Nodes stand in the order of their chance to be accepted, so that a draft can be cut anywhere."""
    drafter = NgramDrafter()
    chances = reached(draft(drafter, joined(drafter, text), floor))
    assert chances == sorted(chances, reverse=True)


def test_a_repeated_sequence_is_predicted():
    """A text that occurs three times in a prompt is drafted to the full depth when it begins again."""
    drafter = NgramDrafter()
    tree = draft(drafter, joined(drafter, RHYME * 3 + RHYME[:6]), floor=0.3)
    assert tree.tokens == RHYME[6:14]
    assert tree.parents == list(range(-1, 7))


def test_evidence_crosses_branches_and_outlives_them():
    """A branch is drafted what another one, now gone, has written."""
    drafter = taught(RHYME)
    assert draft(drafter, joined(drafter, [7, 8, 9, *RHYME[:5]])).tokens == RHYME[5:13]


def test_nothing_is_drafted_without_an_earlier_occurrence():
    """An unknown text, an unknown row, a hopeless floor, no depth and no room all give empty drafts."""
    drafter = taught(RHYME)
    assert not draft(drafter, joined(drafter, [1001, 1002]))
    assert not draft(drafter, row(RHYME))
    known = joined(drafter, RHYME[:6])
    assert draft(drafter, known)
    assert not draft(drafter, known, floor=1.0)
    assert not draft(drafter, known, depth=0)
    assert not draft(drafter, joined(drafter, RHYME[:6], limit=1))
    assert len(draft(drafter, joined(drafter, RHYME[:6], limit=3))) == 2


def test_a_shared_prompt_is_one_piece_of_evidence():
    """Sixteen branches of one prompt count once for the prompt; a branch's own part still counts."""
    alone, crowded = NgramDrafter(), NgramDrafter()
    prompt = [1, 2, 3, 4, 1, 2, 5, 6, 1, 2]
    for _ in range(15):
        crowded.forget(joined(crowded, prompt))
    assert draft(alone, joined(alone, prompt), 0.02) == draft(crowded, joined(crowded, prompt), 0.02)
    for ending in ([50, 60], [50, 60], [50, 60]):
        crowded.forget(joined(crowded, [*prompt, len(crowded), *ending]))
    assert draft(crowded, joined(crowded, [*prompt, 777, 50]), 0.3).tokens[:1] == [60]


def test_a_row_that_comes_back_is_not_new_evidence():
    """A branch that was suspended and joins again with all its tokens is not counted twice."""
    drafter = taught(RHYME)
    branch = joined(drafter, [7, 8, *RHYME[:4]])
    commit(drafter, branch, [70, 71])
    before = draft(drafter, branch, 0.02)
    drafter.forget(branch)
    drafter.observe(branch, 0)
    probe = joined(drafter, [9, *RHYME[1:4]])
    drafter.forget(probe)
    drafter.forget(branch)
    drafter.observe(branch, 0)
    assert draft(drafter, branch, 0.02) == before


def test_forget_frees():
    """Nothing of a row is kept after its end; a second removal does no harm, and close removes all rows."""
    drafter = NgramDrafter()
    rows = [joined(drafter, RHYME) for _ in range(3)]
    for branch in rows:
        drafter.forget(branch)
        drafter.forget(branch)
        assert not draft(drafter, branch, 0.02)
    assert not drafter._evidence
    assert len(drafter) > 0
    drafter.close()
    assert len(drafter) == 0


def test_memory_is_bounded_and_what_is_in_use_stays():
    """However much is read, two generations of contexts are held at most; a text that goes on is remembered."""
    drafter, noise = NgramDrafter(contexts=600), random.Random(0)
    for _ in range(40):
        drafter.forget(joined(drafter, [noise.randrange(10_000) for _ in range(50)]))
        branch = joined(drafter, [noise.randrange(10_000)])
        commit(drafter, branch, RHYME)
        drafter.forget(branch)
        assert len(drafter) <= 2 * (600 + ORDER)
    assert draft(drafter, joined(drafter, RHYME[:6])).tokens == RHYME[6:14]


class Source:
    """A stationary random source: the next token depends on the last, one law per token."""

    def __init__(self, seed: int, vocabulary: int = 24) -> None:
        random = np.random.default_rng(seed)
        laws = random.gamma(np.where(random.random((vocabulary, 1)) < 0.5, 0.03, 0.3), size=(vocabulary, vocabulary))
        self.laws = (laws + 1e-9) / (laws + 1e-9).sum(axis=1, keepdims=True)
        self.random = random
        self.ids = np.arange(vocabulary)

    def next(self, branch: SequenceState) -> int:
        """A draw; a sampled row's is the one that its noise decides."""
        law = self.laws[branch.tokens[-1]]
        if branch.sampling.temperature > 0:
            return int((np.log(law) + gumbel(branch.stream, branch.position, self.ids)).argmax())
        return int(self.random.choice(self.ids, p=law))


def play(source: Source, temperature: float, rounds: int, *, ask: bool = True) -> tuple[NgramDrafter, list]:
    """(Prediction, whether accepted) of all first-level nodes of six branches, in the second half of the rounds."""
    drafter, outcomes = NgramDrafter(), []
    rows = [joined(drafter, [i], temperature=temperature, stream=i + 1) for i in range(6)]
    for i in range(rounds):
        trees = drafter.propose(rows, 0.05 if ask else NEVER, 1)
        for branch, tree in zip(rows, trees, strict=True):
            token = source.next(branch)
            if 2 * i > rounds:
                outcomes += [(claim, node == token) for node, claim in zip(tree.tokens, tree.confidence, strict=True)]
            commit(drafter, branch, [token])
    return drafter, outcomes


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_predicted_acceptance_rates_are_the_measured_ones(temperature):
    """On a stationary source each fifth of the predictions averages the measured rate, within sampling error."""
    _, outcomes = play(Source(1), temperature, 400)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        part = [(claim, hit) for claim, hit in outcomes if low <= claim < low + 0.2]
        assert len(part) > 20
        claimed, realised = np.mean(part, axis=0)
        assert claimed == pytest.approx(realised, abs=0.05 + 0.6 / len(part) ** 0.5)


def test_tokens_that_were_not_drafted_are_learned_too():
    """After a long time without drafting, predictions equal those of a drafter that has drafted all the time."""
    (silent, _), (asked, _) = (play(Source(2), 0.0, 200, ask=ask) for ask in (False, True))
    for token in range(24):
        claims = [draft(drafter, joined(drafter, [100, token]), 0.05, 1).confidence[:1] for drafter in (silent, asked)]
        assert claims[0] == pytest.approx(claims[1], abs=0.05)


def test_unpredictable_text_is_left_alone():
    """Tokens drawn evenly from a vocabulary of any size yield next to no drafts at a floor of 0.45."""
    for vocabulary in (5000, 200, 8):
        drafter, noise, nodes = NgramDrafter(), random.Random(3), 0
        rows = [joined(drafter, [noise.randrange(vocabulary) for _ in range(30)]) for _ in range(8)]
        for _ in range(60):
            nodes += sum(map(len, drafter.propose(rows, 0.45, 8)))
            for branch in rows:
                commit(drafter, branch, [noise.randrange(vocabulary)])
        assert nodes < 0.02 * 8 * 60


@given(st.integers(0, 2**64 - 1), st.integers(0, 5000), st.integers(0, 300_000))
@settings(max_examples=50, deadline=None)
def test_the_noise_is_the_targets(stream, position, token):
    """The quick noise of one token is the noise that the target's choice uses."""
    expected = gumbel(stream, position, np.array([token]))[0]
    assert Noise(stream)(position, token) == pytest.approx(expected, rel=1e-12)


def test_candidates_that_win_under_the_noise_come_first():
    """Of two followers seen equally often, a sampled row is offered the one first that its noise prefers."""
    drafter = NgramDrafter()
    for i in range(8):
        drafter.forget(joined(drafter, [100 + i, 5, 6 + i % 2, 5, 7 - i % 2]))
    firsts = set()
    for stream in range(40):
        tree = draft(drafter, joined(drafter, [200 + stream, 5], temperature=1.0, stream=stream), 0.02, 1)
        noise = gumbel(stream, 0, np.array([6, 7]))
        assert tree.tokens == ([6, 7] if noise[0] > noise[1] else [7, 6])
        firsts.add(tree.tokens[0])
    assert firsts == {6, 7}


def test_coupled_noise_raises_acceptance():
    """On a source of high entropy the first candidate of a sampled row is right more often than that of a blind one."""
    hits = []
    for temperature in (0.0, 1.0):
        drafter, source = NgramDrafter(), Source(5)
        source.laws[:] = np.array([0.35, 0.3, 0.2, 0.1, 0.05 - 19e-9, *[1e-9] * 19])
        rows = [joined(drafter, [i], temperature=temperature, stream=i + 1) for i in range(6)]
        right = 0
        for _ in range(250):
            for branch, tree in zip(rows, drafter.propose(rows, 0.02, 1), strict=True):
                token = source.next(branch)
                right += tree.tokens[:1] == [token]
                commit(drafter, branch, [token])
        hits.append(right / 1500)
    assert hits[1] > hits[0] + 0.05
