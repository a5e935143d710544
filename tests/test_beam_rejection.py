"""Rejection over drafted beams: laws by enumeration, wrong rules found out, and how wide a step should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from beam_tools import cut, enumerated, sample, tabulated_beams
from hypothesis import given
from hypothesis import strategies as st
from toy_laws import CUT, GUESSED, NUCLEUS, SCALE, TARGET, WARM, Table, p_value

from treeagent.backends.local.beam_search import BeamSearch
from treeagent.backends.seed.drafters.base import EMPTY_LOAD
from treeagent.backends.seed.drafters.model.beam_tree import BeamGrowth, BeamShape
from treeagent.backends.seed.drafters.model.tree_builder import TreeBuilder
from treeagent.backends.seed.records import BeamGroup, BeamLayer, Draft, SequenceState
from treeagent.backends.seed.verifiers.beam_coupled import BeamVerifier, BeamWalk, CoupledBeams
from treeagent.backends.seed.verifiers.beam_rejection import BeamRejection
from treeagent.backends.seed.verifiers.beam_width import survival, width_of
from treeagent.request import Sampling

RUNS = 1500 * SCALE
"""Of a test of a law."""
MORE_RUNS = 4000 * SCALE
"""Of one that has to find a residual that is not reset; fewer do not show it."""
END = 4
"""The token that ends a text."""
LIMIT = 3
"""Tokens of the longest text."""
WIDTH, DRAWN, MANY = 2, 3, 6
"""Beams of a run, of a draft, and of a draft whose steps hardly ever lack beams."""


def one_pass(
    run: BeamSearch, shape: BeamShape, verifier: BeamVerifier, spoil: Callable[[BeamLayer], BeamLayer] | None = None
) -> None:
    """Draft from the toy draft's logits, verify by the toy target's, take what comes of it."""
    group, setting = BeamGroup(run), run.sample.sampling
    group.rows = [SequenceState([0, *beam.raw], 1, setting, run.sample.stream, LIMIT, group) for beam in run.live()]
    levels = min(shape.depth([group], EMPTY_LOAD), group.rows[0].room)
    sketches = [TreeBuilder(row, levels, Draft()) for row in group.rows]
    growth = BeamGrowth(group, sketches)
    for level in range(levels):
        last = [
            sketch.draft.tokens[node] if node >= 0 else sketch.row.tokens[-1]
            for sketch in sketches
            for node in sketch.growing
        ]
        if not last:
            break
        shape.grow(growth, level, list(GUESSED[run.position + level, last]))
    if spoil is not None:
        group.layers = [spoil(layer) for layer in group.layers]
    first, places = [], []
    for sketch in sketches:
        first.append(len(places))
        places.append((run.position, sketch.row.tokens[-1]))
        depths = [run.position]
        for token, parent in zip(sketch.draft.tokens, sketch.draft.parents, strict=True):
            depths.append(depths[parent + 1] + 1)
            places.append((depths[-1], token))
    positions, tokens = np.array(places).T
    drafts = [sketch.draft for sketch in sketches]
    outcome = verifier.verify(BeamWalk(group, drafts, first, Table(torch.from_numpy(TARGET[positions, tokens]))))
    assert outcome is not None
    for beams in outcome.steps:
        run.advance(beams)


def runs(
    setting: Sampling,
    shape: BeamShape,
    verifier: BeamVerifier,
    count: int = RUNS,
    spoil: Callable[[BeamLayer], BeamLayer] | None = None,
) -> Iterator[tuple]:
    """The last beams of as many runs."""
    with tabulated_beams(count, MANY):
        for stream in range(count):
            run = BeamSearch(sample(replace(setting, num_beams=WIDTH), stream, LIMIT), frozenset({END}))
            while run.sample.completion is None:
                one_pass(run, shape, verifier, spoil)
            yield tuple(beam.raw for beam in run.beams)


def chance_of(drawn: Sequence[tuple], law: dict[tuple, float]) -> float:
    """Chi-square test of states against their law."""
    names = {state: i for i, state in enumerate(law)}
    if any(state not in names for state in drawn):
        return 0.0
    return p_value(np.array([names[state] for state in drawn])[:, None], np.array(list(law.values())))


def marginal(law: dict[tuple, float], beam: int) -> dict[tuple, float]:
    """Of one of the beams."""
    found: dict[tuple, float] = {}
    for state, chance in law.items():
        found[(state[beam],)] = found.get((state[beam],), 0.0) + chance
    return found


@pytest.mark.sampled(6)
@pytest.mark.parametrize("depth", [2, 1])
@pytest.mark.parametrize("setting", [WARM, CUT, NUCLEUS], ids=["warm", "cut", "nucleus"])
def test_beams_follow_the_law_of_plain_beam_sampling(setting: Sampling, depth: int) -> None:
    """Both beams together, and each alone, with ends of text and limits."""
    drawn = list(runs(setting, BeamShape(DRAWN, depth, coupled=False), BeamRejection(), MORE_RUNS))
    law = enumerated(setting, LIMIT, END, LIMIT)
    assert chance_of(drawn, law) > 1e-3
    for beam in range(WIDTH):
        assert chance_of([(state[beam],) for state in drawn], marginal(law, beam)) > 1e-3


def test_coupled_beams_are_the_plain_ones() -> None:
    """Beam for beam, sampled and greedy."""
    for setting in (WARM, CUT, Sampling()):
        shape = BeamShape(DRAWN, 2, coupled=True)
        plain = list(runs(setting, BeamShape(1, 0, coupled=True), CoupledBeams(), 300))
        assert list(runs(setting, shape, CoupledBeams(), 300)) == plain
        if not setting.temperature:
            assert list(runs(setting, BeamShape(DRAWN, 2, coupled=False), BeamRejection(), 300)) == plain


class UpsideDown(BeamRejection):
    """The ratio as the paper prints it."""

    def chance(self, target: float, proposal: float) -> float:
        """Wrong."""
        return min(1.0, proposal / target) if target > 0 else 0.0


class NeverReset(BeamRejection):
    """Goes on with the residual after an acceptance."""

    def onward(self, rejections: int, *, accepted: bool) -> int:
        """Wrong."""
        return rejections if accepted else rejections + 1


class WithoutReplacement(BeamShape):
    """Draws every beam once, as the released code does, and keeps the law of the first."""

    def grow(self, growth: BeamGrowth, level: int, logits: Sequence) -> None:
        """Wrong: equal draws are replaced by the likeliest others."""
        super().grow(growth, level, logits)
        layer = growth.group.layers[-1]
        assert layer.law is not None
        seen = list(dict.fromkeys((layer.parents[pick.beam].raw, pick.token) for pick in layer.picks))
        kept = [next(p for p in layer.picks if (layer.parents[p.beam].raw, p.token) == which) for which in seen]
        growth.group.layers[-1] = replace(layer, picks=tuple(kept))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("shape", "rule", "count"),
    [
        (BeamShape(DRAWN, 2, coupled=False), UpsideDown(), RUNS),
        (WithoutReplacement(DRAWN, 2, coupled=False), BeamRejection(), RUNS),
        (BeamShape(MANY, 1, coupled=False), NeverReset(), MORE_RUNS),
    ],
    ids=["ratio upside down", "without replacement", "residual not reset"],
)
def test_a_broken_rule_is_found_out(shape: BeamShape, rule: BeamRejection, count: int) -> None:
    """The test of the law fails clearly for the mistakes that the paper and its code make or invite."""
    drawn = list(runs(WARM, shape, rule, count))
    assert chance_of(drawn, enumerated(WARM, LIMIT, END, LIMIT)) < 1e-6


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
