"""Drafters that keep the target's own logits: what they learn, predict and forget."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seed_tools import MIX, Naive, Open, ask, idle, scheduler, told
from table_updates import Listening, candidates, play, row, said
from table_updates import drafter as drafter  # noqa: PLC0414  the fixture

from treeagent.backends.sampling.philox import gumbel
from treeagent.backends.seed.drafters.base import VerifiedDraft
from treeagent.backends.seed.drafters.tables import stand
from treeagent.backends.seed.drafters.tables.base import Known, TableDrafter, add_gumbel
from treeagent.backends.seed.drafters.tables.gumbel import Noise
from treeagent.backends.seed.drafters.tables.stand import StandDrafter, _warmed
from treeagent.backends.seed.drafters.tables.token_recycling import WIDTH, RecyclingDrafter
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.records import Draft


def test_the_latest_logits_win() -> None:
    """A token's row is what the target said last, of several in one pass the last one; other rows stay."""
    drafter = RecyclingDrafter(coupled=True)
    drafter.learn([said(row([1, 2]), [{3: 0.6, 4: 0.4}]), said(row([9]), [{5: 0.6, 6: 0.4}])])
    assert list(candidates(drafter, [2])) == [3, 4]
    drafter.learn([said(row([7, 2]), [{4: 0.6, 8: 0.4}]), said(row([2]), [{7: 0.9, 3: 0.1}])])
    assert list(candidates(drafter, [2])) == [7, 3]
    assert list(candidates(drafter, [9])) == [5, 6]
    assert candidates(drafter, [5]) == {}
    assert len(drafter) == 2


def test_rejected_tokens_teach_too(drafter: TableDrafter) -> None:
    """What the target said after every drafted token is kept, at its own context."""
    draft = Draft([20, 30, 40], [-1, -1, 1], [0.5] * 3)
    laws = [{11: 0.9, 12: 0.1}, {21: 0.9, 22: 0.1}, {31: 0.9, 32: 0.1}, {41: 0.9, 42: 0.1}]
    drafter.learn([said(row([10]), laws, draft)])
    for text, first in (([10], 11), ([10, 20], 21), ([10, 30], 31), ([10, 30, 40], 41)):
        assert list(candidates(drafter, text)) == [first, first + 1]


def test_a_distribution_is_the_mean_of_all_updates() -> None:
    """The k-th update has weight 1 / (k + 1), so that all count alike; a token that an update lacks counts as 0."""
    drafter, random = StandDrafter(coupled=True), np.random.default_rng(0)
    laws = [dict(enumerate(random.dirichlet(np.full(6, 9.0)).tolist())) for _ in range(7)]
    mean = dict(laws[0])
    for k, law in enumerate(laws):
        drafter.learn([said(row([1, 2, 3]), [law])])
        mean = {token: mean[token] + (law[token] - mean[token]) / (k + 1) for token in law}
        assert candidates(drafter, [1, 2, 3]) == pytest.approx(mean)
        assert list(candidates(drafter, [1, 2, 3])) == sorted(mean, key=lambda token: -mean[token])
    drafter.learn([said(row([1, 2, 3]), [{50: 1.0}])])
    assert candidates(drafter, [1, 2, 3])[50] == pytest.approx(1 / 8)


def test_the_longest_known_context_decides() -> None:
    """Shorter ones only where no longer one is known, down to a single token."""
    drafter = StandDrafter(coupled=True)
    drafter.learn([said(row([1, 2, 3]), [{4: 0.8, 5: 0.2}]), said(row([7, 3]), [{6: 1.0}])])
    assert candidates(drafter, [9, 1, 2, 3]) == candidates(drafter, [2, 3]) == pytest.approx({4: 0.8, 5: 0.2})
    assert candidates(drafter, [7, 3]) == pytest.approx({6: 1.0})
    assert candidates(drafter, [8, 3]) == pytest.approx({6: 0.5, 4: 0.4, 5: 0.1})
    assert candidates(drafter, [3, 8]) == {}


