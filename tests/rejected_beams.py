"""Runs of a toy drafter of beams whose drafts are verified by rejection, and tests of their law."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from beam_tools import sample, tabulated_beams
from toy_laws import GUESSED, SCALE, TARGET, Table, p_value

from treeagent.backends.local.beam_search import BeamSearch
from treeagent.backends.seed.drafters.base import EMPTY_LOAD
from treeagent.backends.seed.drafters.model.beam_tree import BeamGrowth, BeamShape
from treeagent.backends.seed.drafters.model.tree_builder import TreeBuilder
from treeagent.backends.seed.records import BeamGroup, BeamLayer, Draft, SequenceState
from treeagent.backends.seed.verifiers.beam_coupled import BeamVerifier, BeamWalk
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
