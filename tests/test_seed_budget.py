"""How much is drafted: the best nodes are taken, as deep as pays, and bad drafters are hardly felt."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seed_tools import COSTS, DRAFT_COSTS, fixed_costs, table

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.base import RoundLoad
from treeagent.backends.seed.drafters.model.beam_depth import BeamDepthPolicy, BeamLoad
from treeagent.backends.seed.drafters.model.drafter import ModelDrafter
from treeagent.backends.seed.executor.cost_table import CostTable
from treeagent.backends.seed.executor.pass_cost import PassCost
from treeagent.backends.seed.executor.pass_work import PassWork
from treeagent.backends.seed.records import MODEL, Draft, SequenceState
from treeagent.backends.seed.speculation.calibration import AcceptanceEstimator
from treeagent.backends.seed.speculation.goodput import best_chain, floor, select, values
from treeagent.backends.seed.speculation.speculator import Speculator
from treeagent.request import Sampling

TIMES = st.lists(st.floats(1e-4, 0.5), min_size=40, max_size=40)
"""What a machine that is disturbed at random measures."""


def measured(times: list[float]) -> PassCost:
    """The cost of passes that took these times, the longer the more tokens."""
    left = iter(times)
    sizes = [PassWork(rows * each, rows, rows * each, rows * 30) for rows in (1, 2, 5, 16, 64) for each in (1, 2, 8)]
    return PassCost(CostTable.fit([(work, next(left) * (1 + work.tokens / 64)) for work in sizes]))


CLAIMS = st.lists(st.tuples(st.integers(-1, 3), st.floats(0.01, 1.0)), max_size=4)


def draft_of(claims: list[tuple[int, float]]) -> Draft:
    """A tree whose nodes have these confidences."""
    draft = Draft()
    for above, confidence in claims:
        draft.tokens.append(len(draft))
        draft.parents.append(min(above, len(draft.parents) - 1))
        draft.confidence.append(confidence)
    return draft


def closed(draft: Draft) -> list[set[int]]:
    """All sets of nodes that hold the parents of their nodes."""
    sets: list[set[int]] = [set()]
    for node, parent in enumerate(draft.parents):
        sets += [chosen | {node} for chosen in sets if parent < 0 or parent in chosen]
    return sets


@settings(max_examples=60, deadline=None)
@given(st.lists(CLAIMS, min_size=1, max_size=3), TIMES, st.floats(0, 0.5))
def test_the_nodes_taken_are_the_best_that_could_be(
    claims: list[list[tuple[int, float]]], times: list[float], drafting: float
) -> None:
    """No other choice of nodes, parents included, promises more tokens per second, the time of drafting included."""
    drafts, cost = [draft_of(claim) for claim in claims], measured(times)
    worths = [values(draft, lambda confidence: confidence) for draft in drafts]

    def rate(sets: tuple[set[int], ...]) -> float:
        gain = sum(worth[node] for worth, chosen in zip(worths, sets, strict=True) for node in chosen)
        return (len(drafts) + gain) / (cost(len(drafts), sum(map(len, sets))) + drafting)

    kept = select(drafts, worths, cost, others=RoundLoad(seconds=drafting))
    taken = tuple(set(draft.tokens) for draft in kept)  # a node's token is its number
    assert all(chosen in closed(draft) for chosen, draft in zip(taken, drafts, strict=True))
    assert rate(taken) == pytest.approx(max(map(rate, product(*map(closed, drafts)))))
    for draft, whole in zip(kept, drafts, strict=True):
        for token, parent, confidence in zip(draft.tokens, draft.parents, draft.confidence, strict=True):
            assert confidence == whole.confidence[token]
            assert (draft.tokens[parent] if parent >= 0 else -1) == whole.parents[token]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 64), st.lists(CLAIMS, min_size=1, max_size=8))
def test_nothing_below_the_floor_is_taken(rows: int, claims: list[list[tuple[int, float]]]) -> None:
    """Where every token costs at least as much as the one before, the floor is what drafters may go by."""
    drafts = [draft_of(claim) for claim in claims] + [Draft() for _ in range(rows - len(claims))]
    worths = [values(draft, lambda confidence: confidence) for draft in drafts]
    kept = select(drafts, worths, COSTS)
    least = floor(COSTS, len(drafts), 10_000)
    for draft in kept:
        assert all(value >= least - 1e-12 for value in values(draft, lambda confidence: confidence))


def test_without_room_nothing_can_pay() -> None:
    """The floor is infinite where there is no slot for a single node."""
    assert floor(COSTS, 4, 0) == float("inf")


@pytest.mark.parametrize("others", [RoundLoad(), RoundLoad(12, 30.0, 24)])
@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("rows", [1, 4, 16, 64])
def test_a_model_drafts_as_deep_as_pays(rows: int, acceptance: float, others: RoundLoad) -> None:
    """The depth with the most expected tokens per second of all who wait, drafting included; none if no depth pays."""

    def rate(depth: int) -> float:
        tokens = rows * sum(acceptance**level for level in range(depth + 1)) + others.tokens
        seconds = COSTS(rows + others.rows, rows * depth + others.nodes) + depth * DRAFT_COSTS(rows)
        return tokens / seconds

    depth, ratio = best_chain(COSTS, DRAFT_COSTS, acceptance, rows, 12, others)
    assert ratio == pytest.approx(rate(depth) / rate(0))
    assert rate(depth) == pytest.approx(max(map(rate, range(13))))
    assert depth > 0 or acceptance < 0.5 or rows > 4 or others.rows
    assert depth <= best_chain(COSTS, DRAFT_COSTS, acceptance, rows, 12)[0]


def test_a_few_branches_do_not_hold_up_many() -> None:
    """A depth that pays for one branch alone is not drafted while many others, well served already, wait for it."""
    alone, beside = (
        best_chain(COSTS, table(4), 0.6, 1, 12, others)[0] for others in (RoundLoad(), RoundLoad(15, 45.0, 40))
    )
    assert alone > beside


def wasted(rows: int, claim: float, rounds: int = 64, levels: int = 16) -> tuple[float, list[int]]:
    """Share of the time that drafts of a drafter which is never right take, and the nodes of each round."""
    calibration, plain, spent, nodes = AcceptanceEstimator(), 0.0, 0.0, []
    for _ in range(rounds):
        least = floor(COSTS, rows, 10_000)
        deep = next(level for level in range(levels + 1) if level == levels or claim ** (level + 1) < least)
        chain = Draft(list(range(deep)), list(range(-1, deep - 1)), [claim] * deep)
        kept = select([chain] * rows, [values(chain, calibration.probabilities)] * rows, COSTS)
        nodes.append(sum(map(len, kept)))
        plain += COSTS(rows)
        spent += COSTS(rows, nodes[-1])
        calibration.learn([(claim, False) for draft in kept if len(draft)])
    return (spent - plain) / spent, nodes


def test_a_pass_that_drafts_all_levels_goes_deeper_or_not_at_all() -> None:
    """One pass over a block costs the same for every depth; where it takes longer than it saves there is none."""
    deep, ratio = best_chain(COSTS, DRAFT_COSTS, 0.8, 1, 12, block=8)
    chain, plain = best_chain(COSTS, DRAFT_COSTS, 0.8, 1, 12)
    assert deep >= chain > 0
    assert ratio > plain
    assert best_chain(COSTS, table(0.5), 0.8, 1, 12, block=64) == (0, 1.0)


@pytest.mark.parametrize("claim", [0.2, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("rows", [1, 4, 16, 64])
def test_a_drafter_that_is_never_right_costs_little(rows: int, claim: float) -> None:
    """However sure it is of itself, within 64 rounds it costs less than 3 % and gets almost no nodes in the end."""
    waste, nodes = wasted(rows, claim)
    assert waste < 0.03
    assert sum(nodes[32:]) <= 32 * max(1, rows / 16)


def test_a_drafter_that_is_right_is_believed() -> None:
    """Claims that come true more often than they say are taken for what they are worth, and nothing counts above 1."""
    calibration = AcceptanceEstimator()
    before = calibration.probability(0.3)
    for _ in range(50):
        calibration.learn([(0.3, True)] * 4)
    assert before < 0.5
    assert 0.95 < calibration.probability(0.3) <= 1
    assert calibration.acceptance() > 0.95
    for _ in range(200):
        calibration.learn([(0.3, place < 2) for place in range(10)])
    assert calibration.probability(0.3) == pytest.approx(0.2, abs=0.08)
    assert all(0 <= calibration.probability(claim / 50) <= 1 for claim in range(51))


def test_a_drafter_that_was_given_up_gets_another_chance() -> None:
    """Evidence loses weight with every round, so a drafter that is no longer used is tried again later."""
    calibration = AcceptanceEstimator()
    for _ in range(50):
        calibration.learn([(0.9, False)] * 16)
    low = calibration.probability(0.9)
    for _ in range(2000):
        calibration.learn([])
    assert low < 0.02
    assert calibration.probability(0.9) > 0.8


@settings(deadline=None)
@given(
    chance=st.floats(0, 1),
    groups=st.integers(1, 4),
    each=st.integers(1, 4),
    waiting=st.integers(0, 20),
    work=st.floats(0, 0.1),
    most=st.integers(0, 6),
)
def test_beams_are_drafted_as_deep_as_brings_the_most_steps_a_second(
    chance: float, groups: int, each: int, waiting: int, work: float, most: int
) -> None:
    """Against every other depth; the work on steps counts, and so do branches that wait."""
    deepening = BeamDepthPolicy(COSTS, DRAFT_COSTS, lambda: chance)
    deepening.record_step(work)
    asked, others = BeamLoad(groups, groups * each, 2 * groups * each), RoundLoad(waiting, 1.5 * waiting, waiting)

    def rate(depth: int) -> float:
        steps = sum(chance**step for step in range(depth + 1))
        drafting = DRAFT_COSTS(asked.rows) + (depth - 1) * DRAFT_COSTS(asked.nodes) + depth * groups * work
        seconds = COSTS(asked.rows + waiting, waiting + depth * asked.nodes) + (drafting if depth else 0.0)
        return (groups * steps + others.tokens) / seconds

    depth = deepening.depth(asked, others, most)
    assert 0 <= depth <= most
    assert rate(depth) == pytest.approx(max(map(rate, range(most + 1))))


def test_a_tree_is_not_even_begun_where_its_first_level_does_not_pay(pair: Path) -> None:
    """After useless drafts the draft model makes no pass, until that evidence has lost its weight."""
    with fixed_costs():
        backend = SeedBackend(str(pair / "model"), draft=str(pair / "model-draft"), drafter="dynamic", device="cpu")
        backend.load()
    drafting = backend.core.parts.scheduler.speculator  # type: ignore[union-attr]
    model = drafting.drafter
    assert isinstance(model, ModelDrafter)
    assert model.policies.level_pays is not None
    pays = model.policies.level_pays
    assert pays(4, 4, 4.0, RoundLoad())
    for _ in range(30):
        drafting.record_outcomes({MODEL: [(1.0, False)] * 4})
    assert not pays(4, 4, 4.0, RoundLoad())
    rows = [SequenceState([1, 2, 3 + i], 2, Sampling(), i, 20) for i in range(4)]
    assert all(len(draft) == 0 for draft in model.propose(rows, 0.0, 5))
    assert model.passes == 0
    for _ in range(2000):
        drafting.record_outcomes({})
    assert pays(4, 4, 4.0, RoundLoad())


def test_beams_are_not_drafted_once_that_proves_dear() -> None:
    """A step's work is known after the first one, and acceptance after a few; neither is believed for ever."""
    deepening = BeamDepthPolicy(COSTS, table(100), lambda: 0.9)
    one, alone = BeamLoad(1, 4, 8), RoundLoad()
    assert deepening.depth(one, alone, 3) > 0
    deepening.record_step(10.0)
    assert deepening.depth(one, alone, 3) == 0
    assert any(deepening.depth(one, alone, 3) for _ in range(2000))
    calibration = AcceptanceEstimator()
    learning = BeamDepthPolicy(COSTS, table(100), calibration.acceptance)
    assert learning.depth(one, alone, 3) > 0
    for _ in range(20):
        calibration.learn([(1.0, False)] * 3)
    assert learning.depth(one, alone, 3) == 0


def test_a_bad_model_beside_a_good_table_spoils_nobodys_name_but_its_own() -> None:
    """Acceptance is measured for each kind, and a kind that is no longer used is tried again."""
    drafting = Speculator(COSTS)
    for _ in range(40):
        drafting.record_outcomes({"": [(0.8, True)] * 4 + [(0.8, False)], MODEL: [(0.8, False)] * 4})
    tables, model = drafting.estimator(""), drafting.estimator(MODEL)
    assert tables.probability(0.8) == pytest.approx(0.8, abs=0.05)
    assert model.probability(0.8) < 0.1
    assert model.acceptance() < 0.1
    assert tables.acceptance() > 0.7
    assert drafting._values(Draft([1], [-1], [0.8], by=MODEL).keep([0])) == [model.probability(0.8)]
    for _ in range(3_000):
        drafting.record_outcomes({"": [(0.8, True)] * 4 + [(0.8, False)]})
    assert model.probability(0.8) > 0.7
