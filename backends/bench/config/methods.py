"""The methods of ``treeagent bench --suite papers``: speculative methods of the literature, as modes of the engine.

A paper's method drafts ``NODES`` tokens for every branch in every round, or ``STEPS`` steps of beams, whether or not
that is faster: methods differ in what they draft and not in how much. The engine's own drafters choose the number of
drafted tokens from measured times.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from treeagent.errors import UnknownNameError

from ...models import catalog as models
from .modes import find

NODES = 6
"""Drafted tokens of a branch: a chain of six, two levels of two children each, two paths of three."""
WIDTH = 4
"""Beams of methods that have several."""
STEPS = 2
"""Steps that are drafted for them, of twice as many beams."""
BASELINE, OWN = "seed-nodraft", "seed"
"""The mode that speed-ups are measured against, and the engine with default options."""
SUITES = ("papers",)
"""Names of suites."""
WORKLOADS = ("gsm8k", "writing", "blocksworld")
"""The kinds of task of SeeD's paper."""
TEMPERATURES = (0.0, 0.2, 1.0)


@dataclass(frozen=True, slots=True)
class Method:
    """A decoding method by its name in the literature; without a suite, a mode by its own."""

    label: str
    mode: str
    """Mode of the benchmark, without the beams."""
    what: str
    source: str | None = None
    """The paper; None: this project."""
    exits: bool = False
    """Whether it cannot run without a draft model that has several exits."""
    num_beams: int | None = None
    """Beams of every branch; None: it samples."""

    @property
    def name(self) -> str:
        """The name of the mode with all options."""
        return self.mode if self.num_beams is None else f"{self.mode}@num_beams={self.num_beams}"


_RSD, _MCSD, _SEED = "Jeon et al., arXiv 2402.14160", "Yang et al., arXiv 2401.06706", "Wang et al., arXiv 2406.18200"
_DSBD = "Qin et al., arXiv 2409.16560"
_CHAIN = f"seed@drafter=model@draft_tokens={NODES}"
_TREE = f"@draft_tokens={NODES}"
_FOREST = f"@beam_draft={2 * WIDTH}x{STEPS}"

METHODS = (
    Method("AR", BASELINE, "one token a pass, all branches in one batch"),
    Method("AR serial", "seed-serial-nodraft", "one token a pass, one branch after another"),
    Method("SD", f"{_CHAIN}@verify=recursive", "a chain, accepted by rejection sampling", "Leviathan et al., arXiv "
           "2211.17192; Chen et al., arXiv 2302.01318"),
    Method("SD coupled", _CHAIN, "a chain drawn with the target's noise", "Daliri et al., arXiv 2408.07978"),
    Method("MCSD", f"seed@drafter=mcsd:2x2@verify=recursive{_TREE}", "a tree, siblings drawn with replacement", _MCSD),
    Method("RSD-C (MCSD w/o replacement)", f"seed@drafter=rsd-c:2x2@verify=recursive{_TREE}", "a tree, siblings drawn "
           "without replacement", f"{_MCSD}; {_RSD}"),
    Method("RSD-C coupled", f"seed@drafter=rsd-c:2x2{_TREE}", "the same with the target's noise", _RSD),
    Method("RSD-S", f"seed@drafter=rsd-s:2x3@verify=recursive{_TREE}", "a stochastic beam", _RSD),
    Method("RSD-S coupled", f"seed@drafter=rsd-s:2x3{_TREE}", "the same with the target's noise", _RSD),
    Method("SeeD fcfs", f"seed-model@policy=fcfs{_TREE}", "drafts of all branches, verified first come first served",
           _SEED),
    Method("SeeD rounds", "seed-model", "drafts of all branches as deep as pays, verified in one pass"),
    Method("S2D", f"{_CHAIN}@exit=adaptive", "a chain from a draft model of several exits, by confidence",
           "Kavehzadeh et al., arXiv 2407.01955", exits=True),
    Method("beams", BASELINE, "beam sampling without drafts, the best of four beams", _DSBD, num_beams=WIDTH),
    Method("DSBD", f"seed@drafter=model@verify=recursive{_FOREST}", "speculative beams by layer-wise rejection", _DSBD,
           num_beams=WIDTH),
    Method("DSBD single survivor", f"seed@drafter=model@verify=recursive@beam_survivors=1{_FOREST}", "of its beams the "
           "best alone goes on after a pass", _DSBD, num_beams=WIDTH),
    Method("DSBD coupled", f"seed@drafter=model{_FOREST}", "the same beams as without drafts", num_beams=WIDTH),
    Method("beams weighed", "seed@drafter=model", "the same, drafted as deep as pays", num_beams=WIDTH),
    Method("n-gram tables", "seed-ngram", "what followed before, in any branch"),
    Method("Token Recycling", "seed@drafter=recycling", "a tree from a table of the target's best next tokens",
           "Luo et al., arXiv 2408.08696"),
    Method("STAND", "seed@drafter=stand", "a tree from a table of the target's laws after n-grams", "arXiv 2506.04708"),
    Method("dynamic", "seed@drafter=dynamic", "a tree, of each level the likeliest nodes, as deep as pays",
           "Wang et al., arXiv 2406.17276; Li et al., arXiv 2406.16858"),
    Method("n-gram tables + dynamic", "seed@drafter=ngram+dynamic", "tables, and trees where they know too little"),
    Method("auto", OWN, "the engine as it comes"),
)  # fmt: skip
"""Every method, in the order of the tables."""


def select_methods(draft: str | None, labels: Sequence[str] | None = None) -> tuple[Method, ...]:
    """The methods that can run with this draft model; with ``labels`` only the baseline and those.

    With a draft model of several exits, methods that do not use exits draft through all of its layers, except those
    with beams. Raises UnknownNameError.
    """
    known = [method.label for method in METHODS]
    selected = known if labels is None else [METHODS[0].label, *labels]
    if unknown := [label for label in selected if label not in known]:
        raise UnknownNameError("method", unknown[0], known)
    draft_exits = () if draft is None else exits(draft)

    def with_full_depth(method: Method) -> Method:
        fixed = draft_exits and not method.exits and "draft_tokens" in find(method.name).options
        return replace(method, mode=f"{method.mode}@exit={draft_exits[-1]}") if fixed else method

    return tuple(
        with_full_depth(method)
        for method in METHODS
        if method.label in selected
        and (draft_exits or not method.exits)
        and (draft is not None or not find(method.name).drafts)
    )


def exits(draft: str) -> tuple[int, ...]:
    """The exits in the draft model's config.json, in layers; empty if there is only one or no such file."""
    folder = next((named.where for named in models.list_models() if named.name == draft), Path(draft).expanduser())
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()  # loading the model reports what is wrong with it
    layers = config.get("exits") if isinstance(config, dict) else None
    return tuple(layers) if isinstance(layers, list) and len(layers) > 1 else ()