def test_the_ten_likeliest_tokens_are_kept() -> None:
    """Of all that the updates brought; those of next to no probability are not kept at all."""
    drafter = StandDrafter(coupled=True)
    for start in (0, 8):
        drafter.learn([said(row([1]), [{start + i: (10 - i) / 55 for i in range(10)}])])
    assert len(candidates(drafter, [1])) == stand.WIDTH
    drafter.learn([said(row([2]), [{1: 0.9999, 2: 0.0001}])])
    assert list(candidates(drafter, [2])) == [1]


def test_a_temperature_sharpens_or_flattens_what_is_kept() -> None:
    """As the softmax of logits over it does; probabilities are kept at temperature 1, and none becomes 0."""
    drafter, law = StandDrafter(coupled=True), {1: 0.6, 2: 0.3, 3: 0.1}
    drafter.learn([said(row([5]), [law])])
    for temperature in (0.5, 2.0):
        powers = {token: chance ** (1 / temperature) for token, chance in law.items()}
        expected = {token: power / sum(powers.values()) for token, power in powers.items()}
        assert candidates(drafter, [5], temperature) == pytest.approx(expected, abs=0.04)  # a little for unknown ones
    assert min(candidates(drafter, [5], 0.001).values()) > 0


def test_ranks_are_worth_what_they_were(drafter: TableDrafter) -> None:
    """Where the second candidate is mostly right, its predicted acceptance rises."""
    random = np.random.default_rng(0)
    law = {3: 0.6, 4: 0.4} if drafter.name == "recycling" else {4: 0.6, 3: 0.4}
    for _ in range(400):
        token = 4 if random.random() < 0.8 else 3
        drafter.learn([said(row([2]), [law], tokens=[token])])
    [draft] = drafter.propose([row([2])], 0.05, 1)
    assert draft.tokens[0] == 4
    assert draft.confidence[0] == pytest.approx(0.8, abs=0.1)


def test_candidates_are_ranked_by_the_targets_noise() -> None:
    """By log q + g, with predictions that grow with the lead; a single candidate is not weighed."""
    known, leads = Known(1, [7, 8], [0.5, 0.45]), []
    for stream in range(200):
        heard = add_gumbel(known, Noise(stream), 3)
        scores = np.log([0.5, 0.45]) + gumbel(stream, 3, np.array([7, 8]))
        assert heard[0][1] == (7 if scores[0] > scores[1] else 8)
        leads.append((abs(scores[0] - scores[1]), heard[0][0] / heard[1][0]))
    assert [ratio for _, ratio in sorted(leads)] == sorted(ratio for _, ratio in leads)
    assert add_gumbel(Known(1, [7, 8], [0.98, 0.01]), Noise(0), 3) == [(0.98, 7), (0.01, 8)]


def test_memory_is_bounded_and_what_is_in_use_stays() -> None:
    """However much is read, two generations of contexts are held at most; a text that goes on is remembered."""
    drafter, noise, rhyme = StandDrafter(coupled=True, contexts=300), random.Random(0), [31, 41, 59, 26, 53]
    for _ in range(60):
        play(drafter, row([noise.randrange(10_000)]), [noise.randrange(10_000) for _ in range(20)])
        play(drafter, row([noise.randrange(10_000)]), rhyme)
        assert len(drafter) <= 2 * (300 + stand.ORDER)
    assert drafter.propose([row(rhyme[:3])], 0.02, 1)[0].tokens[0] == rhyme[3]


def test_recycling_takes_no_more_than_the_vocabulary() -> None:
    """Eight ids for every token up to the largest one, with some to spare while it grows."""
    drafter, noise = RecyclingDrafter(coupled=True), random.Random(0)
    for _ in range(500):
        law = {noise.randrange(2000): 0.6, 2000: 0.3, 2001: 0.1}
        drafter.learn([said(row([noise.randrange(2000)]), [law])])
    assert drafter._next.shape[0] <= 2 * 2002
    assert drafter._next.nbytes == 4 * WIDTH * len(drafter._next)


