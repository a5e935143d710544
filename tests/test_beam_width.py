"""How wide a step of drafted beams should be: the law under a dynamic width, and survival of drafts."""

from __future__ import annotations

import numpy as np
import pytest
from beam_tools import cut, enumerated
from hypothesis import given
from hypothesis import strategies as st
from rejected_beams import DRAWN, END, LIMIT, WIDTH, chance_of, runs
from toy_laws import CUT, GUESSED, TARGET, WARM

from treeagent.backends.seed.drafters.model.beam_tree import BeamShape
from treeagent.backends.seed.verifiers.beam_rejection import BeamRejection
from treeagent.backends.seed.verifiers.beam_width import survival, width_of
from treeagent.request import Sampling


def warped(state: tuple, position: int, logits: np.ndarray, scores: dict, setting: Sampling) -> dict[tuple, float]:
    """The law of one extension of a state by hand."""
    flat: list[tuple[tuple, float]] = []
    for raw in state:
        if raw and (raw[-1] == END or len(raw) == LIMIT):
            flat.append((raw, scores[raw]))
            continue
        row = logits[position, raw[-1] if raw else 0]
        for token, log in enumerate(row - np.logaddexp.reduce(row)):
            flat.append(((*raw, token), scores[raw] + log))
    values = np.array([score for _, score in flat])
    values = np.where(cut(values, setting), values / setting.temperature, -np.inf)
    law: dict[tuple, float] = {}
    for (raw, _), p in zip(flat, np.exp(values - np.logaddexp.reduce(values)), strict=True):
        law[raw] = law.get(raw, 0.0) + p
    return law


def left(p: dict[tuple, float], q: dict[tuple, float]) -> dict[tuple, float]:
    """After a rejection."""
    rest = {x: max(p[x] - q.get(x, 0.0), 0.0) for x in p}
    mass = sum(rest.values())
    return {x: r / mass for x, r in rest.items()}


def layer_law(p: dict, q: dict, width: int, drafts: int) -> dict[tuple[tuple, bool], float]:
    """Of the beams of a step and whether all of them were drafted."""
    found: dict[tuple[tuple, bool], float] = {}

    def go(outs: tuple, now: dict, drafts: int, chance: float) -> None:
        if len(outs) == width:
            found[outs, True] = found.get((outs, True), 0.0) + chance
        elif not drafts:
            fill(outs, now, chance)
        else:
            accepted = {x: min(now[x], q.get(x, 0.0)) for x in now}
            for x, mass in accepted.items():
                if mass:
                    go((*outs, x), p, drafts - 1, chance * mass)
            go(outs, left(now, q), drafts - 1, chance * (1 - sum(accepted.values())))

    def fill(outs: tuple, now: dict, chance: float) -> None:
        if len(outs) == width:
            found[outs, False] = found.get((outs, False), 0.0) + chance
            return
        for x, mass in now.items():
            if mass:
                fill((*outs, x), p, chance * mass)

    go((), p, drafts, 1.0)
    return found


def dynamic(setting: Sampling, threshold: float, widths: set[int]) -> dict[tuple, float]:
    """The exact law of the last beams when steps are as wide as the drafts allow, with drafts of one step."""
    scores: dict[tuple, float] = {(): 0.0}
    for position in range(LIMIT):
        for raw in [raw for raw in scores if len(raw) == position and END not in raw]:
            row = TARGET[position, raw[-1] if raw else 0]
            scores |= {(*raw, v): scores[raw] + log for v, log in enumerate(row - np.logaddexp.reduce(row))}
    laws: dict[tuple[tuple, bool], float] = {(((),), False): 1.0}
    for position in range(LIMIT):
        after: dict[tuple[tuple, bool], float] = {}
        for (state, passed), chance in laws.items():
            if all(raw and (raw[-1] == END or len(raw) == LIMIT) for raw in state):
                after[state, False] = after.get((state, False), 0.0) + chance
                continue
            p = warped(state, position, TARGET, scores, setting)
            if passed or position == LIMIT - 1:
                outs = {((a, b), False): x * y for a, x in p.items() for b, y in p.items()}
            else:
                q = warped(state, position, GUESSED, scores, setting)
                alphas, now = [], p
                for _ in range(DRAWN):
                    alphas.append(sum(min(now[x], q[x]) for x in now))
                    now = left(now, q)
                width = width_of(alphas, threshold, 1, WIDTH)
                widths.add(width)
                outs = layer_law(p, q, width, DRAWN)
            for key, mass in outs.items():
                if mass:
                    after[key] = after.get(key, 0.0) + chance * mass
        laws = after
    found: dict[tuple, float] = {}
    for (state, _), chance in laws.items():
        found[state] = found.get(state, 0.0) + chance
    return found


@pytest.mark.sampled(2)
@pytest.mark.parametrize("setting", [WARM, CUT], ids=["warm", "cut"])
def test_beams_of_dynamic_width_follow_their_law(setting: Sampling) -> None:
    """Enumerated with the same rule of the width, by hand from the drafts' acceptance; several widths come up."""
    widths: set[int] = set()
    law = dynamic(setting, 0.7, widths)
    assert widths == {1, 2}
    assert sum(law.values()) == pytest.approx(1.0)
    drawn = list(runs(setting, BeamShape(DRAWN, 1, coupled=False), BeamRejection(0.7)))
    assert chance_of(drawn, law) > 1e-3
    assert chance_of(drawn, enumerated(setting, LIMIT, END, LIMIT)) < 1e-6


@given(alphas=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_survival_is_a_law(alphas: list[float]) -> None:
    """Its chances sum to 1 for every number of drafts, and no more can survive than are drafted."""
    chances = survival(alphas)
    assert np.allclose(chances.sum(axis=1), 1.0)
    assert (chances >= -1e-12).all()
    assert np.allclose(np.triu(chances, 1), 0.0)


def test_survival_is_what_simulation_gives() -> None:
    """Counting acceptances of drafts one after the other, a rejection leading to the next alpha."""
    alphas, random = [0.6, 0.3, 0.8, 0.1], np.random.default_rng(3)
    counts = np.zeros(5)
    for _ in range(20_000):
        since = accepted = 0
        for coin in random.random(4):
            hit = coin < alphas[since]
            accepted, since = accepted + hit, 0 if hit else since + 1
        counts[accepted] += 1
    assert np.abs(counts / 20_000 - survival(alphas)[-1]).max() < 0.012


def test_equal_laws_accept_everything() -> None:
    """With alpha 1 all drafts survive, and a step is as wide as it may be at any threshold."""
    assert survival([1.0] * 5)[-1].tolist() == [0, 0, 0, 0, 0, 1]
    assert width_of([1.0] * 5, 1.0, 1, 4) == 4


@given(
    alphas=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    threshold=st.floats(0, 1),
    least=st.integers(1, 4),
    most=st.integers(1, 6),
)
def test_a_width_is_the_widest_that_is_likely_enough(
    alphas: list[float], threshold: float, least: int, most: int
) -> None:
    """Within its bounds, and never wider when more is asked."""
    width = width_of(alphas, threshold, least, most)
    assert min(least, most) <= width <= most
    assert width_of(alphas, min(1.0, threshold + 0.1), least, most) <= width
    if width > least:
        assert 1 - survival(alphas)[-1][:width].sum() >= threshold - 1e-6
