"""Which problem is to blame where replicas die; without Ray."""

from __future__ import annotations

from collections.abc import Sequence

from treeagent.ray.roster import DEATHS, ProblemKey, Roster

A, B, C = (ProblemKey(0, number) for number in range(3))


def roster(replicas: int, at_once: int = 4) -> Roster:
    """Replicas that are all ready."""
    each = Roster(replicas, at_once)
    for number in range(replicas):
        each.set_ready(number)
    return each


def hand_out(each: Roster, problems: Sequence[ProblemKey]) -> list[int | None]:
    """Where the problems go, in turn; None for one that has to wait."""
    places = []
    for problem in problems:
        place = each.replica_for(problem)
        if place is not None:
            each.begin(problem, place)
        places.append(place)
    return places


def test_a_problem_goes_to_the_replica_with_the_fewest() -> None:
    """And waits where all are full, or none is loaded."""
    each = roster(2, at_once=1)
    assert hand_out(each, [A, B, C]) == [0, 1, None]
    each.end(B, 1)
    assert each.replica_for(C) == 1
    assert Roster(2, 1).replica_for(A) is None


def test_two_deaths_at_one_place_book_the_problem_that_was_alone() -> None:
    """The count is of one problem, not of the replica's others."""
    each = roster(1)
    for _ in range(DEATHS):
        assert not each.is_guilty(A)
        hand_out(each, [A])
        each.bury(0, lambda _: 3)
        assert hand_out(each, [B]) == [None], "a replica that is not loaded has been given a problem"
        each.set_ready(0)
    assert each.is_guilty(A)
    assert not each.is_guilty(B)


def test_a_problem_that_comes_further_is_not_booked() -> None:
    """However often replicas are ended from outside: its journal grows, so it ends some time."""
    each = roster(1)
    for progress in range(5):
        hand_out(each, [A])
        each.bury(0, lambda _, now=progress: now)  # type: ignore[misc]
        each.set_ready(0)
        assert not each.is_guilty(A)


def test_problems_of_a_shared_death_run_alone_and_uncharged() -> None:
    """Two kills from outside, each with all problems in flight, charge none; the guilty one is found alone."""
    each = roster(1)
    hand_out(each, [A, B])
    each.bury(0, lambda _: 0)
    each.set_ready(0)
    assert hand_out(each, [C, A, B]) == [None, 0, None], "a suspect is not alone"
    each.end(A, 0)
    for _ in range(DEATHS):
        assert not each.is_guilty(B)
        assert hand_out(each, [C, B]) == [None, 0]
        each.bury(0, lambda _: 0)
        each.set_ready(0)
    assert [each.is_guilty(problem) for problem in (A, B, C)] == [False, True, False]
    each.end(B, 0)
    assert hand_out(each, [C]) == [0]


def test_other_replicas_go_on_and_take_suspects_when_they_are_idle() -> None:
    """A death stops one replica alone, and its suspects are spread where nothing else is left."""
    each = roster(2)
    hand_out(each, [A, B, C])  # 0, 1, 0
    each.bury(0, lambda _: 0)
    assert hand_out(each, [ProblemKey(0, 9), A]) == [1, None]
    each.end(B, 1)
    each.end(ProblemKey(0, 9), 1)
    assert hand_out(each, [A, ProblemKey(0, 9), C]) == [1, None, None]
    each.set_ready(0)
    assert hand_out(each, [C]) == [0]


def test_another_replica_takes_the_suspects_of_a_lost_one() -> None:
    """Until none is left."""
    each = roster(2)
    hand_out(each, [A, B, C])
    each.end(B, 1)
    each.bury(0, lambda _: 0)
    each.lose(0)
    assert not each.all_lost
    assert hand_out(each, [A, B, C]) == [1, None, None]
    each.end(A, 1)
    assert hand_out(each, [B, C]) == [None, 1]
    each.end(C, 1)
    assert hand_out(each, [B]) == [1]
    each.bury(1, lambda _: 0)
    each.lose(1)
    assert each.all_lost