def test_logits_that_are_not_finite_teach_nothing(drafter: TableDrafter) -> None:
    """What was known stays, and tokens that are impossible are no candidates."""
    wide = torch.tensor([[0.0, 2.0, 1.0, -np.inf], [np.nan] * 4, [-np.inf] * 4, [np.inf, 0.0, 0.0, 0.0]])
    ids, chances = Logits(wide).top(drafter.top_k_wanted)
    assert ids.shape == chances.shape == (4, 4)
    assert ids[0, :3].tolist() == [1, 2, 0]
    assert chances[0] == pytest.approx([*torch.tensor([2.0, 1.0, 0.0]).softmax(0).tolist(), 0.0])
    assert not chances[1:].any()
    for place, expected in enumerate(([1, 2, 0], [1, 2, 0], [1, 2, 0], [1, 2, 0])):
        drafter.learn([VerifiedDraft(row([9]), Draft(), (1,), ids[place : place + 1], chances[place : place + 1])])
        assert list(candidates(drafter, [9])) == expected


@given(size=st.integers(1, 40), count=st.integers(1, 12), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_likeliest_tokens_of_a_pass(size: int, count: int, seed: int) -> None:
    """Of every row those of the softmax, whatever the dtype; all of a smaller vocabulary."""
    logits = np.random.default_rng(seed).permuted(np.tile(np.arange(size) / 4, (5, 1)), axis=1)  # exact in bfloat16
    laws = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        ids, chances = Logits(torch.from_numpy(logits).to(dtype)).top(count)
        assert ids.shape == (5, min(count, size))
        assert np.array_equal(ids, np.argsort(-laws, axis=1)[:, :count])
        assert np.allclose(chances, np.take_along_axis(laws, ids, axis=1), rtol=1e-5)


def test_a_drafter_receives_nothing_while_drafting_is_paused(opened: Open, naive: Naive) -> None:
    """Nor does one that asks for no top tokens."""
    resting, deaf = Listening(naive), Listening(naive)
    deaf.top_k_wanted = 0
    for listener, rest in ((resting, 1000), (deaf, 0)):
        backend = opened(drafter=lambda listener=listener: listener)
        scheduler(backend).speculator.gate.pause(rest)
        assert told(ask(backend, *MIX[:3])) == naive.expected(MIX[:3])
        idle(backend)
        assert not listener.heard


@pytest.mark.parametrize("name", ["recycling", "stand"])
def test_nothing_is_left_of_a_table_after_a_reset(opened: Open, naive: Naive, name: str) -> None:
    """The same requests give the same figures again, unlike with a table that is kept."""
    backend, drafted = opened(drafter=name, draft_tokens=4), []
    for tables in (True, True, False):
        backend.reset(tables=tables)
        figures = backend.meter()
        assert told(ask(backend, *MIX)) == naive.expected(MIX)
        idle(backend)
        drafted.append((figures()["drafted"], figures()["accepted"], figures()["rounds"]))
    assert figures()["drafter"] == name
    assert drafted[0] == drafted[1] != drafted[2]
    assert drafted[2][1] > drafted[1][1]
    assert not scheduler(backend).speculator.drafter._states  # type: ignore[union-attr]


@pytest.mark.parametrize("verify", ["coupled", "recursive"])
@pytest.mark.parametrize("name", ["recycling", "stand"])
def test_names_make_tables_for_the_way_of_verification(opened: Open, name: str, verify: str) -> None:
    """Only tables for coupled verification use its noise."""
    drafter = scheduler(opened(drafter=name, verify=verify)).speculator.drafter
    assert isinstance(drafter, RecyclingDrafter if name == "recycling" else StandDrafter)
    assert drafter.coupled == (verify == "coupled")


def test_a_temperature_near_zero_overflows_nothing() -> None:
    """Also where tokens outside the table are likelier than all in it."""
    found = _warmed((0.2, 0.1), 1e-3)
    assert all(0 < chance < 1 for chance in found)
    assert found[0] >= found[1]
