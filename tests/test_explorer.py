"""What the explorer does for every search: keys, filters, and what runs at the same time."""

from __future__ import annotations

import asyncio

import pytest
from scripted_steps import TREE, Steps, places, scripted
from synthetic import CheckedTask, TreeBackend, solve, task

from treeagent import (
    Checker,
    Event,
    Explorer,
    Reply,
    Request,
    Thought,
)
from treeagent.strategies.bfs import BFS

# Filters before the judge


def test_unparsed_illegal_and_duplicate_steps_never_reach_a_judge() -> None:
    """They are dropped and counted as they are read; only what is left is paid for."""
    events: list[Event] = []
    backend = TreeBackend(TREE, answer=scripted(r="ra\nWHAT?\nra\nx\nrc end\nra\n"))
    result = solve(backend, BFS(b=1), on_event=events.append)
    assert (result.counts.unparsed, result.counts.duplicates, result.counts.illegal) == (2, 2, 0)
    assert sorted(backend.prompts("value")[:2]) == ["value of ra\n", "value of rc\n"]
    assert len(backend.prompts("value")) == result.counts.judged == len(result.tree) - 1
    dropped = [(event.data["text"], event.data["why"]) for event in events if event.type == "dropped"]
    assert dropped == [("WHAT?", "unparsed"), ("ra", "duplicate"), ("x", "unparsed"), ("ra", "duplicate")]


def test_the_lowest_path_keeps_a_state_that_two_parents_reach() -> None:
    """Of equal states in one level the one on the lowest path stays, whichever reply came first."""
    anywhere = {"name.startswith(parent)": "true"}
    for order in range(6):
        backend = TreeBackend(TREE, order=order, answer=scripted(ra="rcc end\nraa end", rb="rcc end\nrba end"))
        backend._nodes["rcc"] = 9
        result = solve(backend, BFS(b=5), task=task(**anywhere))
        [kept] = [thought for thought in result.tree if thought.state == "rcc"]
        assert (kept.path, result.counts.duplicates) == ((0, 0), 1)
        assert backend.prompts("value").count("value of rcc\n") == 1


def test_a_step_back_to_the_root_is_a_duplicate() -> None:
    """The input itself is a state of the tree."""
    backend = TreeBackend(TREE, answer=scripted(r="rc end\nrr"))
    loop = task(**{'state: "{{ name }}"': "state: \"{{ 'r' if name == 'rr' else name }}\""})
    assert solve(backend, BFS(), task=loop).counts.duplicates == 1


def test_keys_are_equal_states_by_the_checker() -> None:
    """A checker decides what is the same state; the tree keeps the text that came first."""

    class Lengths(Checker):
        def key(self, state: str) -> str:
            return str(len(state))

    merged = CheckedTask(Lengths())
    result = solve(TreeBackend(TREE), BFS(), task=merged)
    assert [thought.state for thought in result.tree][:2] == ["r", "ra"]
    assert result.counts.duplicates == 2 + 1


def test_illegal_thoughts_are_dropped_unless_legality_is_off() -> None:
    """``legality=False`` keeps what the task calls illegal, judges it, and still counts it."""
    backend = TreeBackend(TREE, answer=scripted(r="rc end\nrxx end"))
    backend._nodes["rxx"] = 9
    never = task(**{"name.startswith(parent)": "name != 'rxx'"})
    strict = solve(backend, BFS(), task=never)
    loose = solve(backend, BFS(), task=never, legality=False)
    assert (strict.counts.illegal, strict.answer) == (1, "rc")
    assert (loose.counts.illegal, loose.answer) == (1, "rxx")


# Keys


def test_paths_count_siblings_as_generated() -> None:
    """A dropped step keeps its number, so filtering cannot move the keys of those after it."""
    backend = TreeBackend(TREE, answer=scripted(r="WHAT?\nra\nra\nrb"))
    solve(backend, BFS(b=9))
    assert sorted(places(backend, "propose")) == [("1", 0), ("3", 0), ("3.1", 0), ("root", 0)]


def test_evaluations_are_keyed_by_the_state() -> None:
    """The place of a judge's request is the state's key, so merged states share one judgement."""
    backend = TreeBackend([1, 2])
    solve(backend, BFS())
    assert places(backend, "value") == [("ra", 0), ("rb", 0)]


def test_a_second_expansion_gets_fresh_noise_and_new_paths() -> None:
    """``visit`` counts the expansions of a node; its children go on counting."""

    async def twice(explorer: Explorer) -> None:
        await explorer.expand([explorer.root], role="sample", n=1)
        await explorer.expand([explorer.root, explorer.root], role="sample", n=2)

    backend = TreeBackend([[1], [2], [3]])
    result = solve(backend, Steps(twice))
    assert places(backend, "sample") == [("root", 0), ("root", 1), ("root", 2)]
    assert len({request.id for request in backend.requests}) == 3
    assert [thought.path for thought in result.tree] == [(), (0,), (2,)]
    assert result.counts.duplicates == 3


