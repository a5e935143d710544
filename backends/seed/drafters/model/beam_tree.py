"""What a draft model drafts for a group of beams: steps of beam sampling by its own joint law, from the group's beams.

The first step starts from the beams with the target's scores, the later ones from what was drafted. Under coupled
verification the draft model takes the steps that the run would take, with the run's own noise: what it picks is what
the target picks, if their laws agree. There is room for ``width`` nodes a step: at temperature 0 a wider search, else
the runners-up of the draws that were decided most narrowly. Under rejection ``width`` beams are drawn in every step
from the joint law of the last step's, with replacement and by noise of their own, and the law is kept (DSBD, Qin et
al., arXiv 2409.16560, section 3.1).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

import numpy as np

from treeagent.errors import ConfigError

from ....local.beam_search import Hypothesis, Joint, Pick, law_of, stream_of
from ....sampling.gumbel_top_k import top_draws_rows
from ....sampling.philox import Floats
from ...records import BeamGroup, BeamLayer
from ..base import MOST_LEVELS, MOST_NODES, RoundLoad
from .beam_depth import BeamDepthPolicy, BeamLoad
from .tree_builder import TreeBuilder, draft_stream

WIDER, DEPTH = 2, 3
"""Beams that are drafted for each one of the run, and steps, where the user does not say."""


def size_of(text: str) -> tuple[int, int]:
    """Width and depth of a draft of beams from ``WIDTHxDEPTH``. Raises ConfigError."""
    if not re.fullmatch(r"[1-9]\d?x[1-9]\d?", text):
        raise ConfigError(f"beam_draft must be WIDTHxDEPTH, such as 8x3, not {text!r}")
    width, depth = map(int, text.split("x"))
    if depth > MOST_LEVELS or width * depth > MOST_NODES:
        raise ConfigError(
            f"beam_draft {text} is {depth} levels and {width * depth} nodes for every group of beams; at most "
            f"{MOST_LEVELS} levels and {MOST_NODES} nodes are of use. Give smaller numbers."
        )
    return width, depth


class BeamShape:
    """How beams are drafted."""

    def __init__(
        self, width: int | None, depth: int, *, coupled: bool, depth_policy: BeamDepthPolicy | None = None
    ) -> None:
        """``width`` beams a step, at least those of the search; None drafts twice as many.

        ``depth_policy`` chooses the number of steps, at most ``depth``; without one all of them are drafted.
        """
        self._width = width
        self._depth = depth
        self.depth_policy = depth_policy
        self._coupled = coupled

    def width(self, group: BeamGroup) -> int:
        """Beams of a step."""
        most = group.run.width
        return WIDER * most if self._width is None else max(self._width, most)

    def nodes(self, group: BeamGroup) -> int:
        """The most nodes of a draft."""
        return self.width(group) * self._depth

    def depth(self, groups: Sequence[BeamGroup], load: RoundLoad) -> int:
        """Number of steps for groups that are drafted together, next to a load."""
        if self.depth_policy is None:
            return self._depth
        rows, nodes = sum(len(group.rows) for group in groups), sum(map(self.width, groups))
        return self.depth_policy.depth(BeamLoad(len(groups), rows, nodes), load, self._depth)

    def grow(self, growth: BeamGrowth, level: int, logits: Sequence[Floats]) -> None:
        """Add a step from the logits (V,) after every growing node, and say what grows next."""
        began = time.perf_counter()
        run, width = growth.group.run, self.width(growth.group)
        rows = growth.rows(logits)
        parents = growth.beams
        joint = Joint(parents, [rows.get(beam.raw) for beam in parents], run.sample.sampling)
        position = run.position + level
        law = None
        if run.sample.sampling.temperature == 0:
            picks, others = joint.best(width), []
        elif self._coupled:
            picks = joint.next(run.sample.stream, position, run.width)
            others = runners_up(joint, picks, run.sample.stream, position)
        else:
            streams = [stream_of(run.sample.stream, draw) for draw in range(width)]
            picks, others = joint.draw(streams, position, draft_stream(level)), []
            law = law_of(joint)
        beams = joint.extended(picks, run.eos)
        growth.group.add_layer(BeamLayer(tuple(parents), tuple(picks), law))
        growth.take(beams, [(parents[pick.beam], pick.token) for pick in others if pick.token is not None], width)
        if self.depth_policy is not None:
            self.depth_policy.record_step(time.perf_counter() - began)


class BeamGrowth:
    """One group's draft in the making: a tree below every row."""

    def __init__(self, group: BeamGroup, builders: Sequence[TreeBuilder]) -> None:
        """``builders`` for the rows of the group, in their order."""
        self.group = group
        self.builders = list(builders)
        self.beams: list[Hypothesis] = list(group.run.beams)
        """As far as they are drafted."""
        self._places = {
            tuple(builder.row.tokens[builder.row.prompt :]): (i, -1) for i, builder in enumerate(self.builders)
        }

    def rows(self, logits: Sequence[Floats]) -> Mapping[tuple[int, ...], Floats]:
        """By a beam's ``raw`` its logits (V,); given for the growing nodes of all builders, in order."""
        nodes = [(i, node) for i, builder in enumerate(self.builders) for node in builder.growing]
        at = dict(zip(nodes, logits, strict=True))
        return {raw: at[place] for raw, place in self._places.items()}

    def take(self, beams: list[Hypothesis], others: Sequence[tuple[Hypothesis, int]], width: int) -> None:
        """Nodes for the distinct live ones of these beams, which grow on, and for others, up to ``width`` in all."""
        growing: list[list[int]] = [[] for _ in self.builders]
        places: dict[tuple[int, ...], tuple[int, int]] = {}
        for beam in beams:
            if beam.finished or beam.raw in places:
                continue
            i, node = self._add(beam.raw[:-1], beam.raw[-1])
            growing[i].append(node)
            places[beam.raw] = (i, node)
        known = set(places)
        for parent, token in others:
            raw = (*parent.raw, token)
            if len(known) < width and raw not in known:
                self._add(parent.raw, token)
                known.add(raw)
        for builder, nodes in zip(self.builders, growing, strict=True):
            builder.grow_from(nodes)
        self.beams, self._places = beams, places

    def _add(self, parent: tuple[int, ...], token: int) -> tuple[int, int]:
        i, above = self._places[parent]
        return i, self.builders[i].add(token, above, 1.0)


def runners_up(joint: Joint, picks: Sequence[Pick], stream: int, position: int) -> list[Pick]:
    """For the draws of one step what came second in their beams, the narrowest first."""
    warped, going = joint.warped() / joint.sampling.temperature, [pick for pick in picks if pick.token is not None]
    if not going:
        return []
    rows = np.stack([joint.row(warped, pick.beam) for pick in going])  # (n, V)
    streams = [stream_of(stream, draw) for draw, pick in enumerate(picks) if pick.token is not None]
    ids, scores = top_draws_rows(rows, [True] * len(going), streams, [position] * len(going), 2)
    seconds = zip(going, ids[:, 1].tolist(), (scores[:, 0] - scores[:, 1]).tolist(), strict=True)
    return [pick for _, pick in sorted((gap, Pick(pick.beam, token)) for pick, token, gap in seconds if token >= 0)]
