"""Keyed noise and warpers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent.backends.sampling import sampler as sampling
from treeagent.backends.sampling.philox import gumbel
from treeagent.backends.sampling.sampler import choose, choose_rows, survivors, warp
from treeagent.errors import BackendError
from treeagent.request import Key, Sampling

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    """Philox4x32-10 agrees with the known answers of Random123."""
    words = sampling.philox(
        [np.array([word], dtype=np.uint32) for word in counter], [np.array([word], dtype=np.uint32) for word in key]
    )
    assert tuple(int(word[0]) for word in words) == expected


def test_noise_has_the_documented_layout():
    """Token id 4b + l gets lane l of the block with counter (position, b, 0, 0) and the stream as key."""
    stream, position, token = 0x0123456789ABCDEF, 7, 4 * 11 + 2
    counter = [np.array([word], dtype=np.uint32) for word in (position, 11, 0, 0)]
    key = [np.array([word], dtype=np.uint32) for word in (0x89ABCDEF, 0x01234567)]
    word = float(sampling.philox(counter, key)[2][0])
    assert gumbel(stream, position, np.array([token]))[0] == -np.log(-np.log((word + 0.5) / 2**32))


def test_noise_is_finite_at_both_ends():
    """The extreme words give finite noise, the largest as documented."""
    assert pytest.approx(22.87, abs=0.01) == sampling.GUMBEL_MAX
    assert np.isfinite(-np.log(-np.log(0.5 / 2**32)))
    assert -np.log(-np.log((2**32 - 0.5) / 2**32)) == pytest.approx(sampling.GUMBEL_MAX, abs=1e-6)


@given(st.integers(0, 2**64 - 1), st.integers(0, 5000), st.lists(st.integers(0, 60_000), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_noise_of_a_token_does_not_depend_on_which_others_are_asked_for(stream, position, ids):
    """Noise is a function of stream, position and token id alone, in any order and company."""
    together = gumbel(stream, position, np.array(ids))
    alone = [gumbel(stream, position, np.array([token]))[0] for token in ids]
    assert together.tolist() == alone


def test_streams_positions_and_tokens_have_different_noise():
    """Changing any one field of the counter or the key gives other noise; streams are uncorrelated."""
    ids = np.arange(4000)
    base = gumbel(Key(0, "propose", "0").stream(0), 0, ids)
    others = [
        gumbel(Key(0, "propose", "0").stream(1), 0, ids),
        gumbel(Key(0, "value", "0").stream(0), 0, ids),
        gumbel(Key(0, "propose", "0", visit=1).stream(0), 0, ids),
        gumbel(Key(0, "propose", "0").stream(0), 1, ids),
        gumbel(Key(0, "propose", "0").stream(0), 0, ids + 4000),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.06  # four standard errors


@pytest.mark.parametrize("sampling_", [Sampling(temperature=1.0), Sampling(temperature=0.7, top_k=4, top_p=0.9)])
def test_tokens_follow_the_warped_law(sampling_):
    """Over many positions tokens are drawn from the softmax of the warped logits (chi-square, fixed key)."""
    logits = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
    warped = warp(logits, sampling_)
    law = np.exp(warped - warped.max())
    law /= law.sum()
    draws = 20_000
    rows = np.tile(logits, (draws, 1))
    tokens = choose_rows(rows, [sampling_] * draws, [12345] * draws, range(draws))
    counts = np.bincount(tokens, minlength=len(logits))
    possible = law > 0
    assert counts[~possible].sum() == 0
    chi = float((((counts - draws * law) ** 2)[possible] / (draws * law[possible])).sum())
    assert chi < 21.0  # 99.9 % point for 5 degrees of freedom is 20.5


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.7, 1.0, 3.0]), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_fast_choice_equals_the_definition(seed, temperature, size):
    """Skipping hopeless tokens, or not, changes nothing: the choice is argmax(logits / T + g) over all survivors."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=size * 7) * rng.choice([1, 10, 40])).astype(np.float32)
    top_k = int(rng.integers(1, len(logits) + 3)) if rng.random() < 0.5 else None
    top_p, min_p = (None, None) if rng.random() < 0.5 else (float(rng.choice([0.3, 0.95, 1.0])), 0.01)
    settings_ = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    if temperature == 0:
        expected = int(logits.argmax())
    else:
        noise = gumbel(seed, 3, np.arange(len(logits)))
        expected = int((warp(logits, settings_) + noise).argmax())
    assert choose(logits, settings_, seed, 3) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "SMALL", 0)
        assert choose(logits, settings_, seed, 3) == expected


