"""Rejection over drafted beams: laws by enumeration, and wrong rules found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from beam_tools import enumerated
from rejected_beams import DRAWN, END, LIMIT, MANY, MORE_RUNS, RUNS, WIDTH, chance_of, marginal, runs
from toy_laws import CUT, NUCLEUS, WARM

from treeagent.backends.seed.drafters.model.beam_tree import BeamGrowth, BeamShape
from treeagent.backends.seed.verifiers.beam_coupled import CoupledBeams
from treeagent.backends.seed.verifiers.beam_rejection import BeamRejection
from treeagent.request import Sampling


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
