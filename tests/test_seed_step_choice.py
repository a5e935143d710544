"""How many passes a round makes in one call: by predicted seconds, by what decides on tokens, and by measured pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from treeagent.backends.seed.scheduler import multi_step
from treeagent.backends.seed.scheduler.jobs import Job
from treeagent.backends.seed.scheduler.multi_step import MultiStep, StepChoice, TokenPace


@dataclass
class Row:
    """A job of one branch that needs as many slots as it takes tokens."""

    most_steps: int = 99
    branches: list[Any] = field(default_factory=lambda: [SimpleNamespace(slots_needed=lambda count: count)])


class Pool:
    """A cache of keys and values with so much room, some of it in prefixes that nobody uses."""

    def __init__(self, room: int, cached: int = 0, limit: int = 10_000) -> None:
        self.pool, self._cached = SimpleNamespace(room=room, limit=limit), cached

    def evict(self, count: int) -> None:
        """Free cached prefixes."""
        freed = min(count, self._cached)
        self._cached -= freed
        self.pool.room += freed


def steps(
    seconds: float = 1e-4,
    outside: float = 1.0,
    verifier: str = "coupled",
    forest: Pool | None = None,
    **speculator: Any,
) -> MultiStep:
    """The choice of an engine whose passes take so many ``seconds``, and Python's part of a round ``outside``."""
    runner = SimpleNamespace(takes_steps=True, forest=forest or Pool(9999))
    drafting = {"drafter": None, "draft_tokens": None, "cost": lambda rows: seconds, **speculator}
    found = MultiStep(
        cast("Any", runner), cast("Any", SimpleNamespace(**drafting)), cast("Any", SimpleNamespace(name=verifier))
    )
    for _ in range(multi_step.TRIAL):  # of one pass each
        assert found.choose(jobs(1)) == 1
        found.record(1, seconds + outside, outside, 1)
    return found


def jobs(count: int, **more: Any) -> list[Job]:
    """So many rows."""
    return cast("list[Job]", [Row(**more) for _ in range(count)])


def drafter(**wants: Any) -> Any:
    """A table of tokens, unless told otherwise."""
    return SimpleNamespace(**{"top_k_wanted": 0, "passes": 0, "nodes_drawn": lambda depth: 0, **wants})


def test_calls_are_short() -> None:
    """As many passes as fit into the longest call, at most those of the row that takes most; long passes come alone."""
    limit = multi_step.LONGEST
    assert steps(limit / 5.5).choose(jobs(1)) == 5
    assert steps(limit / 5.5).choose(jobs(1, most_steps=3)) == 3
    assert steps(1e-9).choose(jobs(1)) == multi_step.MOST
    assert steps(1e-4, outside=2.5 * multi_step.SMALL * 1e-4).choose(jobs(1)) == 3  # Python's part is small then
    assert steps(1e-4, outside=0.9 * multi_step.SMALL * 1e-4).choose(jobs(1)) == 1
    assert steps(limit / 1.9).choose(jobs(1)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"verifier": "rejection"},
        {"drafter": drafter(top_k_wanted=8)},
        {"drafter": drafter(passes=3)},
        {"drafter": drafter(nodes_drawn=lambda depth: depth)},
        {"drafter": drafter(), "draft_tokens": 4},
    ],
)
def test_engines_that_need_every_pass_make_one(options: dict[str, Any]) -> None:
    """Other verification, drafters that read logits or have passes, and a fixed number of drafted tokens."""
    assert steps(drafter=drafter()).choose(jobs(1)) > 1
    assert steps(**options).choose(jobs(1)) == 1


def test_rows_that_need_more_than_logits_make_one_pass() -> None:
    """One such row is enough."""
    assert steps().choose([*jobs(1), *jobs(1, most_steps=0)]) == 1


def test_memory_decides() -> None:
    """Cached prefixes are given up for a call as long as that is little; else there is one pass."""
    assert steps(forest=Pool(multi_step.MOST)).choose(jobs(1)) == multi_step.MOST
    assert steps(forest=Pool(1, cached=99)).choose(jobs(1)) == multi_step.MOST
    assert steps(forest=Pool(1, cached=99, limit=20)).choose(jobs(1)) == 1
    assert steps(forest=Pool(1)).choose(jobs(1)) == 1


def test_a_draw_that_was_left_is_made_by_the_host() -> None:
    """The round after such a call makes one pass, and only that one."""
    found = steps()
    found.settle(settled=False)
    assert [found.choose(jobs(1)) > 1 for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize("several", [0.5, 2.0])
def test_the_better_kind_is_taken(several: float) -> None:
    """Whichever needs less time for a token, but for short trials of the other one."""
    choice, taken = StepChoice(TokenPace(), TokenPace()), []
    for _ in range(2000):
        taken.append(choice.take())
        (choice.several if taken[-1] else choice.single).add(several if taken[-1] else 1.0)
    assert taken[: 2 * multi_step.TRIAL] == [False] * multi_step.TRIAL + [True] * multi_step.TRIAL
    better = [one == (several < 1) for one in taken[2 * multi_step.TRIAL :]]
    assert 0.9 < sum(better) / len(better) < 1
    for _ in range(300):  # the other kind has become the better one
        taken.append(choice.take())
        (choice.several if taken[-1] else choice.single).add(1.0 if taken[-1] else several)
    for _ in range(600):
        taken.append(choice.take())
        (choice.several if taken[-1] else choice.single).add(1.0 if taken[-1] else several)
    assert taken[-1] == (several > 1)


def test_one_disturbed_round_counts_little() -> None:
    """As the machine may have done something else meanwhile."""
    pace = TokenPace()
    for _ in range(50):
        pace.add(1.0)
    pace.add(1000.0)
    assert pace.mean < 1.5
