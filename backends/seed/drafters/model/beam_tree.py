"""Drafts for a group of beams: steps of beam sampling by the draft model's own joint distribution.

The first step starts from the group's beams with the target's scores, later ones from the drafted beams. Under coupled
verification a step uses the noise of the target's run: the picks are the target's where the distributions agree. A step
has ``width`` nodes: at temperature 0 those of a wider search, otherwise also the runners-up of the narrowest draws.
Under rejection ``width`` beams are drawn in every step from the joint distribution after the last one, with replacement
and noise of their own, and the distribution is kept (DSBD, Qin et al., arXiv 2409.16560, section 3.1). V vocabulary.
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
"""Defaults: drafted beams for each beam of the run, and steps."""


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
    """The width and depth of drafts for groups of beams."""

    def __init__(
        self, width: int | None, depth: int, *, coupled: bool, depth_policy: BeamDepthPolicy | None = None
    ) -> None:
        """At least ``width`` beams, and as many as the run has; None: twice as many as the run has.

        ``depth_policy`` chooses the number of steps, at most ``depth``; None: always ``depth``.
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

    def depth(self, groups: Sequence[BeamGroup], others: RoundLoad) -> int:
        """The number of steps for these groups, which are drafted together beside ``others``."""
        if self.depth_policy is None:
            return self._depth
        rows, nodes = sum(len(group.rows) for group in groups), sum(map(self.width, groups))
        return self.depth_policy.depth(BeamLoad(len(groups), rows, nodes), others, self._depth)

    def grow(self, growth: BeamGrowth, level: int, logits: Sequence[Floats]) -> None:
        """Add a step from the logits, one array (V,) for every frontier node in order, and set the next frontiers."""
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
        growth.group.layers.append(BeamLayer(tuple(parents), tuple(picks), law))
        growth.take(beams, [(parents[pick.beam], pick.token) for pick in others if pick.token is not None], width)
        if self.depth_policy is not None:
            self.depth_policy.record_step(time.perf_counter() - began)


class BeamGrowth:
    """One group's draft under construction: a tree below every sequence of the group."""

    def __init__(self, group: BeamGroup, builders: Sequence[TreeBuilder]) -> None:
        """``builders`` of the group's sequences, in their order."""
        self.group = group
        self.builders = list(builders)
        self.beams: list[Hypothesis] = list(group.run.beams)
        """After the drafted steps."""
        self._places = {
            tuple(builder.row.tokens[builder.row.prompt :]): (i, -1) for i, builder in enumerate(self.builders)
        }

    def rows(self, logits: Sequence[Floats]) -> Mapping[tuple[int, ...], Floats]:
        """By a beam's ``raw`` its logits (V,), from those of the frontier nodes of all builders in order."""
        nodes = [(i, node) for i, builder in enumerate(self.builders) for node in builder.frontier]
        at = dict(zip(nodes, logits, strict=True))
        return {raw: at[place] for raw, place in self._places.items()}

    def take(self, beams: list[Hypothesis], others: Sequence[tuple[Hypothesis, int]], width: int) -> None:
        """Add nodes for the distinct live beams, the next frontier, and for ``others``, up to ``width`` in all."""
        frontiers: list[list[int]] = [[] for _ in self.builders]
        places: dict[tuple[int, ...], tuple[int, int]] = {}
        for beam in beams:
            if beam.finished or beam.raw in places:
                continue
            i, node = self._add(beam.raw[:-1], beam.raw[-1])
            frontiers[i].append(node)
            places[beam.raw] = (i, node)
        known = set(places)
        for parent, token in others:
            raw = (*parent.raw, token)
            if len(known) < width and raw not in known:
                self._add(parent.raw, token)
                known.add(raw)
        for builder, frontier in zip(self.builders, frontiers, strict=True):
            builder.advance(frontier)
        self.beams, self._places = beams, places

    def _add(self, parent: tuple[int, ...], token: int) -> tuple[int, int]:
        i, above = self._places[parent]
        return i, self.builders[i].add(token, above, 1.0)


def runners_up(joint: Joint, picks: Sequence[Pick], stream: int, position: int) -> list[Pick]:
    """For each draw of one step the second best extension of the same beam, the narrowest gap first."""
    warped, going = joint.warped() / joint.sampling.temperature, [pick for pick in picks if pick.token is not None]
    if not going:
        return []
    rows = np.stack([joint.row(warped, pick.beam) for pick in going])  # (n, V)
    streams = [stream_of(stream, draw) for draw, pick in enumerate(picks) if pick.token is not None]
    ids, scores = top_draws_rows(rows, [True] * len(going), streams, [position] * len(going), 2)
    seconds = zip(going, ids[:, 1].tolist(), (scores[:, 0] - scores[:, 1]).tolist(), strict=True)
    return [pick for _, pick in sorted((gap, Pick(pick.beam, token)) for pick, token, gap in seconds if token >= 0)]