def test_a_tail_of_hopeless_tokens_keeps_its_chance():
    """Twenty thousand tokens ten below the best win together as often as the definition says."""
    logits = np.full(20_001, -10.0)
    logits[17] = 0.0
    drawn = choose_rows(np.tile(logits, (40, 1)), [Sampling(temperature=1.0)] * 40, [8] * 40, range(40)).tolist()
    ids = np.arange(len(logits))
    assert drawn == [int((logits + gumbel(8, position, ids)).argmax()) for position in range(40)]
    assert 5 < drawn.count(17) < 35  # the tail's mass is 0.91 times the best token's


def test_rows_do_not_influence_each_other():
    """A row draws the same token alone and in a batch of rows with other settings, greedy rows among them."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5, 33)).astype(np.float32)
    settings_ = [
        Sampling(),
        Sampling(temperature=0.7),
        Sampling(temperature=1.0, top_k=3),
        Sampling(temperature=2.0, top_p=0.5),
        Sampling(temperature=1.0, min_p=0.2),
    ]
    together = choose_rows(logits, settings_, [5, 6, 7, 8, 9], [0, 1, 2, 3, 4])
    assert together.tolist() == [choose(logits[i], settings_[i], 5 + i, i) for i in range(5)]


def test_greedy_takes_the_lowest_of_equal_tokens():
    """Temperature 0 is a branch of its own: the best token, and the lowest id among equals."""
    assert choose(np.array([1.0, 3.0, 3.0, 2.0]), Sampling(), 1, 0) == 1


def test_warpers_cut_what_they_say():
    """Top-k keeps k, top-p the smallest set that reaches p, min-p what reaches that share of the best."""
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2]))
    kept = {
        "top_k": survivors(logits, Sampling(temperature=1.0, top_k=2)),
        "top_p": survivors(logits, Sampling(temperature=1.0, top_p=0.65)),
        "top_p exact": survivors(logits, Sampling(temperature=1.0, top_p=0.75)),
        "min_p": survivors(logits, Sampling(temperature=1.0, min_p=0.7)),
        "tiny top_p": survivors(logits, Sampling(temperature=1.0, top_p=1e-9)),
    }
    assert {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()} == {
        "top_k": [1, 2],
        "top_p": [1, 2],
        "top_p exact": [1, 2, 3],
        "min_p": [1, 2],
        "tiny top_p": [1],
    }


def test_top_k_keeps_the_lowest_ids_of_equals():
    """Exactly k tokens survive top-k, the lowest ids among equals."""
    kept = survivors(np.array([1.0, 2.0, 1.0, 1.0]), Sampling(temperature=1.0, top_k=2))
    assert kept.tolist() == [True, True, False, False]


def test_extreme_logits_keep_their_ranking():
    """A tiny temperature does not underflow: the best two tokens still compete, nothing becomes nan."""
    logits = np.array([50.0, 49.999, 0.0, -np.inf], dtype=np.float32)
    drawn = {choose(logits, Sampling(temperature=0.001), 9, position) for position in range(50)}
    assert drawn == {0, 1}
    assert choose(np.array([0.0, 1.0, 900.0]), Sampling(temperature=1e-300), 1, 0) == 2


def test_higher_temperature_is_flatter():
    """The share of the best token falls as the temperature rises."""
    rows = np.tile(np.array([2.0, 0.0, 0.0, 0.0]), (500, 1))
    shares = [
        (choose_rows(rows, [Sampling(temperature=t)] * 500, [3] * 500, range(500)) == 0).mean() for t in (0.3, 1.0, 4.0)
    ]
    assert all(a > b for a, b in pairwise(shares))


def test_broken_logits_are_an_error():
    """A row of nan is reported and never sampled from."""
    with pytest.raises(BackendError, match="not finite"):
        choose(np.array([np.nan, 1.0]), Sampling(), 0, 0)


def test_senseless_settings_are_all_reported():
    """Every senseless setting is named in one error."""
    with pytest.raises(BackendError, match=r"temperature.*top_k.*top_p.*min_p.*max_tokens.*stop"):
        sampling.check(Sampling(temperature=-1, top_k=0, top_p=0, min_p=2, max_tokens=0, stop=("",)))
    sampling.check(Sampling(temperature=0.7, top_k=1, top_p=1.0, min_p=0.0))
