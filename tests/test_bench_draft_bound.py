"""Replayed drafts: as many rounds as the engine makes, and no choice of depth beats what is known to be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seed_tools import COSTS, DRAFT_COSTS, PROMPTS, ask

from treeagent.backends.bench.draft_bound import record, shares
from treeagent.backends.bench.draft_record import RecordedText, likeliest_path
from treeagent.backends.bench.draft_replay import RoundSeconds, fixed, hindsight, perfect, replay
from treeagent.backends.seed.records import Draft
from treeagent.request import Key, Request, Sampling

ROUNDS = RoundSeconds(lambda rows, nodes: 1.0, lambda level, rows: 0.0)
"""Each takes a second."""
REAL = RoundSeconds(COSTS, lambda level, rows: DRAFT_COSTS(rows))
TEXTS = [RecordedText(0, [3, 0, 1, 0, 2, 1, 0, 0]), RecordedText(1, [0, 0, 0, 4, 3, 2, 1, 0])]


@pytest.mark.parametrize("depth", [1, 3])
def test_a_replay_makes_the_rounds_of_the_engine(depth: int, pair: Path, opened: Callable[..., Any]) -> None:
    """One text at a time, with so many tokens drafted in every round, whether or not they pay."""
    engine = opened(draft=str(pair / "model-draft"), drafter="model", draft_tokens=depth)
    for place, prompt in enumerate(PROMPTS[:3]):
        recorder, rounds = record(engine, [prompt], depth, 24)
        engine.reset()
        figures = engine.meter()
        ask(engine, Request(prompt, Key(0, "propose", "0"), Sampling(max_tokens=24)))
        assert len(rounds) == sum(each.tokens for each in rounds)
        assert replay(recorder.texts(), ROUNDS, fixed(depth)) == figures()["rounds"], place
        assert replay(recorder.texts(), ROUNDS, fixed(0)) == len(rounds)


def test_what_is_recorded_leaves_texts_as_they_are(pair: Path, opened: Callable[..., Any]) -> None:
    """Nothing of it is proposed, so no token is drafted."""
    engine = opened(draft=str(pair / "model-draft"), drafter="model", draft_tokens=3)
    plain = opened(drafter="none")
    recorder, rounds = record(engine, PROMPTS[:2], 3, 12)
    wanted = [
        Request(prompt, Key(0, "propose", str(i)), Sampling(max_tokens=12)) for i, prompt in enumerate(PROMPTS[:2])
    ]
    assert sum(each.tokens for each in rounds) == sum(reply.usage.completion_tokens for reply in ask(plain, *wanted))
    assert not any(each.drafted for each in rounds)
    assert recorder.draft_seconds() > 0


def test_a_round_takes_its_pass_and_a_level_for_each_token_of_the_longest_draft() -> None:
    """Levels are drafted for the rows whose drafts are that long."""
    seconds = RoundSeconds(lambda rows, nodes: 10.0 * rows + nodes, lambda level, rows: 0.1 * rows + 0.01 * level, 0.5)
    assert seconds.of([0, 0]) == pytest.approx(20.5)
    assert seconds.of([2, 0, 1]) == pytest.approx(33.5 + 0.2 + 0.1 + 0.01)


def test_hindsight_drafts_what_is_right_where_it_pays() -> None:
    """It is faster than every fixed depth; where levels take long it drafts nothing."""
    known = replay(TEXTS, REAL, hindsight(REAL))
    assert known < min(replay(TEXTS, REAL, fixed(depth)) for depth in range(5))
    slow = RoundSeconds(COSTS, lambda level, rows: 1e3)
    assert replay(TEXTS, slow, hindsight(slow)) == replay(TEXTS, slow, fixed(0))


def test_perfect_drafts_gain_what_rows_of_a_pass_do() -> None:
    """Where a drafted token takes as long as a row there is nothing to gain, and all where it takes nothing."""
    assert perfect(lambda rows, nodes: rows + nodes, 4, 6) == pytest.approx(1.0)
    assert perfect(lambda rows, nodes: rows, 4, 6) == pytest.approx(7.0)


def test_shares_of_positions() -> None:
    """Of the places where the tokens before were right."""
    assert shares([RecordedText(0, [2, 0, 1, 1])])[:3] == [0.75, pytest.approx(1 / 3), 0.0]


def test_the_likeliest_path_of_a_tree() -> None:
    """At every level the most confident child."""
    assert likeliest_path(Draft([1, 2, 3, 4, 5], [-1, -1, 1, 1, 0], [0.3, 0.6, 0.1, 0.7, 0.9])) == [2, 4]
    assert likeliest_path(Draft()) == []