def test_a_number_of_completions_may_be_given_for_each_thought() -> None:
    """Each thought has its own ``n``, in the order of the thoughts and not of their paths; one too few is refused."""

    async def steps(explorer: Explorer) -> None:
        [[first, second, _]] = await explorer.expand([explorer.root])
        await explorer.grow([second, first], role="sample", n=[3, 1])
        with pytest.raises(ValueError, match="zip"):
            await explorer.grow([second, first], role="sample", n=[3])

    backend = TreeBackend(TREE)
    solve(backend, Steps(steps))
    asked = [request for request in backend.requests if isinstance(request, Request) and request.key.role == "sample"]
    assert [(request.key.place, request.n) for request in asked] == [("1", 3), ("0", 1)]


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_no_more_children_are_read_than_asked_for(order: int | None) -> None:
    """``most`` new thoughts a parent, dropped pieces not counted; what is left in the reply is not even read."""

    async def steps(explorer: Explorer) -> None:
        [children] = await explorer.grow([explorer.root], most=2)
        grown = await explorer.grow(children[::-1], most=[2, 1])
        assert [[thought.state for thought in each] for each in grown] == [["rba", "rbb"], ["raa"]]

    backend = TreeBackend(TREE, order=order, answer=scripted(r="WHAT?\nra\nra\nrb\nWHAT?\nrc end"))
    result = solve(backend, Steps(steps))
    assert [thought.state for thought in result.tree] == ["r", "ra", "rb", "raa", "rba", "rbb"]
    assert (result.counts.unparsed, result.counts.duplicates, result.counts.judged) == (1, 1, 5)


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_branches_can_be_kept_apart(order: int | None) -> None:
    """With ``apart`` a state is a duplicate in its own branch only; a later expansion without it knows them all."""
    anywhere = {"name.startswith(parent)": "true"}
    anywhere['state: "{{ name }}"'] = "state: \"{{ 'r' if name == 'rr' else name }}\""
    lists = {"ra": "rx\nrx\nra\nrb\nrr", "rb": "rx\nrb", "rx": "rx\nry end\nra", "ry": ""}

    async def steps(explorer: Explorer) -> None:
        [[first, second, _]] = await explorer.grow([explorer.root])
        grown = await explorer.grow([first, second], apart=True)
        assert [[thought.state for thought in each] for each in grown] == [["rx", "rb"], ["rx"]]
        [below] = await explorer.grow(grown[1], apart=True)
        assert [thought.state for thought in below] == ["ry", "ra"]
        assert await explorer.grow(grown[0][:1]) == [[]]

    backend = TreeBackend(TREE, order=order, answer=scripted(**lists))
    backend._nodes |= {"rx": 7, "ry": 8}
    result = solve(backend, Steps(steps), task=task(**anywhere))
    assert result.counts.duplicates == 3 + 1 + 1 + 3


def test_an_answer_is_asked_for_once_even_with_an_old_record() -> None:
    """A search may keep records from before an answer was written; the tree knows better."""

    async def steps(explorer: Explorer) -> Thought | None:
        [children] = await explorer.grow([explorer.root])
        await explorer.finish(children)
        return await explorer.finish(children)

    backend = TreeBackend([1, 2])
    assert solve(backend, Steps(steps)).answer == "ra"
    assert len(backend.prompts("answer")) == 2


def test_a_run_is_a_function_of_its_seed() -> None:
    """Another seed gives every request another key; the same seed the same."""

    def ids(seed: int) -> list[str]:
        backend = TreeBackend(TREE)
        solve(backend, BFS(), seed=seed)
        return [request.id for request in backend.requests]

    assert ids(1) == ids(1)
    assert not set(ids(1)) & set(ids(2))


# Concurrency


def test_what_a_search_awaits_together_is_in_flight_together() -> None:
    """All expansions of a level are asked at once, and a child is judged while a later parent still has no reply."""
    backend, waiting, peak = TreeBackend(TREE), [], []

    async def held(request: Request) -> Reply:
        waiting.append(request.prompt)
        peak.append(len(waiting))
        for _ in range(15 if "of rb" in request.prompt else 3):
            await asyncio.sleep(0)
        if request.prompt == "children of rb\n":
            assert "value of raa\n" in [each.prompt for each in backend.requests]
        waiting.remove(request.prompt)
        return await TreeBackend.generate(backend, request)

    backend.generate = held  # type: ignore[method-assign]
    solve(backend, BFS(b=9))
    assert max(peak) >= 3
