"""Drafts of tables that keep the target's logits: their form, acceptance rates and laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seed_tools import MIX, Naive, Open, ask, idle, told
from table_updates import DRAFTERS, Listening, play, row
from table_updates import drafter as drafter  # noqa: PLC0414  the fixture
from toy_laws import CUT, TEXTS, WARM, joint, p_value, texts

from treeagent.backends.sampling.philox import gumbel
from treeagent.backends.seed.drafters.base import VerifiedDraft
from treeagent.backends.seed.drafters.tables.base import TableDrafter
from treeagent.backends.seed.drafters.tables.stand import StandDrafter
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling

texts_of_few = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@pytest.mark.parametrize("make", DRAFTERS)
@given(
    branches=st.lists(st.tuples(texts_of_few, texts_of_few), min_size=1, max_size=4),
    floor=st.floats(0, 1.1),
    depth=st.integers(0, 6),
    limit=st.integers(1, 60),
    temperature=st.sampled_from([0.0, 0.8]),
)
@settings(max_examples=50, deadline=None)
def test_drafts_are_well_formed(
    make: type[TableDrafter],
    branches: list[tuple[list[int], list[int]]],
    floor: float,
    depth: int,
    limit: int,
    temperature: float,
) -> None:
    """One a row, best nodes first; parents come before children, siblings differ, floor, depth and room are kept to."""
    drafter, rows = make(coupled=True), []
    for stream, (prompt, continuation) in enumerate(branches):
        rows.append(row(prompt, temperature, stream, limit))
        play(drafter, rows[-1], continuation[: limit - 1])
    drafts = drafter.propose(rows, floor, depth)
    assert len(drafts) == len(rows)
    for branch, tree in zip(rows, drafts, strict=True):
        reached: list[float] = []
        levels: list[int] = []
        for node, (parent, confidence) in enumerate(zip(tree.parents, tree.confidence, strict=True)):
            assert -1 <= parent < node
            assert 0 < confidence <= 1
            reached.append(confidence * (reached[parent] if parent >= 0 else 1))
            levels.append(1 + (levels[parent] if parent >= 0 else 0))
        assert len(set(zip(tree.parents, tree.tokens, strict=True))) == len(tree)
        assert reached == sorted(reached, reverse=True)
        assert all(chance >= floor for chance in reached)
        assert all(level <= min(depth, branch.room) for level in levels)
        for parent in set(tree.parents):
            claimed = [c for p, c in zip(tree.parents, tree.confidence, strict=True) if p == parent]
            assert sum(claimed) <= 1 + 1e-9
        assert tree.law is None


def test_evidence_crosses_branches_and_outlives_them(drafter: TableDrafter) -> None:
    """A branch is drafted what the target said in another one, now gone, of which nothing else is held."""
    other = row([1, 2])
    play(drafter, other, [11, 12, 13, 14, 15] * 8)
    drafter.forget(other)
    drafter.forget(other)
    assert not drafter._states
    new = row([77, 11, 12], stream=5)
    assert drafter.propose([new], 0.02, 3)[0].tokens[:3] == [13, 14, 15]
    assert not drafter.propose([row([88])], 0.02, 3)[0]
    assert not drafter.propose([new], 1.0, 3)[0]
    drafter.close()
    assert not drafter.propose([new], 0.02, 3)[0]


class Source:
    """A random target with a law of the next token for every pair of last tokens."""

    V = 12

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.logits = 2.5 * random.normal(size=(self.V, 1, self.V)) + 1.5 * random.normal(size=(self.V, self.V, self.V))

    def next(self, branch: SequenceState, text: Sequence[int], position: int) -> int:
        """What the target writes."""
        logits = self.logits[text[-1], text[-2]]
        if branch.sampling.temperature:
            logits = logits / branch.sampling.temperature + gumbel(branch.stream, position, np.arange(self.V))
        return int(logits.argmax())

    def verify(self, branch: SequenceState, draft: Draft, wants: int) -> VerifiedDraft:
        """A coupled pass."""
        paths = [branch.tokens]
        for token, parent in zip(draft.tokens, draft.parents, strict=True):
            paths.append([*paths[parent + 1], token])
        logits = torch.from_numpy(np.stack([self.logits[path[-1], path[-2]] for path in paths]))
        tokens, node = [], -1
        while True:
            tokens.append(self.next(branch, paths[node + 1], branch.position + len(tokens)))
            children = [i for i, parent in enumerate(draft.parents) if parent == node]
            node = next((i for i in children if draft.tokens[i] == tokens[-1]), -2)
            if node < -1:
                return VerifiedDraft(branch, draft, tuple(tokens), *Logits(logits).top(wants))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_predicted_acceptance_rates_are_the_measured_ones(drafter: TableDrafter, temperature: float) -> None:
    """On a stationary source predictions of each part of the scale average the measured rate, within sampling error."""
    source, random, outcomes = Source(1), np.random.default_rng(2), []
    rows: list[SequenceState] = []
    for turn in range(400):
        rows = [branch for branch in rows if branch.position < 16]
        while len(rows) < 6:
            rows.append(row(random.integers(source.V, size=2).tolist(), temperature, int(random.integers(2**60))))
        drafts = drafter.propose(rows, 0.03, 3)
        passed = [
            source.verify(branch, draft, drafter.top_k_wanted) for branch, draft in zip(rows, drafts, strict=True)
        ]
        drafter.learn(passed)
        for branch, draft, verified in zip(rows, drafts, passed, strict=True):
            path = {tuple(verified.tokens[:i]) for i in range(len(verified.tokens) + 1)}
            texts: list[tuple[int, ...]] = []
            for token, parent, claim in zip(draft.tokens, draft.parents, draft.confidence, strict=True):
                above = () if parent < 0 else texts[parent]
                texts.append((*above, token))
                if above in path and turn > 200:
                    outcomes.append((claim, texts[-1] in path))
            branch.tokens += verified.tokens
            if branch.position >= 16:
                drafter.forget(branch)
    assert sum(hit for _, hit in outcomes) > 300
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        part = [(claim, hit) for claim, hit in outcomes if low <= claim < high]
        if len(part) > 20:
            claimed, realised = np.mean(part, axis=0)
            assert claimed == pytest.approx(realised, abs=0.05 + 0.6 / len(part) ** 0.5)


def test_coupled_noise_raises_acceptance() -> None:
    """Under coupled verification the first candidate is right more often than one that is ranked by the table alone."""
    hits = []
    for coupled in (True, False):
        drafter, source, right = StandDrafter(coupled=coupled), Source(3), 0
        for stream in range(300):
            branch = row([stream % 12, stream % 7], 1.0, stream)
            [draft] = drafter.propose([branch], 0.02, 1)
            verified = source.verify(branch, draft, drafter.top_k_wanted)
            right += draft.tokens[:1] == [verified.tokens[0]]
            drafter.learn([verified])
        hits.append(right)
    assert hits[0] > hits[1] + 30


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("setting", [WARM, CUT], ids=["warm", "cut"])
@pytest.mark.parametrize("make", DRAFTERS)
def test_recursive_rejection_keeps_the_law_of_the_text(make: Callable[..., TableDrafter], setting: Sampling) -> None:
    """Texts of two tokens have the law of the target, with drafts from a table that other texts have filled."""
    drafter = make(coupled=False)
    texts(Rejection(), drafter, setting, 300, 2, first=15_000)
    drafted: list[int] = []
    propose = drafter.propose

    def spy(rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        drafts = propose(rows, floor, depth)
        drafted.extend(map(len, drafts))
        return drafts

    drafter.propose = spy  # type: ignore[method-assign]
    drawn = texts(Rejection(), drafter, setting, TEXTS, 2)
    assert np.mean(drafted) > 1
    assert p_value(drawn, joint(setting, 2)) > 1e-3


def test_a_drafter_receives_the_targets_verified_tokens(opened: Open, naive: Naive) -> None:
    """Before its tokens are committed, a row for the last token and for every drafted one, at any temperature."""
    listener = Listening(naive)
    backend = opened(drafter=lambda: listener, draft_tokens=6)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    idle(backend)
    positions: dict[int, int] = {}
    for position, verified in listener.heard:
        branch, draft, truth = verified.row, verified.draft, listener.truth[verified.row.stream]
        assert position == positions.get(branch.stream, 0)
        positions[branch.stream] = position + len(verified.tokens)
        ended = truth[position : position + len(verified.tokens)]  # a text may end before what was accepted does
        assert verified.tokens[: len(ended)] == ended
        assert verified.best.shape == verified.chances.shape == (1 + len(draft), 3)
        assert (np.diff(verified.chances, axis=1) <= 0).all()
        node = -1
        for token in ended:
            assert branch.sampling.temperature or verified.best[node + 1, 0] == token
            if branch.sampling.top_k == 5 and branch.sampling.top_p is None:
                assert verified.chances[node + 1].sum() < 1
            children = [i for i, parent in enumerate(draft.parents) if parent == node and draft.tokens[i] == token]
            node = children[0] if children else -2
            if not children:
                break
    assert positions.keys() == {asked.key.stream(i) for asked in MIX for i in range(asked.n)}
